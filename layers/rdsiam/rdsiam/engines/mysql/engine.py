"""MySQL and MariaDB: accounts and privileges, within the rights of RDS's own administrator."""

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

import pymysql

from rdsiam.access.users import DeclaredUser, Grant
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Refusal, Unreached
from rdsiam.engines.connection import WORK, Limits
from rdsiam.engines.facts import ServerFacts
from rdsiam.engines.logins import AUDITOR, MANAGER, Login, Password
from rdsiam.engines.mysql import audit, audit_procedure, disabling, failures, replacement
from rdsiam.engines.mysql.catalog import is_mariadb, rows, server_answer, without_roles
from rdsiam.engines.mysql.connection import MysqlSession, connect_mysql
from rdsiam.engines.mysql.difference import difference
from rdsiam.engines.mysql.granted import granted_after
from rdsiam.engines.mysql.snapshot import ACCOUNTS, Snapshot, inspect, login_accounts, predecessors, schemas
from rdsiam.engines.protocols import NO_FAILURES, DatabaseResult, DesiredState, LoginAccount, Sessions
from rdsiam.engines.schema_names import LONGEST
from rdsiam.engines.statements import (
    Denial,
    EndLogin,
    Statement,
    StatementFailed,
    end_sessions_first,
    not_tried,
    repeat_on_conflict,
)
from rdsiam.errors import ConnectionFailed
from rdsiam.state.layout import Layout
from rdsiam.state.record import Ownership

_CREATIONS = frozenset({"create-manager", "create-auditor", "create-user"})
#: Codes of a refused login: access denied, and the account was locked by failed logins before.
_REFUSALS = frozenset({"1045", "3955"})
#: Codes of a login, with the right token, of a user that has all the sessions that it may have.
_TOO_MANY_SESSIONS = frozenset({"1203", "1226"})
#: Kinds of statements of which there is one for each schema and user, and how many one step makes. A server takes
#: milliseconds for each, and an invocation has two minutes.
_PRIVILEGES, _MOST_PRIVILEGES = frozenset({"grant", "revoke"}), 2_000
_LOCKING = frozenset({"disable-user", "disable-event", "end-sessions"})
#: Kinds of statements of which each can do without the others.
_INDEPENDENT = frozenset({"grant", "revoke", "limit-connections"})
#: Seconds after which MariaDB ends a statement. Its GRANT waits for locks whatever `lock_wait_timeout` is.
_LONGEST_STATEMENT = 15
#: Seconds after which no further privilege is changed: an invocation has two minutes, and each may wait for a lock.
_SECONDS = 60.0


class Mysql:
    """The engines `mysql` and `mariadb`, and Aurora MySQL; see `Engine`."""

    def connect(
        self,
        database: Database,
        login: Login,
        name: str | None,  # noqa: ARG002
        limits: Limits = WORK,
    ) -> MysqlSession:
        """Open a session, which reaches all schemas.

        :raises ConnectionFailed: also if the manager may do nothing, since it has expired: the master does its work.
        """
        host, port = database.endpoint
        session = connect_mysql(host, port, login, limits)
        if login.user == MANAGER and is_mariadb(session):
            try:
                rows(session, "DO 0")
            except pymysql.MySQLError as error:
                session.close()
                code, answer = server_answer(error)
                raise ConnectionFailed(host, port, "login", f"{code} {answer}", code) from None
        return session

    def entry_database(self) -> None:
        """Return None: one session reaches all schemas."""

    def proof_database(self, database: Database, user: DeclaredUser) -> None:
        """Return None: one session reaches all schemas."""

    def accounts(self, session: MysqlSession, database: Database) -> tuple[LoginAccount, ...]:  # noqa: ARG002
        """Return every account except the system's."""
        return login_accounts(session)

    def audit(self, session: MysqlSession, database: Database) -> ServerFacts:  # noqa: ARG002
        """Read how every account can log in."""
        return audit.audit(session)

    def layout(self, session: MysqlSession) -> Layout:
        """Read the server's schemas, as a fingerprint."""
        return Layout.of_schemas(schemas(session))

    def existing_names(self, session: MysqlSession) -> frozenset[str]:
        """Return the names of all accounts."""
        return frozenset(row[0] for row in without_roles(session, rows(session, ACCOUNTS)))

    def inspect(self, sessions: Sessions[MysqlSession], database: Database, desired: DesiredState) -> Snapshot:  # noqa: ARG002
        """Read accounts and privileges."""
        return inspect(sessions, desired)

    def irreplaceable(self, snapshot: Snapshot, desired: DesiredState) -> dict[str, Refusal]:
        """Return users whose predecessor doesn't exist, logs in by token, or has rights that no user gets."""
        return replacement.irreplaceable(snapshot.accounts, snapshot.replaced, predecessors(desired))

    def difference(self, snapshot: Snapshot, desired: DesiredState) -> list[Statement]:
        """Return the statements that are missing: the manager, users, privileges."""
        return difference(snapshot, desired)

    def first_statements(self, session: MysqlSession, users: Collection[str]) -> list[Statement]:
        """Return the statements that lock these users before the process list is read, for which a user may wait."""
        return disabling.first_statements(session, users)

    def lock_statements(
        self,
        session: MysqlSession,
        users: Collection[str],
        failures: Mapping[str, Exception] = NO_FAILURES,  # noqa: ARG002
    ) -> list[Statement]:
        """Return the statements that are missing until these users are locked."""
        return disabling.lock_statements(session, users)

    def stop_statements(self, session: MysqlSession, users: Collection[str]) -> list[Statement]:
        """Return the statements that stop the events of these users."""
        return disabling.stop_statements(session, users)

    def end_session_statements(self, session: MysqlSession, users: Collection[str]) -> list[Statement]:
        """Return the statements that end the sessions of these users."""
        return disabling.end_session_statements(session, users)

    def unfinished_logins(self, session: MysqlSession, users: Collection[str]) -> frozenset[int]:
        """Return the connections that are logging in and may become sessions of these users."""
        return disabling.unfinished_logins(session, users)

    def end_login_statements(self, session: MysqlSession, user: str, connections: Collection[int]) -> list[EndLogin]:
        """Return the statements that end these connections, if they are still logging in."""
        return disabling.end_login_statements(session, user, connections)

    def execute(self, session: MysqlSession, statement: Statement) -> None:
        """Run one statement that locks a user, stops its events or ends its sessions."""
        disabling.execute(session, statement)

    def ownership(
        self, snapshot: Snapshot, statements: Sequence[Statement], desired: DesiredState
    ) -> dict[str, Ownership]:
        """Return all managed accounts after the statements have run."""
        existing = {name for name, _ in snapshot.accounts}
        ownership = {name: ownership for name, ownership in desired.accounts.items() if name in existing}
        for statement in statements:
            if statement.kind in _CREATIONS:
                ownership.setdefault(statement.target, "created")
        for user in desired.users:
            ownership.setdefault(user.name, "adopted")
        return ownership

    def databases(self, snapshot: Snapshot, desired: DesiredState) -> tuple[str, ...]:  # noqa: ARG002
        """Return none: privileges on schemas are in the catalogs of the server, and `difference` has them all."""
        return ()

    def converge_databases(
        self,
        sessions: Sessions[MysqlSession],  # noqa: ARG002
        snapshot: Snapshot,  # noqa: ARG002
        desired: DesiredState,  # noqa: ARG002
        names: Iterable[str],  # noqa: ARG002
        before_change: Callable[[], None] | None,  # noqa: ARG002
    ) -> Iterator[DatabaseResult]:
        """Return none: see `databases`."""
        return iter(())

    def granted(
        self,
        snapshot: Snapshot,
        desired: DesiredState,
        finished: Collection[str] = (),  # noqa: ARG002
    ) -> dict[str, tuple[Grant, ...]]:
        """Return what rdsiam grants to adopted accounts. What a created one holds on schemas is compared as a whole."""
        return granted_after(snapshot, desired)

    def incomplete(self, snapshot: Snapshot) -> tuple[Unreached, ...]:
        """Return the declared schemas that no GRANT can name. A schema that is declared need not exist."""
        return tuple(
            Unreached(
                f"schema {name}",
                f"its name is longer than the {LONGEST} characters of a GRANT once its _ and % are escaped, so no "
                "privileges were granted on it",
                "set partial_revokes to ON, if the server is MySQL; otherwise rename the schema",
                retry=False,
            )
            for name in sorted(snapshot.ungrantable)
        )

    def inherited_ownership(self, snapshot: Snapshot, desired: DesiredState) -> dict[str, Ownership]:
        """Return users of which every account logs in by token over TLS, and in no other way."""
        ownership: dict[str, Ownership] = {MANAGER: "created"}
        for name in {AUDITOR, *(user.name for user in desired.users), *desired.revoked}:
            accounts = {host: safe for (user, host), safe in snapshot.accounts.items() if user == name}
            if accounts and all(accounts.values()):
                as_created = set(accounts) == {"%"} or name in predecessors(desired)
                ownership[name] = "created" if as_created else "adopted"
        return ownership

    def marked_source(self, session: MysqlSession) -> str | None:
        """Return the resource id in the comment of the auditor's procedure, if the manager created it."""
        installed = audit_procedure.read_installed(session)
        return installed.mark if installed.procedure and installed.procedure[0] == f"{MANAGER}@%" else None

    def enabled_users(self, snapshot: Snapshot, desired: DesiredState) -> frozenset[str]:
        """Return the managed users that can log in."""
        unlocked = {user for user, host in snapshot.accounts if (user, host) not in snapshot.activity.locked}
        return frozenset(unlocked & set(desired.accounts) - {MANAGER, AUDITOR})

    def portion(self, statements: Sequence[Statement]) -> list[Statement]:
        """Return all but the privileges beyond a number that one invocation has the time for."""
        privileges = [statement for statement in statements if statement.kind in _PRIVILEGES]
        later = set(map(id, privileges[_MOST_PRIVILEGES:]))
        return [statement for statement in statements if id(statement) not in later]

    def apply(
        self,
        sessions: Sessions[MysqlSession],
        snapshot: Snapshot,  # noqa: ARG002
        statements: Sequence[Statement],
        desired: DesiredState,  # noqa: ARG002
    ) -> tuple[Denial, ...]:
        """Run the statements in order. Each commits by itself and can be repeated.

        Privileges that can't be changed are named, and the rest is done.
        """
        denials: list[Denial] = []
        limited: list[MysqlSession] = []
        end = time.monotonic() + _SECONDS
        for statement in end_sessions_first(statements):
            independent = statement.kind in _INDEPENDENT and statement.target not in {MANAGER, AUDITOR}
            if independent and time.monotonic() > end:
                denials.append(not_tried(statement, failures.part(statement)))
                continue
            session = sessions.get(statement.authority, None)
            if session not in limited and is_mariadb(session):
                rows(session, f"SET SESSION max_statement_time = {_LONGEST_STATEMENT}")
                limited.append(session)
            run = disabling.execute if statement.kind in _LOCKING else disabling.run
            try:
                repeat_on_conflict(partial(run, session, statement))
            except StatementFailed as failed:
                if failed.kind == "lost" or not independent:
                    raise
                denials.append(Denial(statement, failures.unreached(failed)))
        return tuple(denials)

    def prove_login(self, database: Database, login: Login, name: str | None) -> None:
        """Log in, and out again. The server checks the token before it counts sessions."""
        try:
            self.connect(database, login, name).close()
        except ConnectionFailed as error:
            if error.server_code not in _TOO_MANY_SESSIONS:
                raise

    def refuses_passwords(self, database: Database, user: str, name: str | None) -> bool:
        """Offer a random password and expect a refusal. The catalogs show that there is no second login method."""
        try:
            self.connect(database, Password(user, secrets.token_urlsafe(24)), name).close()
        except ConnectionFailed as error:
            return error.stage == "login" and error.server_code in _REFUSALS
        return False
