"""Statements of one change of privileges on PostgreSQL, run on behalf of the objects' owner."""

from psycopg import sql

from rdsiam.core.changes import Authority, Kind, Unreached
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres import privileges
from rdsiam.engines.postgres.memberships import acting_for, remedy_to_act
from rdsiam.engines.postgres.privileges import PrivilegeChange
from rdsiam.engines.postgres.snapshot import Snapshot
from rdsiam.engines.postgres.sql_text import text
from rdsiam.engines.statements import Statement


def change_privileges(snapshot: Snapshot, change: PrivilegeChange) -> list[Statement]:
    """Return the statements of one change of privileges, each run on behalf of the objects' owner.

    Owners that nobody may act for are named, and the rest is done.
    """
    kind: Kind = "default-privileges"
    target = f"{change.owner} in {change.database}"
    if change.objects:
        kind, target = "revoke" if change.revoke else "grant", change.grantee
    texts = list(privileges.statements(change))
    owner, database = change.owner, change.database
    if owner == snapshot.master or owner not in snapshot.roles or snapshot.inherits(MANAGER, owner):
        # Its own objects, or those of a group that exists, or is about to be created.
        authority: Authority = "master" if owner == snapshot.master else "manager"
        return [
            Statement(
                kind,
                target,
                each,
                authority=authority,
                database=database,
                denied=_closed_schemas(change),
                passed_on=_passed_on(change, each),
            )
            for each in texts
        ]
    authority = snapshot.authority_over(owner)
    actor = snapshot.actor(authority)
    before, after = acting_for(snapshot, owner, actor)
    denied = Unreached(
        f"objects of {owner} in {database}",
        f"{actor} may not act for {owner}",
        remedy_to_act(snapshot, owner, actor),
        retry=False,
    )
    doubtful = not snapshot.may_act_for(actor, owner)
    if not doubtful:
        denied = _closed_schemas(change) or denied
    return [
        Statement(
            kind,
            target,
            before + each + after,
            authority=authority,
            database=database,
            denied=denied,
            doubtful=doubtful,
            passed_on=_passed_on(change, each),
        )
        for each in texts
    ]


def _closed_schemas(change: PrivilegeChange) -> Unreached | None:
    """Return the part that is not done if the owner may not use the schemas of the objects; None if it may."""
    if not change.closed:
        return None
    schemas = sql.SQL(", ").join(map(sql.Identifier, change.closed))
    grant = sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schemas, sql.Identifier(change.owner))
    return Unreached(
        f"objects of {change.owner} in {change.database}",
        f"{change.owner} may not use the schema{'s' if len(change.closed) > 1 else ''} {', '.join(change.closed)}",
        f"as the owner of the schemas run: {text(grant)}; then onboard the database again",
        retry=False,
    )


def _passed_on(change: PrivilegeChange, statement: str) -> Unreached | None:
    """Return the part that is not done if the grantee has passed on what is revoked; None for other changes."""
    if not (change.revoke and change.objects):
        return None
    return Unreached(
        f"privileges of {change.grantee} in {change.database}",
        f"{change.grantee} has passed on what is revoked",
        f"to revoke it from the others too, as {change.owner} run: {statement} CASCADE",
        retry=False,
    )
