"""Kinds of findings about users that are not as access.yaml declares them."""

import json

from rdsiam.access.groups import NO_GROUPS
from rdsiam.engines.logins import MANAGER
from rdsiam.findings import runners
from rdsiam.findings.accounts import EVIDENCE
from rdsiam.findings.commands import rdsiam
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import BY_EXPOSURE, FIXED, Case, Kind
from rdsiam.findings.logins import retire_or_declare, usage
from rdsiam.findings.references import ACCOUNTS
from rdsiam.findings.remediation import AS_GRANTOR, access, onboard, sql


def _undeclared(case: Case) -> list[Remediation]:
    note = f"{usage(case.accounts)} rdsiam manages this user, which access.yaml no longer declares, and disables it."
    disable = [onboard(case.on, note=note)] if case.managed else []
    return [*disable, *retire_or_declare(case, way=1 + len(disable))]


def _not_removed(case: Case) -> list[Remediation]:
    note = "This tries again now, and names what can't be reached. Resolve that first; the reason names it."
    steps = sql(
        case.on,
        lambda engine: [text for account in case.accounts for text in engine.lock(account)],
        way=2,
        note="Afterwards end the user's sessions, on read replicas too.",
    )
    return [onboard(case.on, note=note), *steps]


def _missing(case: Case) -> list[Remediation]:
    if case.evidence["state"] == "revoked":
        return _agree(case)
    if not case.accounts:
        return [onboard(case.on)]
    return [
        *sql(case.on, lambda engine: [text for account in case.accounts for text in engine.unlock(account)]),
        *([onboard(case.on, way=2)] if case.managed else []),
    ]


def _agree(case: Case) -> list[Remediation]:
    """Return the two ways in which access.yaml and a revocation agree; none of them undoes it by SQL."""
    remove = f"# Remove the user {json.dumps(case.user)} from the entries that match {case.on.identifier}."
    lift = rdsiam(
        "revoke", case.on, "--lift", user=case.user, way=2, note="Only if the reason of the revocation is gone."
    )
    return [access(remove), lift]


def _privileges(case: Case) -> list[Remediation]:
    account = case.accounts[0]
    groups = case.declared.groups if case.declared else NO_GROUPS
    way = 2 if case.managed else 1
    statements = sql(
        case.on,
        lambda engine: [
            *(text for on, privileges in case.lacking for text in engine.grant(account, on, privileges, groups)),
            *(text for on, privileges in case.surplus for text in engine.revoke(account, on, privileges, groups)),
        ],
        way=way,
        note=f"rdsiam_manager created the groups. {AS_GRANTOR}" if case.on.family == "postgres" else "",
        runner=runners.by_token(case.on, MANAGER) if case.on.family == "postgres" else None,
    )
    return [*([onboard(case.on)] if case.managed else []), *statements]


DECLARED_USER_KINDS = (
    Kind(
        id="undeclared-user",
        title="{user} accepts tokens, and access.yaml doesn't declare it",
        severity="medium",
        severity_rule=BY_EXPOSURE,
        risk="Anyone whom IAM lets connect as this user can log in, although nobody decided that.",
        why="Somebody created the user by hand, or it came with a restored copy, or it was removed from access.yaml "
        "and is not disabled yet. A second password or missing TLS is fixed by the same steps and has no finding of "
        "its own.",
        evidence=EVIDENCE | {"second_password": "the account accepts a password as well"},
        remedy=_undeclared,
        references=(ACCOUNTS,),
        source="session",
    ),
    Kind(
        id="login-not-removed",
        title="{user} was removed or revoked, and its login still exists",
        severity="critical",
        severity_rule=FIXED,
        risk="A user that must no longer log in still can, or is still logged in: on the database itself, or on a read "
        "replica of it.",
        why="rdsiam could not complete the removal: the database or a replica does not answer, a session holds a lock "
        "that locking the user needs, or policies could not be changed. rdsiam tries again every hour.",
        evidence={
            "reason": "what prevented the removal last",
            "login": "the user can log in now; null if the database could not be read",
            "revoked": "an operator has revoked the user; otherwise access.yaml no longer declares it",
        },
        remedy=_not_removed,
        references=(ACCOUNTS,),
        source="rds",
    ),
    Kind(
        id="missing-user",
        title="{user} is declared and can't log in",
        severity="medium",
        severity_rule="Low if an operator has revoked the user.",
        risk="An application or a person that should have access has none, and looks for another way.",
        why="The database was not onboarded since the user was declared, or somebody dropped or locked the user. Of a "
        "revoked user, access.yaml still says that it may log in.",
        evidence={
            "state": "`absent`; `locked`: the user exists and nobody can log in as it; `revoked`: an operator has "
            "revoked it",
            "exposure": "always empty",
        },
        remedy=_missing,
        references=(ACCOUNTS,),
        source="session",
    ),
    Kind(
        id="privileges-differ",
        title="{user} has other privileges than access.yaml declares",
        severity="low",
        severity_rule="Medium with privileges beyond the declared ones; then one step more severe with a public "
        "endpoint.",
        risk="The user may do more than was decided, or its application fails.",
        why="Somebody granted or revoked privileges by hand. rdsiam compares privileges on schemas and global ones "
        "on MySQL and MariaDB, and memberships in rdsiam's groups on PostgreSQL. Further privileges of a user that "
        "rdsiam adopted are its owner's decision.",
        evidence={
            "lacking": "declared privileges that the user lacks, each with `on` and `privileges`",
            "surplus": "privileges beyond the declared ones",
            "exposure": "what makes the finding more severe",
        },
        remedy=_privileges,
        references=(ACCOUNTS,),
        source="session",
    ),
)
