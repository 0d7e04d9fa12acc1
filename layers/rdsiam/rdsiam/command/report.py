"""`rdsiam report`: shows, opens or prints the report of a finished audit.

Auditors of access.yaml read it through the API, without any right on the bucket; others need S3's own permission.
"""

import json
import os
import re
import tempfile
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from rdsiam.command import options
from rdsiam.command.api import Api
from rdsiam.command.aws import translate_errors
from rdsiam.command.errors import CommandError, Denied, ExecutionFailed, NotFound, Usage
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output, progress
from rdsiam.core.similar import did_you_mean

#: Format → name of the object in the report bucket.
OBJECTS: Mapping[str, str] = {
    "html": "report.html",
    "json": "report.json",
    "csv": "report.csv",
    "asff": "report.asff.json",
    "ocsf": "report.ocsf.jsonl",
}
_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}", re.ASCII)
_ENTRY = re.compile(rf"audits/index/{_ID.pattern}\.(all|some)\.json", re.ASCII)
#: Audits whose ids are compared with a wrong one.
_SUGGESTED = 100
_SEVERITIES = ("critical", "high", "medium", "low")


@dataclass(frozen=True)
class _Report:
    """The report of an audit.

    :ivar summary: of the audit, as the API lists it.
    :ivar fetch: returns its content in a format.
    """

    id: str
    summary: Mapping[str, Any]
    fetch: Callable[[str], bytes]


@click.command(
    epilog="""\b
Examples:
  rdsiam report
  rdsiam report --open
  rdsiam report 20261127T081326Z-d411b22c --format csv > findings.csv"""
)
@click.argument("audit", metavar="[ID]", required=False)
@click.option("--open", "opens", is_flag=True, help="Open the report in a browser.")
@click.option("--format", "form", type=click.Choice(list(OBJECTS)), help="Print the report in this format.")
@options.installation("api_url", "report_bucket")
def report(audit: str | None, opens: bool, form: str | None, installation: Installation) -> None:
    """Show the newest finished audit, or that of ID: as a summary, in a browser, or in a format for programs.

    For auditors of access.yaml, and for whoever may read the report bucket.
    """
    if opens and form:
        raise click.UsageError("--open and --format don't go together")
    if audit is not None and not _ID.fullmatch(audit):
        raise Usage(f"{audit}: not the id of an audit", "rdsiam audit prints it, such as 20261127T081326Z-d411b22c")
    found = _find(installation, audit)
    if form:
        click.echo(found.fetch(form), nl=False)
    elif opens:
        _open(found)
    else:
        _summarize(found)


def _find(installation: Installation, audit: str | None) -> _Report:
    try:
        return _of_api(installation, audit)
    except Denied as denied:
        try:
            return _of_bucket(installation, audit)
        except Denied:
            raise Denied(
                "your credentials may not read reports: access.yaml lists you in no `auditors`, and S3 denies it",
                "ask a publisher of access.yaml for an entry in `auditors`, or assume a role that has one",
            ) from denied


def _of_api(installation: Installation, audit: str | None) -> _Report:
    api = installation.api
    if audit is None:
        newest = api.audits(1)
        if not newest:
            raise NotFound("no audit has finished yet", "start one: rdsiam audit")
        audit = str(newest[0].get("id"))
        if not _ID.fullmatch(audit):  # it becomes part of a file's name
            raise ExecutionFailed(
                f"the API's answer has no id of an audit: {audit}", "see with rdsiam config which API it is"
            )
    try:
        answer = api.audit(audit)
    except NotFound as error:
        raise NotFound(error.problem, did_you_mean(audit, _ids(api)) or error.remedy) from None
    return _Report(str(answer.get("id")), answer, lambda form: api.fetch(str(answer["links"].get(form))))


def _ids(api: Api) -> list[str]:
    """Return the ids of the newest audits, for a suggestion."""
    with suppress(CommandError):
        return [str(audit.get("id")) for audit in api.audits(_SUGGESTED) if _ID.fullmatch(str(audit.get("id")))]
    return []


def _of_bucket(installation: Installation, audit: str | None) -> _Report:
    bucket = installation.settings.get("report_bucket").value
    s3 = installation.aws.client("s3")
    with translate_errors(f"s3://{bucket}"):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"audits/index/{audit or ''}")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", []) if _ENTRY.fullmatch(entry["Key"])]
    if not keys:
        raise NotFound(
            f"no finished audit has the id {audit}" if audit else "no audit has finished yet",
            "rdsiam report shows the newest" if audit else "start one: rdsiam audit",
        )
    key = max(keys)
    found = key.rpartition("/")[2].partition(".")[0]

    def read(name: str) -> bytes:
        with translate_errors(f"s3://{bucket}/{name}"):
            return bytes(s3.get_object(Bucket=bucket, Key=name)["Body"].read())

    return _Report(found, json.loads(read(key)), lambda form: read(f"audits/{found}/{OBJECTS[form]}"))


def _open(found: _Report) -> None:
    """Store the page for this user alone, and open it: an address that the API gave would stay in the browser."""
    descriptor, path = tempfile.mkstemp(prefix=f"rdsiam-report-{found.id}-", suffix=".html")
    with os.fdopen(descriptor, "wb") as file:
        file.write(found.fetch("html"))
    progress(f"the report of {found.id} is in {path}")
    if not webbrowser.open(Path(path).as_uri()):
        raise NotFound("there is no browser", f"open {path}")


def _summarize(found: _Report) -> None:
    summary = found.summary.get("summary")
    if not isinstance(summary, Mapping):
        raise ExecutionFailed(
            f"the answer about {found.id} has no summary", "see with rdsiam config where it comes from"
        )
    findings = summary.get("findings") or {}
    rows = [
        ("audit", found.id),
        ("of", "named databases" if found.summary.get("scope") == "some" else "the fleet"),
        ("finished", found.summary.get("finished")),
        ("databases", f"{summary.get('audited')} of {summary.get('databases')} were read"),
        *((severity, findings.get(severity)) for severity in _SEVERITIES),
    ]
    Output("table").show(rows, ("part", "content"))
    progress(f"rdsiam report {found.id} --open shows the findings; --format {'|'.join(OBJECTS)} prints them")
