"""`rdsiam audit`: audits the fleet, shows the findings, and sets an exit code for scripts."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import click

from rdsiam.command import options
from rdsiam.command.answers import show_reason
from rdsiam.command.aws import database_arn, translate_errors
from rdsiam.command.errors import CommandError, ExitCode
from rdsiam.command.installation import Installation
from rdsiam.command.long_lists import remarks
from rdsiam.command.next_steps import next_steps
from rdsiam.command.output import Output
from rdsiam.core.counts import agreed, counted, number
from rdsiam.findings.differences import TEXTS
from rdsiam.findings.finding import SEVERITIES

#: Number of onboardings that are shown.
_SHOWN = 10
#: Statuses of findings that remain; `planned` is what --plan would change.
_NOT_FIXED = {"refused", "ignored", "unknown", "failed", "incomplete", "planned"}


@dataclass(frozen=True)
class _Criteria:
    """Criteria of the exit code: the least severity of a finding, and whether unreadable databases count."""

    fail_on: str
    incomplete_ok: bool


@click.command(
    epilog="""\b
Examples:
  rdsiam audit
  rdsiam audit --database orders --database billing --output json
  rdsiam audit --fail-on high
      in a pipeline: 3 on high or critical findings, 7 when incomplete
  rdsiam audit --remediate 3f2a… --plan
      what would fix the finding, with the SQL"""
)
@options.databases("Audit only this one; repeatable.")
@click.option(
    "--fail-on",
    type=click.Choice([*reversed(SEVERITIES), "none"]),
    default="low",
    show_default=True,
    help="Exit with 3 if there is a finding of this severity or worse.",
)
@click.option("--incomplete-ok", is_flag=True, help="Don't exit with 7 if databases could not be read.")
@click.option("--remediate", "finding_ids", multiple=True, metavar="ID", help="Fix this finding; repeatable.")
@options.gather("criteria", ["fail_on", "incomplete_ok"], lambda values: _Criteria(**values))
@options.mode("With --remediate: exceed the change limit.")
@options.everything
@options.output(quiet=True)
@options.installation("audit_function")
def audit(
    databases: tuple[str, ...],
    criteria: "_Criteria",
    finding_ids: tuple[str, ...],
    mode: options.Mode,
    everything: bool,
    output: Output,
    installation: Installation,
) -> None:
    """Find every database user that still has a password, and everything else that is wrong.

    Exit codes: 0 nothing found, 3 findings (see --fail-on), or (with --plan) something would change, 7 some databases
    could not be read, whatever was found in the others (see --incomplete-ok).
    """
    if (mode.plan or mode.confirm) and not finding_ids:
        raise click.UsageError("--plan and --confirm go with --remediate")
    if criteria.incomplete_ok and finding_ids:
        raise click.UsageError("--incomplete-ok goes with an audit, not with --remediate")
    if finding_ids and databases:
        raise click.UsageError("--remediate and --database don't go together: a finding names its database")
    if finding_ids:
        request = {"remediate": sorted(set(finding_ids)), "plan": mode.plan, "confirm": mode.confirm}
        remediated = installation.run("audit_function", request, "remediate", output.progress, everything=everything)
        sys.exit(_show_remediated(remediated, output))
    arns = sorted({database_arn(installation.aws, name) for name in databases})
    request = {"databases": arns} if arns else {}
    answer = installation.run("audit_function", request, "audit", output.progress, everything=everything)
    findings = _findings(installation, answer, output)
    _show(answer, findings, output)
    sys.exit(_exit_code(answer, criteria.fail_on, criteria.incomplete_ok))


def _findings(installation: Installation, answer: Mapping[str, Any], output: Output) -> list[dict[str, Any]] | None:
    """Return the report's findings; None if the caller can't read the report."""
    url = answer["reports"]["json"]
    location = urlsplit(url)
    try:
        with translate_errors(url):
            s3 = installation.aws.client("s3")
            body = s3.get_object(Bucket=location.netloc, Key=location.path.lstrip("/"))["Body"].read()
    except CommandError as error:
        output.progress(f"the findings can't be shown: {error}")
        return None
    findings: list[dict[str, Any]] = json.loads(body)["findings"]
    return findings


def _show(answer: Mapping[str, Any], findings: Sequence[Mapping[str, Any]] | None, output: Output) -> None:
    rows = [
        (
            finding["severity"],
            finding["kind"],
            (finding["database"] or "").rpartition(":")[2],
            finding["user"],
            "suppressed" if finding["suppressed"] else "",
            finding["id"],
            finding["title"],
        )
        for finding in findings or []
    ]
    header = ("severity", "kind", "database", "user", "note", "id", "title")
    output.show(rows, header, {**answer, "findings_list": findings}, ("note", "kind"))
    counts = ", ".join(f"{answer['findings'][severity]} {severity}" for severity in SEVERITIES)
    read = f"{number(answer['audited'])} of {counted(answer['databases'], 'database')}"
    output.progress(f"audit {answer['id']}: {read} {agreed(answer['audited'], 'was', 'were')} read; {counts}")
    if answer["unreachable"]:
        unknown = counted(answer["unreachable"], "database is", "databases are")
        output.progress(f"{unknown} unknown: the report says why")
    for line in (*_onboardings(answer), *next_steps(findings or [])):
        output.progress(line)
    output.progress(f"report: {answer['reports']['html']}")


def _onboardings(answer: Mapping[str, Any]) -> list[str]:
    """Return a line for each of the first onboardings that the audit started, and how many more there are."""
    started = answer["onboardings"]
    total = answer.get("onboardings_total", len(started))
    lines = []
    for onboarding in started[:_SHOWN]:
        differences = ", ".join(TEXTS[part] for part in onboarding["differences"])
        lines.append(f"onboarding started: {onboarding['database'].rpartition(':')[2]}: not as it was: {differences}")
    if total > _SHOWN:
        lines.append(f"{total - _SHOWN} more onboardings were started: the report lists them")
    return lines


def _exit_code(answer: Mapping[str, Any], fail_on: str, incomplete_ok: bool = False) -> ExitCode:
    """Return the exit code: incomplete before findings, because an unreadable database is never compliant.

    :param incomplete_ok: findings alone decide, so that a database that is stopped for long does not hide them.
    """
    if answer["unreachable"] and not incomplete_ok:
        return ExitCode.INCOMPLETE
    failing = () if fail_on == "none" else SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return ExitCode.DIFFERENT if any(answer["findings"][severity] for severity in failing) else ExitCode.OK


def _show_remediated(answer: Mapping[str, Any], output: Output) -> ExitCode:
    """Show the result for each finding; 3 if a finding remains."""
    results = answer["remediated"]
    rows = [
        (result["finding"], result["status"], change["kind"], change["target"], change["statement"])
        for result in results
        for change in result["changes"] or [{"kind": "", "target": "", "statement": result["reason"]}]
    ]
    output.show(rows, ("finding", "status", "change", "target", "statement"), answer, ("target", "change"))
    for part in (answer, *results):
        for line in remarks(part):
            output.progress(line)
    # Findings of one database have the same parts.
    parts = {(part["what"], part["reason"], part["remedy"]) for result in results for part in result["incomplete"]}
    for what, reason, remedy in sorted(parts):
        show_reason(f"not done: {what}: {reason}", "", remedy)
    for result in results:
        if result["reason"]:
            reason = f"{result['finding']} is {result['status']}: {result['reason']}"
            show_reason(reason, result["code"], result["remedy"])
    return ExitCode.DIFFERENT if any(result["status"] in _NOT_FIXED for result in results) else ExitCode.OK
