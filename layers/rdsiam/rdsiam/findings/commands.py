"""Commands that remediate a finding, quoted for a shell."""

import shlex

from rdsiam.aws.rds import Database
from rdsiam.findings.finding import Remediation


def command(*words: str, way: int = 1, note: str = "") -> Remediation:
    """Return a command for a shell, with every word quoted."""
    return Remediation("cli", shlex.join(words), way=way, note=note)


def modify(database: Database, *words: str, way: int = 1, note: str = "") -> Remediation:
    """Return the command that modifies an instance or cluster immediately; of a cluster's member, its cluster."""
    noun = "cluster" if database.cluster else "instance"
    pending = ", ".join(name for name in database.pending if name != "IAMDatabaseAuthenticationEnabled")
    warning = f"This also applies the pending changes ({pending}), which may restart the database. " if pending else ""
    start = ("aws", "rds", f"modify-db-{noun}", f"--db-{noun}-identifier", database.cluster or database.identifier)
    return command(*start, *words, "--apply-immediately", way=way, note=(warning + note).strip())
