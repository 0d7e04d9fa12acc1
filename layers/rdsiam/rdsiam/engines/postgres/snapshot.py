"""Snapshot of a PostgreSQL server, the authority that its statements need, and how they run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg

from rdsiam.engines.connection import PostgresSession
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres.lockout import Membership
from rdsiam.engines.postgres.privileges import PrivilegeChange
from rdsiam.engines.postgres.settings import Settings
from rdsiam.engines.postgres.sql_text import compose
from rdsiam.engines.protocols import Authority, Statement, StatementFailed
from rdsiam.state.escalations import Examined

#: Since this version, roles are administered and inherited by options of each membership.
MEMBERSHIP_OPTIONS = 160000


@dataclass(frozen=True)
class Role:
    """A role as pg_roles shows it.

    :ivar connections: maximum number of concurrent sessions; -1 for any number.
    """

    login: bool
    superuser: bool
    createrole: bool
    replication: bool
    connections: int


@dataclass(frozen=True)
class Snapshot:
    """The state of a server when it was inspected.

    :ivar settings: role → the settings that its sessions begin with; `role` among them is the role it acts as.
    :ivar privilege_changes: privileges that grantees lack, and privileges that must be revoked from them.
    :ivar examined: users that can act as administrators once the privileges are changed.
    :ivar closed: databases that the manager may not connect to.
    :ivar busy: roles that have sessions.
    :ivar mark: the resource id that the auditor is marked with; None if it has none.
    :ivar audit_closed: the auditor may not connect to the database that it reads from.
    """

    entry_database: str
    master: str
    version: int
    databases: tuple[str, ...]
    roles: Mapping[str, Role]
    memberships: tuple[Membership, ...]
    settings: Mapping[str, Settings]
    privilege_changes: tuple[PrivilegeChange, ...]
    closed: frozenset[str]
    busy: frozenset[str]
    mark: str | None
    audit_closed: bool
    examined: Examined

    @property
    def has_membership_options(self) -> bool:
        """Whether memberships have the options INHERIT and SET, and roles need ADMIN OPTION to be altered."""
        return self.version >= MEMBERSHIP_OPTIONS

    def direct(self, group: str, member: str) -> list[Membership]:
        """Return the direct memberships of `member` in `group`."""
        return [edge for edge in self.memberships if edge.group == group and edge.member == member]

    def administers(self, member: str, group: str) -> bool:
        """Return whether `member` has ADMIN OPTION on `group`."""
        return any(edge.admin for edge in self.direct(group, member))

    def authority_over(self, role: str) -> Authority:
        """Return the authority that may alter `role`: the manager if it administers the role, else the master."""
        return "manager" if self.administers(MANAGER, role) else "master"

    def actor(self, authority: Authority) -> str:
        """Return the role that an authority logs in as."""
        return self.master if authority == "master" else MANAGER


def acting_for(snapshot: Snapshot, role: str, actor: str) -> tuple[str, str]:
    """Return the SQL that gives `actor` the rights of `role` and the SQL that takes them back.

    Both run within one transaction, so no other session sees the membership.
    """
    if any(edge.inherit for edge in snapshot.direct(role, actor)):
        return "", ""
    inherit = " WITH INHERIT TRUE" if snapshot.has_membership_options else ""
    names = {"r": role, "a": actor}
    return compose("GRANT {r} TO {a}", **names) + inherit + "; ", "; " + compose("REVOKE {r} FROM {a}", **names)


def run(session: PostgresSession, database: str, statements: Sequence[Statement]) -> None:
    """Run statements in the session's transaction; the caller commits."""
    for statement in statements:
        try:
            session.execute(statement.statement)
        except psycopg.Error as error:
            session.rollback()
            raise StatementFailed(database, statement, error.sqlstate or "", " ".join(str(error).split())) from None
