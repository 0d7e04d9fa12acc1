"""Snapshot of a PostgreSQL server, and the authority that its statements need."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from rdsiam.core.changes import Authority, Unreached
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres.catalog import MEMBERSHIP_OPTIONS
from rdsiam.engines.postgres.databases import ServerDatabase, absent, closed
from rdsiam.engines.postgres.lockout import Membership, reachable
from rdsiam.engines.postgres.settings import Settings

#: RDS's own superuser. What the master grants from PostgreSQL 16 on is recorded as granted by it.
RDSADMIN = "rdsadmin"
#: Role of RDS whose members change and grant all ordinary roles, from PostgreSQL 16 on too.
SUPERUSERS = "rds_superuser"


@dataclass(frozen=True)
class Role:
    """A role as pg_roles shows it.

    :ivar connections: maximum number of concurrent sessions; -1 for any number.
    :ivar inherits: it has the rights of its groups without SET ROLE; from PostgreSQL 16 on the default of memberships.
    :ivar bypasses_row_security: row security policies don't apply to it.
    :ivar createdb: it may create databases.
    """

    login: bool
    superuser: bool
    createrole: bool
    replication: bool
    connections: int
    inherits: bool = True
    bypasses_row_security: bool = False
    createdb: bool = False


@dataclass(frozen=True)
class Snapshot:
    """The state of a server when it was inspected.

    :ivar identifier: of the server.
    :ivar has_master_login: RDS manages the master's password, or the master is an IAM user: rdsiam can log in as it.
    :ivar on_server: the databases, without the system's, by name.
    :ivar named: the databases that access.yaml names.
    :ivar settings: role → the settings that its sessions begin with; `role` among them is the role it acts as.
    :ivar administrators: roles on whose tables some privileges are hazardous.
    :ivar busy: roles that have sessions.
    :ivar mark: the resource id that the auditor is marked with; None if it has none.
    :ivar level_groups: the names of the groups of all levels of all databases, whether the groups exist or not.
    :ivar owners: of the groups of these names, and of the roles that they are members of, those that own objects, if
        access.yaml lets others' groups be taken over.
    :ivar incomplete: declared privileges that the server's version, or a role's attributes, keep from their users.
    :ivar replication_by_token: users that replicate may log in by token (`rds.iam_auth_for_replication`).
    """

    entry_database: str
    master: str
    identifier: str
    has_master_login: bool
    version: int
    on_server: Mapping[str, ServerDatabase]
    named: frozenset[str]
    roles: Mapping[str, Role]
    memberships: tuple[Membership, ...]
    settings: Mapping[str, Settings]
    administrators: frozenset[str]
    busy: frozenset[str]
    mark: str | None
    incomplete: tuple[Unreached, ...] = ()
    level_groups: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    replication_by_token: bool = False

    @cached_property
    def databases(self) -> tuple[str, ...]:
        """The names of all databases but the system's, sorted."""
        return tuple(sorted(self.on_server))

    @property
    def audit_closed(self) -> bool:
        """Whether the auditor may not connect to the database that it reads from."""
        entry = self.on_server.get(self.entry_database)
        return entry is not None and not entry.auditor

    @cached_property
    def obstacles(self) -> Mapping[str, Unreached]:
        """Databases in which rdsiam can't work, and those that access.yaml names and that don't exist."""
        result = {name: part for name in self.databases if (part := self.obstacle(self.on_server[name]))}
        missing = self.named - self.on_server.keys()
        return result | {name: absent(name, self.identifier) for name in missing}

    def obstacle(self, database: ServerDatabase) -> Unreached | None:
        """Return the reason why rdsiam can't work in a database; None if there is none."""
        if not database.manager and not self.inherits(self.master, database.owner):
            return database.obstacle or closed(database, self.master)
        return database.obstacle

    def is_closed(self, database: str) -> bool:
        """Return whether a database exists that the manager may not connect to."""
        return database in self.on_server and not self.on_server[database].manager

    @property
    def has_membership_options(self) -> bool:
        """Whether memberships have the options INHERIT and SET, and roles need ADMIN OPTION to be altered."""
        return self.version >= MEMBERSHIP_OPTIONS

    @cached_property
    def _direct(self) -> Mapping[tuple[str, str], list[Membership]]:
        result: dict[tuple[str, str], list[Membership]] = {}
        for edge in self.memberships:
            result.setdefault((edge.group, edge.member), []).append(edge)
        return result

    @cached_property
    def _inherited(self) -> Mapping[str, list[str]]:
        """Return the groups that each role inherits from directly."""
        result: dict[str, list[str]] = {}
        for edge in self.memberships:
            if edge.inherit:
                result.setdefault(edge.member, []).append(edge.group)
        return result

    @cached_property
    def _groups(self) -> Mapping[str, list[str]]:
        """Return the groups that each role is a direct member of."""
        result: dict[str, list[str]] = {}
        for edge in self.memberships:
            result.setdefault(edge.member, []).append(edge.group)
        return result

    def direct(self, group: str, member: str) -> list[Membership]:
        """Return the direct memberships of `member` in `group`."""
        return self._direct.get((group, member), [])

    def administers(self, member: str, group: str) -> bool:
        """Return whether `member` has ADMIN OPTION on `group`."""
        return any(edge.admin for edge in self.direct(group, member))

    def is_member(self, member: str, group: str) -> bool:
        """Return whether `member` is a member of `group`, directly or through other roles, whatever the options."""
        return group in reachable(self._groups, member)

    def inherits(self, member: str, group: str) -> bool:
        """Return whether `member` has the rights of `group`, directly or through other roles."""
        return member == group or group in reachable(self._inherited, member)

    def may_act_for(self, actor: str, role: str) -> bool:
        """Return whether the catalogs, and what is known of RDS, let `actor` take the rights of `role`.

        Only the server knows: the right of rds_superuser is in no catalog.
        """
        found = self.roles.get(role)
        if (found is not None and found.superuser) or self.is_member(role, actor):
            return False
        if not self.has_membership_options or self.administers(actor, role) or self.inherits(actor, role):
            return True
        return actor == self.master and self.inherits(actor, SUPERUSERS)

    def authority_over(self, role: str) -> Authority:
        """Return the authority that may alter `role`: the manager if it administers the role, else the master.

        Before PostgreSQL 16 the manager administers all roles, as it creates roles, except superusers and those that
        replicate.
        """
        if not self.has_membership_options:
            found = self.roles.get(role)
            return "master" if found is not None and (found.superuser or found.replication) else "manager"
        return "manager" if self.administers(MANAGER, role) else "master"

    def actor(self, authority: Authority) -> str:
        """Return the role that an authority logs in as."""
        return self.master if authority == "master" else MANAGER
