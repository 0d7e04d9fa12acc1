"""Commands that remediate a finding, quoted for a shell; needs nothing but the standard library."""

from typing import Literal

from rdsiam.aws.rds import Database
from rdsiam.aws.rds_commands import modify_command
from rdsiam.core import shell
from rdsiam.findings import runners
from rdsiam.findings.finding import Remediation
from rdsiam.findings.runners import Runner


def step(
    language: Literal["sql", "cli", "cloudformation", "access"],
    text: str,
    runner: Runner,
    *,
    way: int = 1,
    note: str = "",
    database: str | None = None,
) -> Remediation:
    """Return a step and its runner.

    :param database: as in `Remediation.database`.
    """
    return Remediation(language, text, database, way, note, runner.user, runner.client)


def aws(database: Database | None, *words: str, way: int = 1, note: str = "") -> Remediation:
    """Return a command of the AWS CLI, with every word quoted, in the database's region.

    :param words: the service, the operation and its options.
    """
    region = () if database is None else ("--region", database.region)
    service, operation = words[:2]
    if operation == "wait":
        operation = f"describe-{words[2].removesuffix('-available')}s"
    return step("cli", shell.join(["aws", *words, *region]), runners.aws(service, operation), way=way, note=note)


def rdsiam(
    command: str, database: Database, *options: str, user: str | None = None, way: int = 1, note: str = ""
) -> Remediation:
    """Return a command of rdsiam about a database, or a user of it.

    :param command: such as `rotate now`.
    """
    arguments = [database.arn, *([] if user is None else [user])]
    words = [*arguments, *options]
    if user is not None and user.startswith("-"):
        words = [*options, "--", *arguments]
    return step("cli", shell.join(["rdsiam", *command.split(), *words]), runners.OPERATOR, way=way, note=note)


def noun(database: Database) -> str:
    """Return RDS's word for an instance or cluster; for a cluster's member, whose settings are its cluster's, too."""
    return "cluster" if database.cluster else "instance"


def modify(database: Database, *words: str, way: int = 1, note: str = "") -> Remediation:
    """Return the command that modifies an instance or cluster immediately; of a cluster's member, its cluster."""
    pending = ", ".join(name for name in database.pending if name != "IAMDatabaseAuthenticationEnabled")
    warning = f"This also applies the pending changes ({pending}), which may restart the database. " if pending else ""
    return _modify(database, *words, "--apply-immediately", way=way, note=(warning + note).strip())


def modify_in_window(database: Database, *words: str, outage: str) -> list[Remediation]:
    """Return the command for a change that interrupts clients: in the maintenance window, or immediately.

    :param outage: the interruption, as a sentence.
    """
    later = f"{outage} This happens in the next maintenance window; until then the finding stays."
    return [_modify(database, *words, note=later), modify(database, *words, way=2, note=f"{outage} This happens now.")]


def _modify(database: Database, *words: str, way: int = 1, note: str = "") -> Remediation:
    runner = runners.aws("rds", f"modify-db-{noun(database)}")
    return step("cli", modify_command(database, *words), runner, way=way, note=note)
