"""Kinds of findings of what RDS reported about a database: they stay for two weeks, or until they are accepted."""

from dataclasses import replace

from rdsiam.findings.commands import aws, modify, modify_in_window, noun
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
    note = (
        "If nobody intended it. CloudTrail names the caller: ModifyDBInstance, ModifyDBCluster, RotateSecret. Programs "
        "that know the present password need the new one."
    )
    option = "--rotate-master-user-password" if case.evidence["managed"] else "--manage-master-user-password"
    return [
        *accept(case, "master-password-reset", "the password was reset on purpose"),
        modify(case.on, option, way=2, note=note),
        *accept(case, "master-password-reset", "RDS has set another password since", 2),
    ]


def _secret(case: Case) -> list[Remediation]:
    """Show the message, which names the secret; accept the event once the secret is there again."""
    words = ("rds", "describe-events", "--source-type", f"db-{noun(case.on)}", "--source-identifier")
    note = (
        "The message names the secret. Restore it with `aws secretsmanager restore-secret`, or let RDS make another "
        "one: switch its management of the master's password off and on again."
    )
    return [
        aws(case.on, *words, case.on.identifier, "--duration", "20160", note=note),
        *accept(case, "secret-not-found", "RDS has the secret again"),
    ]


def _memory(case: Case) -> list[Remediation]:
    """Give the database less work, or more memory, which interrupts its clients."""
    reason = "the database has more memory, or less work"
    accepted = accept(case, "memory-critically-low", reason)
    bigger = next_size(case.evidence["class"] or "")
    if bigger is None:
        return accepted
    outage = "The database is unavailable for some minutes."
    first, second = modify_in_window(case.on, "--db-instance-class", bigger, outage=outage)
    return [
        replace(first, note=f"{first.note} Until then give it less work: fewer connections and queries."),
        *accepted,
        second,
        *accept(case, "memory-critically-low", reason, 2),
        cloudformation(case.on, f"DBInstanceClass: {bigger}", way=3),
        *accept(case, "memory-critically-low", reason, 3),
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
