"""Changes of existing roles, which from PostgreSQL 16 on only their administrators make."""

from rdsiam.core.changes import Authority, Kind, Unreached
from rdsiam.engines.statements import Statement


def change_role(kind: Kind, name: str, statement: str, authority: Authority, database: str | None = None) -> Statement:
    """Return the statement that changes an existing role; if the server denies it, the role is named."""
    denied = Unreached(
        f"role {name}",
        f"the {authority} may not change {name}",
        f"as a role that administers {name} run: {statement}",
        retry=False,
    )
    return Statement(kind, name, statement, authority=authority, database=database, denied=denied)
