"""A database server by itself, and what the tests of the engines do to it."""

import threading
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import psycopg
import pymysql

from localcloud.databases.servers.mysql_family import MysqlFamilyServer
from localcloud.databases.servers.postgres import PostgresServer
from localcloud.databases.token_verifier import LoginRefused, Reason
from rdsiam.access.users import DeclaredUser, Grant
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Unreached
from rdsiam.engines.connection import Limits
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.logins import AUDITOR, MANAGER, Login, Logins, Password, Token
from rdsiam.engines.postgres import connection
from rdsiam.engines.postgres.connection import postgres_options
from rdsiam.engines.protocols import DatabaseResult, DesiredState, Engine, LoginAccount, Sessions
from rdsiam.engines.statements import Statement
from rdsiam.onboarding.server_removal import Removal, Server
from rdsiam.state.escalations import Examined

MASTER, MASTER_PASSWORD = "boss", "correct horse battery"


def master_login() -> Password:
    """Return the login that `Logins.master` makes."""
    return Password(MASTER, MASTER_PASSWORD, "scram-sha-256,md5")


def verify(user: str, token: str, tls: bool) -> None:
    if not tls or token != f"token-of-{user}":
        raise LoginRefused(Reason.WRONG_SIGNATURE)


#: Whether this thread connects as an application. Tests log in from several threads at once.
_application = threading.local()


def _options(limits: Limits, version: str) -> str:
    """Return the options of a session: none for an application's, rdsiam's own for all others."""
    return "" if getattr(_application, "connects", False) else postgres_options(limits, version)


@dataclass
class Place:
    """A database server and what the tests do to it."""

    engine: Engine
    database: Database
    server: PostgresServer | MysqlFamilyServer
    #: By whom the sessions of the last run were opened.
    opened: list[str] = field(default_factory=list)
    #: Accounts that earlier tests left, all managed.
    known: set[str] = field(default_factory=set)
    #: The parts that the server denied in the last run.
    denied: list[Unreached] = field(default_factory=list)
    #: The parts that no statement could bring about in the last run, on the server.
    incomplete: tuple[Unreached, ...] = ()
    #: The databases of the last run.
    results: list[DatabaseResult] = field(default_factory=list)

    @property
    def version(self) -> int:
        """The major version of a PostgreSQL server."""
        assert isinstance(self.server, PostgresServer)
        return self.server.version

    @property
    def administrator(self) -> str:
        """The kind of a PostgreSQL server's administrator: "rds" or "vanilla"."""
        assert isinstance(self.server, PostgresServer)
        return self.server.administrator

    def connect(self, authority: str, name: str | None) -> Any:
        self.opened.append(authority)
        login = master_login() if authority == "master" else Token(MANAGER, f"token-of-{MANAGER}")
        return self.engine.connect(self.database, login, name)

    def login(self, login: Login, name: str = "shop") -> "Client":
        """Log in as an application does, which has the settings of the database and of its role.

        As such it takes passwords that are stored as MD5 hashes too, as they are up to PostgreSQL 13.
        """
        if isinstance(login, Password):
            login = replace(login, method="scram-sha-256,md5")
        connection.postgres_options = _options
        _application.connects = True
        try:
            return Client(self.engine.connect(self.database, login, name), name)
        finally:
            _application.connects = False

    def as_user(self, user: str, name: str = "shop") -> "Client":
        return self.login(Token(user, f"token-of-{user}"), name)

    def as_master(self, name: str = "shop") -> "Client":
        return self.login(master_login(), name)

    def login_by_password(self, user: str, password: str, name: str = "information_schema") -> "Client":
        return self.login(Password(user, password), name)

    def as_rdsadmin(self, name: str = "shop") -> "Client":
        """Log in as RDS does, through the server's own socket: for what the administrator may not do."""
        session = self.server._connect(name) if isinstance(self.server, PostgresServer) else self.server._connect()
        return Client(session, name)

    def audit(self) -> dict[str, AccountFacts]:
        """Read all accounts as the auditor, and return them as people write them."""
        session = self.engine.connect(self.database, Token(AUDITOR, f"token-of-{AUDITOR}"), None)
        try:
            return {account.label: account for account in self.engine.audit(session, self.database).accounts}
        finally:
            session.close()

    def accounts(self) -> dict[str, LoginAccount]:
        with self.as_master() as master:
            return {account.name: account for account in self.engine.accounts(master._session, self.database)}

    def remove(self, *users: str, apply: bool = True) -> Removal:
        """Do what a removal does, and note by whom sessions were opened."""
        self.opened = []
        return Server(self.engine, _Logins(self), self.database, self.database).remove(users, apply)

    def converge(
        self, desired: DesiredState, apply: bool = True, reader: Literal["manager", "master"] | None = None
    ) -> tuple[list[Statement], DesiredState]:
        """Do what onboarding does. Return the statements, and the desired state with the accounts managed now."""
        self.opened = []
        sessions = Sessions(self.connect, reader or ("manager" if MANAGER in desired.accounts else "master"))
        try:
            snapshot = self.engine.inspect(sessions, self.database, desired)
            statements = self.engine.difference(snapshot, desired)
            self.incomplete = self.engine.incomplete(snapshot)
            if apply:
                denials = self.engine.apply(sessions, snapshot, statements, desired)
                self.denied = [denial.part for denial in denials]
                accounts = self.engine.ownership(snapshot, statements, desired)
                desired = replace(desired, accounts=accounts)
            names = self.engine.databases(snapshot, desired)
            if apply and names:
                sessions.close()
                sessions = Sessions(self.connect, "manager")
                snapshot = self.engine.inspect(sessions, self.database, desired)
            change = (lambda: None) if apply else None
            self.results = list(self.engine.converge_databases(sessions, snapshot, desired, names, change))
            statements += [statement for result in self.results for statement in result.statements]
            if apply:
                finished = [result.name for result in self.results if result.finished]
                desired = replace(desired, granted=self.engine.granted(snapshot, desired, finished))
                self.denied += [part for result in self.results for part in result.missing]
        finally:
            sessions.close()
        return statements, desired

    @property
    def missing(self) -> list[Unreached]:
        """The parts that can't be done, on the server and in the databases, as the last run saw it."""
        return [*self.incomplete, *(part for result in self.results for part in result.missing)]

    @property
    def examined(self) -> Examined:
        """The administrators and schemas that the last run found in the databases."""
        found = [result.examined for result in self.results if result.examined]
        return Examined.merged(None, found, [])


class _Logins(Logins):
    """The logins of a place."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def manager(self, database: Database) -> Token:  # noqa: ARG002
        self._place.opened.append("manager")
        return Token(MANAGER, f"token-of-{MANAGER}")

    def master(self, database: Database) -> Password:  # noqa: ARG002
        self._place.opened.append("master")
        return master_login()


class Client:
    """Open a plain client, as applications have it: no search path of rdsiam, every statement commits."""

    def __init__(self, session: Any, name: str) -> None:
        self._session = session
        if isinstance(session, psycopg.Connection):
            session.autocommit = True
            session.execute("SET search_path = public")
        else:
            session.select_db(name)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def run(self, statement: str) -> list[Any]:
        if isinstance(self._session, psycopg.Connection):
            cursor = self._session.execute(statement)
            return cursor.fetchall() if cursor.description else []
        with self._session.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())


DENIED = (psycopg.errors.InsufficientPrivilege, pymysql.err.OperationalError, pymysql.err.ProgrammingError)


def user(name: str, *grants: tuple[str, Any], adopt: bool = False, connections: int | None = None) -> DeclaredUser:
    granted = tuple(Grant(on, level) for on, level in grants)
    return DeclaredUser(name, granted, (), (), adopt, connections=connections)
