"""What was found on a PostgreSQL server, and how statements about it are composed and run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres.lockout import Membership
from rdsiam.engines.postgres.privileges import Grant
from rdsiam.engines.postgres.settings import Settings
from rdsiam.engines.protocols import Authority, Statement, StatementFailed
from rdsiam.state.escalations import Examined


@dataclass(frozen=True)
class Role:
    """A role as pg_roles shows it.

    :ivar connections: how many sessions it may have at once; -1 for any number.
    """

    login: bool
    superuser: bool
    createrole: bool
    replication: bool
    connections: int


@dataclass(frozen=True)
class Snapshot:
    """What an inspection found.

    :ivar settings: role → the settings that its sessions begin with; `role` among them is whom it acts as.
    :ivar grants: what grantees lack, and what must be taken from them.
    :ivar examined: who can act as an administrator, once the grants are made.
    :ivar closed: databases that the manager may not connect to.
    :ivar busy: roles that have sessions.
    :ivar mark: the resource id that the auditor is marked with; None if there is none.
    :ivar audit_closed: the auditor may not connect to where it reads from.
    """

    entry_database: str
    master: str
    version: int
    databases: tuple[str, ...]
    roles: Mapping[str, Role]
    memberships: tuple[Membership, ...]
    settings: Mapping[str, Settings]
    grants: tuple[Grant, ...]
    closed: frozenset[str]
    busy: frozenset[str]
    mark: str | None
    audit_closed: bool
    examined: Examined

    def direct(self, group: str, member: str) -> list[Membership]:
        """Return the memberships of `member` in `group` that are its own."""
        return [edge for edge in self.memberships if edge.group == group and edge.member == member]


def text(composed: sql.Composable) -> str:
    """Return a statement as text."""
    return composed.as_string()


def compose(template: str, **names: str) -> str:
    """Compose a statement whose braces are identifiers, quoted by the driver."""
    quoted = {key: sql.Identifier(name) for key, name in names.items()}
    return text(sql.SQL(template).format(**quoted))


def admin(snapshot: Snapshot, role: str) -> Authority:
    """Return who may alter `role`: the manager where it made it, else the master."""
    return "manager" if any(edge.admin for edge in snapshot.direct(role, MANAGER)) else "master"


def acting_for(snapshot: Snapshot, role: str, actor: str) -> tuple[str, str]:
    """Return what gives `actor` the rights of `role` and takes them back, within one transaction: nobody sees it."""
    if any(edge.inherit for edge in snapshot.direct(role, actor)):
        return "", ""
    inherit = " WITH INHERIT TRUE" if snapshot.version >= 160000 else ""
    names = {"r": role, "a": actor}
    return compose("GRANT {r} TO {a}", **names) + inherit + "; ", "; " + compose("REVOKE {r} FROM {a}", **names)


def run(session: Any, database: str, statements: Sequence[Statement]) -> None:
    """Run statements in the session's transaction; the caller commits."""
    for statement in statements:
        try:
            session.execute(statement.statement)
        except psycopg.Error as error:
            session.rollback()
            raise StatementFailed(database, statement, error.sqlstate or "", " ".join(str(error).split())) from None
