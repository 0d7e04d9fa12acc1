"""Databases to which the manager may not connect: their owner, or whoever may act for the owner, lets it in."""

from collections.abc import Iterable

from rdsiam.core.changes import Unreached
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres.databases import obstacle
from rdsiam.engines.postgres.memberships import acting_for
from rdsiam.engines.postgres.snapshot import Snapshot
from rdsiam.engines.postgres.sql_text import compose
from rdsiam.engines.protocols import Authority, Statement


def let_manager_connect(snapshot: Snapshot, databases: Iterable[str]) -> list[Statement]:
    """Return the statements that let the manager connect to those of the databases that are closed to it."""
    return [
        _let_connect(snapshot, name)
        for name in databases
        if snapshot.is_closed(name) and name not in snapshot.obstacles
    ]


def closed_part(snapshot: Snapshot, database: str, actor: str = MANAGER) -> Unreached:
    """Return a database that is closed to `actor` as a part that was not done."""
    owner = snapshot.on_server[database].owner
    grant = compose("GRANT CONNECT ON DATABASE {d} TO {a}", d=database, a=actor)
    return obstacle(
        database,
        f"{actor} may not connect to it, since its owner {owner} has revoked CONNECT from PUBLIC",
        f"as {owner} run: {grant}; then onboard the database again",
    )


def _let_connect(snapshot: Snapshot, database: str) -> Statement:
    owner = snapshot.on_server[database].owner
    own = owner == snapshot.master or owner not in snapshot.roles
    authority: Authority = "master" if own else snapshot.authority_over(owner)
    actor = snapshot.actor(authority)
    before, after = ("", "") if own else acting_for(snapshot, owner, actor)
    grant = compose("GRANT CONNECT ON DATABASE {d} TO {m}", d=database, m=MANAGER)
    return Statement(
        "grant",
        MANAGER,
        before + grant + after,
        authority=authority,
        denied=closed_part(snapshot, database),
        doubtful=not own and not snapshot.may_act_for(actor, owner),
    )
