"""`rdsiam audit`: audits the fleet, shows what was found, and tells scripts by its exit code."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import click

from rdsiam.command.aws import Aws, database_arn, told
from rdsiam.command.errors import Denied, ExecutionFailed, NotFound, TryAgain
from rdsiam.command.executions import run
from rdsiam.command.output import Format, progress, show
from rdsiam.command.settings import Settings
from rdsiam.findings.finding import SEVERITIES

FINDINGS, INCOMPLETE = 3, 7


@click.command(
    epilog="""\b
Examples:
  rdsiam audit
  rdsiam audit --database orders --database billing --output json
  rdsiam audit --fail-on high            # in a pipeline: 3 on high or critical findings, 7 when incomplete
  rdsiam audit --remediate 3f2a… --plan  # what would mend it, with the SQL"""
)
@click.option("--database", "databases", multiple=True, metavar="NAME", help="Audit only this one; may be repeated.")
@click.option(
    "--fail-on",
    type=click.Choice([*reversed(SEVERITIES), "none"]),
    default="low",
    show_default=True,
    help="Exit with 3 if there is a finding of this severity or worse.",
)
@click.option("--remediate", "finding_ids", multiple=True, metavar="ID", help="Mend this finding; may be repeated.")
@click.option("--plan", is_flag=True, help="With --remediate: only say what would be changed.")
@click.option("--confirm", is_flag=True, help="With --remediate: exceed the change limit.")
@click.option("--output", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.option("--audit-function", metavar="NAME", help="AuditFunction with its alias. Default: the stack's output.")
@click.option("--stack", metavar="NAME", help="Name of the CloudFormation stack. Default: rdsiam.")
@click.option("--profile", help="Profile of the AWS configuration.")
@click.option("--region", help="AWS region. Default: the profile's.")
def audit(
    databases: tuple[str, ...],
    fail_on: str,
    finding_ids: tuple[str, ...],
    plan: bool,
    confirm: bool,
    form: Format,
    quiet: bool,
    audit_function: str | None,
    stack: str | None,
    profile: str | None,
    region: str | None,
) -> None:
    """Find every database user that still has a password, and what else is wrong.

    Exit codes: 0 nothing found, 3 findings (see --fail-on), 7 some databases could not be read.
    """
    if (plan or confirm) and not finding_ids:
        raise click.UsageError("--plan and --confirm go with --remediate")
    if finding_ids and databases:
        raise click.UsageError("--remediate and --database don't go together: a finding names its database")
    aws = Aws(profile, region)
    settings = Settings({"audit_function": audit_function, "stack": stack}, aws.outputs)
    function = settings.get("audit_function", "AuditFunctionAlias").value
    tell = (lambda _: None) if quiet else progress
    payload: dict[str, Any] = {}
    if databases:
        payload = {"databases": sorted({database_arn(aws, name) for name in databases})}
    if finding_ids:
        payload = {"remediate": sorted(set(finding_ids)), "plan": plan, "confirm": confirm}
        sys.exit(_mended(run(aws.client("lambda"), function, payload, "remediate", tell), form))
    answer = run(aws.client("lambda"), function, payload, "audit", tell)
    findings = _findings(aws, answer, tell)
    if form == "json":
        click.echo(json.dumps(answer | {"findings_list": findings}, indent=2, ensure_ascii=True))
    else:
        _show(findings or [], form)
    _summary(answer, tell)
    sys.exit(_exit_code(answer, fail_on))


def _findings(aws: Aws, answer: Mapping[str, Any], tell: Any) -> list[dict[str, Any]] | None:
    """Return what the report lists; None where this caller may not read it."""
    place = urlsplit(answer["reports"]["json"])
    try:
        with told(answer["reports"]["json"]):
            body = aws.client("s3").get_object(Bucket=place.netloc, Key=place.path.lstrip("/"))["Body"].read()
    except (Denied, NotFound, TryAgain, ExecutionFailed) as error:
        tell(f"the findings themselves can't be shown: {error}")
        return None
    found: list[dict[str, Any]] = json.loads(body)["findings"]
    return found


def _show(findings: Sequence[Mapping[str, Any]], form: Format) -> None:
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
        for finding in findings
    ]
    if rows or form == "csv":
        show(rows, ("severity", "kind", "database", "user", "note", "id", "title"), form)


def _summary(answer: Mapping[str, Any], tell: Any) -> None:
    counts = ", ".join(f"{answer['findings'][severity]} {severity}" for severity in SEVERITIES)
    tell(f"audit {answer['id']}: {answer['audited']} of {answer['databases']} databases were read; {counts}")
    if answer["unreachable"]:
        tell(f"{answer['unreachable']} databases are unknown: the report says why")
    tell(f"report: {answer['reports']['html']}")


def _exit_code(answer: Mapping[str, Any], fail_on: str) -> int:
    """Incomplete comes first: what could not be read is never in order, and no list of findings is whole."""
    if answer["unreachable"]:
        return INCOMPLETE
    worst = () if fail_on == "none" else SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return FINDINGS if any(answer["findings"][severity] for severity in worst) else 0


def _mended(answer: Mapping[str, Any], form: Format) -> int:
    """Show what became of each finding; 3 where one is left."""
    done = answer["remediated"]
    if form == "json":
        click.echo(json.dumps(answer, indent=2))
    else:
        rows = [
            (one["finding"], one["status"], change["kind"], change["target"], change["statement"])
            for one in done
            for change in one["changes"] or [{"kind": "", "target": "", "statement": one["reason"]}]
        ]
        show(rows, ("finding", "status", "change", "target", "statement"), form)
    return (
        FINDINGS
        if any(one["status"] in {"refused", "ignored", "unknown", "failed", "incomplete"} for one in done)
        else 0
    )
