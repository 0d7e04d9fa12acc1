"""Kinds of findings about users that can act as an administrator, and about the rights of rdsiam's own."""

import json

from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.findings import runners
from rdsiam.findings.commands import step
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import FIXED, Case, Kind
from rdsiam.findings.references import MEMBERSHIP, POSTGRES, RDS
from rdsiam.findings.remediation import accept, access, onboard, sql

#: Maximum number of databases that a remediation names.
_NAMED = 50


def _end_escalation(case: Case) -> list[Remediation]:
    escalation = case.escalation
    assert escalation is not None
    owner = escalation.owner
    note = f"If users need foreign keys or triggers there, {owner} creates them."
    runner = runners.owner(case.on, owner, escalation.database)
    steps = [
        step("sql", text, runner, database=escalation.database, note=note if number == 0 else "")
        for number, text in enumerate(REMEDIATIONS[case.on.family].end_escalation(escalation))
    ]
    return [*steps, onboard(case.on, note="This examines the database again.")]


def _administer(case: Case) -> list[Remediation]:
    manager = case.accounts[0]
    steps = sql(
        case.on,
        lambda engine: [text for name in case.evidence["roles"] for text in engine.administer(name, manager)],
        way=2,
        note="On RDS the master may do this as a member of rds_superuser.",
    )
    return [onboard(case.on), *steps]


def _examine(case: Case) -> list[Remediation]:
    reason = "owners of tables there grant nobody TRIGGER or REFERENCES"
    names = ", ".join(case.evidence["databases"][:_NAMED])
    note = "Onboarding examines the databases on which access.yaml declares a user."
    declare = access(f"# declare a user on each of: {json.dumps(names)}", note=note)
    return [declare, onboard(case.on), *accept(case, "administrators-unexamined", reason, 2)]


ADMINISTRATOR_KINDS = (
    Kind(
        id="acts-as-administrator",
        title="{user} can act as an administrator of {database}",
        severity="high",
        severity_rule=FIXED,
        risk="Anyone who logs in as one of these users has the rights of the administrator: on every role, every "
        "password, every row.",
        why="The function of a trigger runs as the user that writes to the table. A foreign key is checked by a query "
        "that runs as the owner of the referenced table, and calls the cast of the referring column's type. So "
        "TRIGGER and REFERENCES on a table of an administrator give the administrator's rights; `GRANT ALL ON ALL "
        "TABLES` gives both. If another role owns the function of a trigger, that role decides what the function does. "
        "Onboarding examines `postgres` and each database on which access.yaml declares a user, and takes such "
        "privileges from users and groups that rdsiam manages.",
        evidence={
            "in": "the database",
            "owner": "the administrator that owns the tables",
            "held": "`tables`, `future tables` (default privileges), or `trigger` (the function of a trigger)",
            "privileges": "the privileges that are held; empty for a trigger",
            "objects": "the first tables, or triggers; of future tables the schema, if they are limited to one",
            "count": "number of objects",
            "users": "the first users who can make use of it",
        },
        remedy=_end_escalation,
        references=(POSTGRES + "ddl-priv.html",),
        source="session",
    ),
    Kind(
        id="manager-without-admin",
        title="rdsiam can't change users that it created on {database}",
        severity="high",
        severity_rule=FIXED,
        risk="A user whose privileges were lowered keeps them, and new users are not created: onboarding fails as soon "
        "as access.yaml changes. Users that leave are locked only while RDS keeps the master's secret.",
        why="From PostgreSQL 16 on a role is changed by roles with ADMIN OPTION on it. A major upgrade from an earlier "
        "version gives this option to nobody, as no role needed it before. The next onboarding restores it, which an "
        "upgrade starts; it has not run since, or failed.",
        evidence={
            "roles": "the first users and groups that rdsiam_manager can't change",
            "count": "number of users and groups",
        },
        remedy=_administer,
        references=(RDS + "USER_UpgradeDBInstance.PostgreSQL.html", MEMBERSHIP),
        source="session",
    ),
    Kind(
        id="administrators-unexamined",
        title="It is unknown which users can act as an administrator of {database}",
        severity="low",
        severity_rule=FIXED,
        risk="In these databases users may have TRIGGER or REFERENCES on tables of an administrator, which give the "
        "administrator's rights: see `acts-as-administrator`.",
        why="PostgreSQL keeps the privileges on tables in each database, and the audit opens one session. Onboarding "
        "examines `postgres` and each database on which access.yaml declares a user.",
        evidence={
            "databases": "databases that were not examined",
            "onboarded": "onboarding has examined some database of the server",
        },
        remedy=_examine,
        references=(POSTGRES + "ddl-priv.html",),
        source="session",
    ),
)
