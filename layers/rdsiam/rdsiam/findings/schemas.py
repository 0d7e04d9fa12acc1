"""Kinds of findings about the schemas of a PostgreSQL database."""

from dataclasses import replace

from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.findings import runners
from rdsiam.findings.commands import step
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import FIXED, Case, Kind
from rdsiam.findings.references import POSTGRES
from rdsiam.findings.remediation import accept, onboard

#: RDS's own superuser, which no user of RDS may act for.
_RDSADMIN = "rdsadmin"
#: The owner of `public` from PostgreSQL 15 on, of which every database's owner is a member.
_DATABASE_OWNER = "pg_database_owner"


def _close_schema(case: Case) -> list[Remediation]:
    database, schema, owner = (case.evidence[field] for field in ("in", "schema", "owner"))
    reason = "users that may connect to these databases may create objects"
    if owner == _RDSADMIN:
        return accept(case, "public-may-create", reason)
    runner = runners.owner(case.on, owner, database)
    if owner == _DATABASE_OWNER:
        runner = replace(runners.master(case.on, database), user="the owner of the database, or a member of it")
    note = "First grant CREATE to the roles that create objects there, or they fail; the level owner has it."
    revoke = REMEDIATIONS[case.on.family].close_schema(schema)
    return [
        step("sql", revoke, runner, database=database, note=note),
        onboard(case.on, note="This examines the database again."),
        *accept(case, "public-may-create", reason, 2),
    ]


SCHEMA_KINDS = (
    Kind(
        id="public-may-create",
        title="Every user of {database} may create objects in the schema {schema} of {in}",
        severity="medium",
        severity_rule=FIXED,
        risk="Users with the level readonly, and rdsiam_auditor, create tables and functions there and own them. A "
        "function or operator in a schema of another user's search path runs with the rights of that user.",
        why="Up to PostgreSQL 14 PUBLIC has CREATE on the schema `public`, and an upgrade to a later version keeps it. "
        "Onboarding examines `postgres` and each database on which access.yaml declares a user. If the schema belongs "
        "to `rdsadmin`, no user of RDS can revoke it: create objects in other schemas, and leave `public` out of "
        "search_path.",
        evidence={"in": "the database", "schema": "the schema", "owner": "the role that owns it"},
        remedy=_close_schema,
        references=(
            POSTGRES + "ddl-schemas.html#DDL-SCHEMAS-PATTERNS",
            "https://www.postgresql.org/support/security/CVE-2018-1058/",
        ),
        source="session",
    ),
)
