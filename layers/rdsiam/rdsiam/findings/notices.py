"""Kinds of findings of what RDS reported about a database: they stay for two weeks, or until they are accepted."""

from rdsiam.findings.commands import command, modify
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import FIXED, Case, Kind
from rdsiam.findings.references import IAM_AUTHENTICATION, RDS
from rdsiam.findings.remediation import accept, cloudformation, next_size

_EVENTS = RDS + "USER_Events.Messages.html"
_SECRETS = RDS + "rds-secrets-manager.html"
_EVENT = {"event": "the event of RDS", "at": "when rdsiam got it"}
_MASTERS_SECRET = _EVENT | {"managed": "RDS manages the master's password in a secret"}

#: Event of RDS → the kind of finding that it becomes.
KIND_OF_EVENT = {
    "RDS-EVENT-0016": "master-password-reset",
    "RDS-EVENT-0327": "secret-not-found",
    "RDS-EVENT-0403": "memory-critically-low",
    "RDS-EVENT-0404": "memory-critically-low",
}


def _reset(case: Case) -> list[Remediation]:
    """Accept it, or set a password that nobody knows."""
    note = "If nobody intended it. CloudTrail names the caller: ModifyDBInstance, ModifyDBCluster, RotateSecret."
    option = "--rotate-master-user-password" if case.evidence["managed"] else "--manage-master-user-password"
    return [
        accept(case, "master-password-reset", "the password was reset on purpose"),
        modify(case.on, option, way=2, note=note),
        accept(case, "master-password-reset", "RDS has set another password since", 2),
    ]


def _secret(case: Case) -> list[Remediation]:
    """Show the message, which names the secret; accept the event once the secret is there again."""
    noun = "db-cluster" if case.on.kind == "cluster" else "db-instance"
    words = ("aws", "rds", "describe-events", "--source-type", noun, "--source-identifier", case.on.identifier)
    note = (
        "The message names the secret. Restore it with `aws secretsmanager restore-secret`, or let RDS make another "
        "one: switch its management of the master's password off and on again."
    )
    return [
        command(*words, "--duration", "20160", note=note),
        accept(case, "secret-not-found", "RDS has the secret again"),
    ]


def _memory(case: Case) -> list[Remediation]:
    accepted = accept(case, "memory-critically-low", "the database has more memory, or less work")
    bigger = next_size(case.evidence["class"] or "")
    if bigger is None:
        return [accepted]
    note = "The database is unavailable for some minutes. Or give it less work at once: fewer connections and queries."
    return [
        modify(case.on, "--db-instance-class", bigger, note=note),
        accepted,
        cloudformation(case.on, f"DBInstanceClass: {bigger}", way=2),
    ]


NOTICE_KINDS = (
    Kind(
        id="master-password-reset",
        title="The master's password of {database} was reset",
        severity="medium",
        severity_rule="Low if RDS manages the password, which RDS itself changes every seven days.",
        risk="Whoever may modify the database can log in as its master, who may do everything in it, and no record of "
        "rdsiam shows that.",
        why="ModifyDBInstance or ModifyDBCluster has set a password, or the secret that RDS manages was rotated.",
        evidence=_MASTERS_SECRET,
        remedy=_reset,
        references=(_EVENTS, _SECRETS),
        source="rds",
    ),
    Kind(
        id="secret-not-found",
        title="RDS can't find a secret of {database}",
        severity="medium",
        severity_rule=FIXED,
        risk="RDS no longer changes the master's password, and rdsiam can't use it where only the master may act: a "
        "first onboarding, objects of the master.",
        why="The secret was deleted, or RDS may no longer use it or its key.",
        evidence=_MASTERS_SECRET,
        remedy=_secret,
        references=(_EVENTS, _SECRETS),
        source="rds",
    ),
    Kind(
        id="memory-critically-low",
        title="{database} ran out of memory, and RDS has cut its cache",
        severity="medium",
        severity_rule=FIXED,
        risk="Logins fail now and then, queries become slow, and the server may restart.",
        why="The work needs more memory than the instance has. IAM authentication takes 300 to 1,000 MiB of it.",
        evidence=_EVENT | {"class": "the instance's class; null for a cluster"},
        remedy=_memory,
        references=(_EVENTS, IAM_AUTHENTICATION),
        source="rds",
    ),
)
