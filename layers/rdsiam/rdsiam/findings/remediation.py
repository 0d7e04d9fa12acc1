"""Steps of remediations: SQL from the engines, commands quoted for a shell, entries of access.yaml."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rdsiam.access.lines import lines_for
from rdsiam.aws.rds import Database
from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.engines.remediation import RemediationSql
from rdsiam.errors import Refused
from rdsiam.findings import runners
from rdsiam.findings.commands import rdsiam, step
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import Case
from rdsiam.findings.runners import Runner

AS_GRANTOR = (
    "From PostgreSQL 16 on, the role that granted a membership has to revoke it; what rdsadmin granted, the master "
    "revokes."
)
#: Sizes of instance classes, smallest first.
_SIZES = ("micro", "small", "medium", "large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge")


def sql(
    database: Database,
    statements: Callable[[RemediationSql], Iterable[str]],
    way: int = 1,
    note: str = "",
    runner: Runner | None = None,
) -> list[Remediation]:
    """Return statements as steps; none if a name can't be quoted safely.

    :param runner: by default the master.
    """
    try:
        texts = list(statements(REMEDIATIONS[database.family]))
    except Refused:
        return []
    by = runner or runners.master(database)
    return [step("sql", text, by, way=way, note=note if number == 0 else "") for number, text in enumerate(texts)]


def onboard(database: Database, way: int = 1, note: str = "") -> Remediation:
    """Return the command that makes a database match access.yaml."""
    return rdsiam("onboard", database, way=way, note=note)


def cloudformation(database: Database, properties: str, way: int, note: str = "") -> Remediation:
    """Return properties of the instance or cluster in a template."""
    kind = "AWS::RDS::DBCluster" if database.kind == "cluster" else "AWS::RDS::DBInstance"
    return template(kind, properties, way, note)


def template(kind: str, properties: str, way: int = 1, note: str = "") -> Remediation:
    """Return properties of a resource in a template."""
    text = f"Type: {kind}\nProperties:\n  {properties}"
    return step("cloudformation", text, runners.STACK_OWNER, way=way, note=note)


def access(text: str, way: int = 1, note: str = "") -> Remediation:
    """Return lines for access.yaml, or comments that say which to change."""
    return step("access", text, runners.PUBLISHER, way=way, note=note)


def entry(database: Database, item: Mapping[str, Any], way: int = 1, note: str = "") -> list[Remediation]:
    """Return an item of `databases` in access.yaml for one database; none if a name in it can't be declared.

    :param item: as in `lines_for`.
    """
    text = lines_for(database, item)
    return [] if text is None else [access(text, way, note)]


def accept(case: Case, kind: str, reason: str, way: int = 1, user: str | None = None) -> list[Remediation]:
    """Return an item of `databases` in access.yaml that accepts a finding, only of one user if a user is given."""
    return entry(case.on, suppression(case, kind, reason, user), way)


def suppression(case: Case, kind: str, reason: str, *users: str | None) -> dict[str, Any]:
    """Return the item that accepts a finding of these users; None stands for all."""
    until = {"reason": reason, "until": case.accepted_until}
    return {
        "suppress": [{"finding": kind, **({} if user is None else {"user": user}), **until} for user in users],
    }


def next_size(instance_class: str) -> str | None:
    """Return the instance class of the same family with the next size; None if there is none."""
    family, _, size = instance_class.rpartition(".")
    if size not in _SIZES[:-1]:
        return None
    return f"{family}.{_SIZES[_SIZES.index(size) + 1]}"
