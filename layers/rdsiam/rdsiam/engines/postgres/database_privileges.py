"""The privileges in each database of a PostgreSQL server, compared with the declaration and changed.

Databases are worked on one after another, each in sessions of its own that end with it. A database that can't be done
is named, and delays no other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import psycopg

from rdsiam.core.changes import Unreached
from rdsiam.engines.connection import NO_SLOT
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.messages import one_line
from rdsiam.engines.postgres import namesakes, schemas
from rdsiam.engines.postgres.catalog import MEMBERSHIP_OPTIONS, is_system, memberships
from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.databases import absent, closed, obstacle, read_databases
from rdsiam.engines.postgres.escalations import Holding, escalations, holdings
from rdsiam.engines.postgres.execution import TimeLimit, change_database
from rdsiam.engines.postgres.groups import group_name
from rdsiam.engines.postgres.privilege_changes import change_privileges
from rdsiam.engines.postgres.privilege_queries import Scope
from rdsiam.engines.postgres.privileges import PrivilegeChange
from rdsiam.engines.postgres.schemas import Declared, Observed
from rdsiam.engines.postgres.snapshot import SUPERUSERS, Snapshot
from rdsiam.engines.postgres.sql_text import compose
from rdsiam.engines.protocols import DatabaseResult, DesiredState, Sessions
from rdsiam.engines.statements import AUTHORITIES, Denial, Statement, StatementFailed
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.state.escalations import Examined
from rdsiam.state.schemas import ObservedSchemas

_Failure: TypeAlias = ConnectionFailed | Refused | StatementFailed | psycopg.Error

#: Kinds of statements that may revoke privileges.
_REVOKING = frozenset({"revoke", "default-privileges"})
#: Classes of errors that another attempt may not meet: a lost connection, a conflict with another transaction, a lock,
#: a limit of resources, an intervention of an administrator, a concurrent change of the catalogs.
_PASSING = ("08", "40", "53", "55", "57", "XX")
#: Codes of names that are not UTF-8, or that the encoding of the database doesn't have.
_UNTRANSLATABLE = frozenset({"22021", "22P05"})
_RETRIED = "see what the reason says; rdsiam tries again"
_NOT_RETRIED = "do what the reason says, then onboard the database again"
_AGAIN = "then onboard the database again"
#: libpq's word for the functions in which a login failed: those of an event trigger for logins, from PostgreSQL 17 on.
_IN_FUNCTION = " CONTEXT: "
_LOGIN_TRIGGER = f"let its function accept the logins of {{m}} and {{b}}, {_AGAIN}"
_NOT_COMPARED = f"its privileges can be compared once {MANAGER} may connect to it"


def databases(snapshot: Snapshot, desired: DesiredState) -> tuple[str, ...]:
    """Return the databases in which privileges are declared, or may have to be revoked, and the entry database if any.

    Without that one, sessions for it are in another database.
    """
    entry = {snapshot.entry_database} & snapshot.on_server.keys()
    return tuple(sorted(entry | _declared(snapshot, desired).databases))


def converge(
    sessions: Sessions[PostgresSession],
    snapshot: Snapshot,
    desired: DesiredState,
    names: Iterable[str],
    before_change: Callable[[], None] | None,
) -> Iterator[DatabaseResult]:
    """Compare the privileges in each database, and make the changes or plan them; see `Engine.converge_databases`."""
    declared = _declared(snapshot, desired)
    taken = namesakes.taken(snapshot, desired)
    for name in names:
        if name in taken:
            yield DatabaseResult(name, missing=(taken[name],))
        else:
            yield _Database(sessions, snapshot, declared, name).converge(before_change)


def _declared(snapshot: Snapshot, desired: DesiredState) -> Declared:
    known, _ = schemas.known(desired, snapshot.version)
    return schemas.declared(known, snapshot.databases)


@dataclass
class _Privileges:
    """The privileges of one database.

    :ivar changes: privileges that are missing, or have to be revoked.
    :ivar revocations: those of the changes that end a hazardous holding, each with the holding.
    :ivar holdings: hazardous privileges that stay.
    """

    changes: list[PrivilegeChange]
    schemas: Observed
    revocations: list[tuple[PrivilegeChange, Holding]] = field(default_factory=list)
    holdings: list[Holding] = field(default_factory=list)


@dataclass(frozen=True)
class _Database:
    """One database."""

    sessions: Sessions[PostgresSession]
    snapshot: Snapshot
    declared: Declared
    name: str

    def converge(self, before_change: Callable[[], None] | None) -> DatabaseResult:
        """Compare the privileges, and make the changes or plan them."""
        if part := self._known_obstacle(plan=before_change is None):
            return DatabaseResult(self.name, missing=(part,))
        made: list[Statement] = []
        try:
            return self._converge(before_change, made)
        except (ConnectionFailed, Refused, StatementFailed, psycopg.Error) as error:
            # Of a server that can't be reached, the session that `_failed` opens tells.
            return DatabaseResult(self.name, tuple(made), tuple(self._failed(error)))
        finally:
            if self.name != self.snapshot.entry_database:
                self.sessions.leave(self.name)

    def _known_obstacle(self, plan: bool) -> Unreached | None:
        """Return the obstacle that the catalogs show; None if the database can be connected to."""
        part = self.snapshot.obstacles.get(self.name)
        if part is None and self.sessions.reader == "manager" and self.snapshot.is_closed(self.name):
            part = closed(self.snapshot.on_server[self.name], self.snapshot.master)
            if plan:
                part = obstacle(
                    self.name, _NOT_COMPARED, "onboard the database; that lets it connect first", retry=True
                )
        return part

    def _converge(self, before_change: Callable[[], None] | None, made: list[Statement]) -> DatabaseResult:
        """Compare the privileges, and make the changes or plan them.

        :param made: receives the statements that took effect, also if a later one fails.
        """
        found = self._read()
        if before_change is not None and found.changes:
            return self._with_memberships()._change(found, before_change, made)
        statements = [each for change in found.changes for each in change_privileges(self.snapshot, change)]
        missing = [each.denied for each in statements if each.doubtful and isinstance(each.denied, Unreached)]
        parts = (*found.schemas.incomplete, *missing)
        finished = before_change is not None
        return DatabaseResult(self.name, tuple(statements), parts, self._examined(found, []), finished)

    def _with_memberships(self) -> "_Database":
        """Return the database with the memberships as they are now.

        The inspection was before all other databases of the batch. A membership that was granted since must not be
        taken for one that rdsiam grants for a moment.
        """
        session = self.sessions.read(self.name)
        found = memberships(session)
        session.commit()
        return replace(self, snapshot=replace(self.snapshot, memberships=found))

    def _change(self, found: _Privileges, before_change: Callable[[], None], made: list[Statement]) -> DatabaseResult:
        """Make the changes; for `made` see `_converge`."""
        statements = [each for change in found.changes for each in change_privileges(self.snapshot, change)]
        denials: list[Denial] = []
        before_change()
        time_limit = TimeLimit()
        for authority in AUTHORITIES:
            part = [each for each in statements if each.authority == authority]
            denied = change_database(self.sessions, self.name, authority, part, time_limit)
            refused = {denial.statement for denial in denied}
            made += [each for each in part if each not in refused]
            denials += denied
        finished = not any(denial.statement.kind in _REVOKING for denial in denials)
        parts = (*found.schemas.incomplete, *(denial.part for denial in denials))
        return DatabaseResult(self.name, tuple(made), parts, self._examined(found, denials), finished)

    def _read(self) -> _Privileges:
        """Read privileges and schemas; no transaction stays open."""
        snapshot, name = self.snapshot, self.name
        session = self.sessions.read(name)
        if session.info.dbname != name:  # opened when nobody could connect to the entry database
            raise Refused(f"nobody could connect to {name} when the run began", "onboard the database again")
        scope = Scope(session, name, self.declared.excluded, snapshot.administrators)
        entitled = {each.grantee for each in self.declared.of(name)}
        managed = self.declared.accounts | entitled
        creators = {snapshot.master} | {group_name(name, "owner", self.declared.prefix)} & entitled
        changes = self.declared.surplus(scope) + self.declared.missing(scope, creators)
        observed = Observed()
        observed.read(session, name, self.declared)
        result = _Privileges(changes, observed)
        for holding in holdings(session, name, snapshot.administrators):
            if holding.grantee in managed and _may_revoke(snapshot, holding):
                revocations = list(_revocations(name, holding))
                result.changes += revocations
                result.revocations += [(revocation, holding) for revocation in revocations]
            else:
                result.holdings.append(holding)
        session.commit()
        return result

    def _examined(self, found: _Privileges, denials: Sequence[Denial]) -> Examined:
        """Return which users can act as administrators in the database once the changes are made."""
        snapshot = self.snapshot
        denied = {denial.statement for denial in denials}
        remaining = [
            holding for change, holding in found.revocations if denied.intersection(change_privileges(snapshot, change))
        ]
        logins = {name: role.login and not is_system(name, role.login) for name, role in snapshot.roles.items()}
        held = escalations([*found.holdings, *remaining], logins, snapshot.memberships, snapshot.administrators)
        return Examined((self.name,), held, ObservedSchemas.of(found.schemas.opened, found.schemas.public))

    def _failed(self, error: _Failure) -> Iterator[Unreached]:
        """Yield the database as a part that was not done; nothing if it is gone and access.yaml does not name it."""
        entry = self.snapshot.entry_database
        self.sessions.leave(entry)  # the server may have ended all sessions
        session = self.sessions.read(entry)
        present = read_databases(session)
        session.commit()
        database = present.get(self.name)
        if database is not None:
            yield self.snapshot.obstacle(database) or self._part(error)
        elif self.name in self.snapshot.named:
            yield absent(self.name, self.snapshot.identifier)

    def _part(self, error: _Failure) -> Unreached:
        if isinstance(error, Refused):
            return obstacle(self.name, error.problem, error.remedy or _NOT_RETRIED)
        if isinstance(error, ConnectionFailed):
            if "permission denied for database" in str(error):  # to the master
                return closed(self.snapshot.on_server[self.name], self.snapshot.master)
            if error.server_code in NO_SLOT:
                remedy = "end sessions, or increase its connection limit or max_connections; rdsiam tries again"
                return obstacle(self.name, f"all connections are taken: {error}", remedy, retry=True)
            if _IN_FUNCTION in str(error):
                reason = f"its event trigger for logins fails: {error}"
                return obstacle(self.name, reason, compose(_LOGIN_TRIGGER, m=MANAGER, b=self.snapshot.master))
            return obstacle(self.name, str(error), _RETRIED, retry=True)
        code = error.server_code if isinstance(error, StatementFailed) else error.sqlstate
        passes = not code or code.startswith(_PASSING)
        reason = one_line(str(error))
        if code in _UNTRANSLATABLE:
            return obstacle(self.name, reason, f"rename what has these bytes in its name, {_AGAIN}")
        return obstacle(self.name, reason, _RETRIED if passes else _NOT_RETRIED, retry=passes)


def _revocations(database: str, holding: Holding) -> Iterator[PrivilegeChange]:
    """Yield the changes that revoke a holding: default privileges of all schemas, and of some, are changed apart."""
    change = PrivilegeChange(database, holding.owner, holding.grantee, "table", holding.privileges, (), revoke=True)
    if holding.held == "tables":
        yield replace(change, objects=holding.objects)
        return
    if () in holding.objects:
        yield change
    if limits := tuple(name for names in holding.objects for name in names):
        yield replace(change, schemas=limits)


def _may_revoke(snapshot: Snapshot, holding: Holding) -> bool:
    """Return whether onboarding can revoke what a managed role holds, acting for the administrator who granted it.

    What a copy brings along stays if rdsiam has no login of the master, and is reported.
    """
    if not holding.revocable:
        return False
    actors = {MANAGER, snapshot.master} if snapshot.has_master_login else {MANAGER}
    if holding.owner in actors or (snapshot.version < MEMBERSHIP_OPTIONS and holding.owner != snapshot.master):
        return True
    edges = [edge for edge in snapshot.memberships if edge.member in actors]
    # On RDS a member of rds_superuser may act for any role, which no catalog shows: it is tried.
    tried = any(edge.group == SUPERUSERS and edge.inherit and edge.member != MANAGER for edge in edges)
    direct = [edge for edge in edges if edge.group == holding.owner]
    return tried or any(edge.admin or (edge.inherit and edge.member == MANAGER) for edge in direct)
