"""MySQL and MariaDB: how users are locked, their sessions end, and their events stop."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pymysql

from rdsiam.engines.mysql.catalog import is_mariadb, rows
from rdsiam.engines.mysql.grants import account, identifier, literal
from rdsiam.engines.protocols import QueryFailed, Statement, StatementFailed

_ACCOUNTS = "SELECT User, Host FROM mysql.user"
#: MariaDB keeps the lock in its JSON, MySQL in a column.
_LOCKED_MARIADB = "SELECT User, Host FROM mysql.global_priv WHERE JSON_EXTRACT(Priv, '$.account_locked') = TRUE"
_LOCKED = "SELECT User, Host FROM mysql.user WHERE account_locked = 'Y'"
#: A session that was killed is listed until its last transaction is rolled back; it runs nothing any more.
_BUSY = "SELECT DISTINCT USER FROM information_schema.PROCESSLIST WHERE COMMAND <> 'Killed'"
#: A replica runs no event: its status there is SLAVESIDE_DISABLED.
_EVENTS = "SELECT DEFINER, EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'"
#: RDS gives nobody the privilege to KILL others' sessions, but this procedure.
_RDS_KILL = "SELECT 1 FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'mysql' AND ROUTINE_NAME = 'rds_kill'"
_NO_SUCH_THREAD = 1094
_SHORT_WAIT = "SET SESSION lock_wait_timeout = 2, innodb_lock_wait_timeout = 2"


@dataclass(frozen=True)
class Logins:
    """Who can log in, who is logged in, and what runs in somebody's name without a login.

    :ivar accounts: (user, host pattern) of all accounts.
    :ivar locked: those of them that can't log in.
    :ivar busy: users that have sessions.
    :ivar events: definer, as `user@host pattern` → the events that are enabled, as schema and name.
    :ivar rds_kill: whether RDS's procedure for ending sessions exists.
    """

    accounts: frozenset[tuple[str, str]]
    locked: frozenset[tuple[str, str]]
    busy: frozenset[str]
    events: Mapping[str, tuple[tuple[str, str], ...]]
    rds_kill: bool


def read(session: Any, events: bool = True) -> Logins:
    """Read all of that. Changes nothing and waits for nobody.

    :param events: also read events. Who may make events can make that slow: MariaDB copies the text of each.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for definer, schema, name in sorted(rows(session, _EVENTS)) if events else ():
        found.setdefault(definer, []).append((schema, name))
    return Logins(
        accounts=frozenset((user, host) for user, host in rows(session, _ACCOUNTS)),
        locked=frozenset(
            (user, host) for user, host in rows(session, _LOCKED_MARIADB if is_mariadb(session) else _LOCKED)
        ),
        busy=frozenset(row[0] for row in rows(session, _BUSY)),
        events={definer: tuple(names) for definer, names in found.items()},
        rds_kill=bool(rows(session, _RDS_KILL)),
    )


def disable(logins: Logins, user: str, events: bool = True) -> list[Statement]:
    """Return what locks every account of that name and ends its sessions; grants stay.

    :param events: also disable its events, which run on without a login. The server makes whoever alters an event its
        definer. So the manager is, until somebody who may enables it again and thereby becomes its definer.
    """
    hosts = sorted(host for name, host in logins.accounts if name == user)
    result = [
        Statement("disable-user", user, f"ALTER USER {account(user, host)} ACCOUNT LOCK")
        for host in hosts
        if (user, host) not in logins.locked
    ]
    stopped = [
        Statement("disable-event", user, f"ALTER EVENT {identifier(schema)}.{identifier(name)} DISABLE", False)
        for host in hosts
        for schema, name in logins.events.get(f"{user}@{host}", ())
        if events
    ]
    if result or stopped or user in logins.busy:
        stopped.append(_end(logins, user))
    return result + stopped


def _end(logins: Logins, user: str) -> Statement:
    """Return the statement whose rows are statements: who connected in between is among them."""
    kill = "'CALL mysql.rds_kill(', ID, ')'" if logins.rds_kill else "'KILL ', ID"
    # Names differ by case, and without BINARY they would not.
    each = f"SELECT CONCAT({kill}) FROM information_schema.PROCESSLIST WHERE BINARY USER = {literal(user)}"  # noqa: S608
    return Statement("end-sessions", user, each, False)


def lock_statements(session: Any, users: Collection[str]) -> list[Statement]:
    """Return what is missing until none of these users can log in or has a session."""
    logins = _logins(session, events=False)
    return [statement for user in sorted(users) for statement in disable(logins, user)]


def stop_statements(session: Any, users: Collection[str]) -> list[Statement]:
    """Return what disables the events of these users; those that are running end as sessions do."""
    logins = _logins(session, events=True)
    return [each for user in sorted(users) for each in disable(logins, user) if each.kind != "disable-user"]


def end_session_statements(session: Any, users: Collection[str]) -> list[Statement]:
    """Return what ends the sessions of those of these users who have any."""
    logins = _logins(session, events=False)
    return [_end(logins, user) for user in sorted(users) if user in logins.busy]


def _logins(session: Any, events: bool) -> Logins:
    try:
        return read(session, events)
    except pymysql.MySQLError as error:
        raise QueryFailed(str(error.args[0]), str(error.args[-1])) from None


def execute(session: Any, statement: Statement) -> None:
    """Run one statement, waiting two seconds at most for a lock."""
    try:
        with session.cursor() as cursor:
            cursor.execute(_SHORT_WAIT)
    except pymysql.MySQLError as error:
        raise StatementFailed("the server", statement, str(error.args[0]), str(error.args[-1])) from None
    run(session, statement)


def run(session: Any, statement: Statement) -> None:
    """Run one statement; it commits by itself.

    :raises StatementFailed: the database's answer.
    """
    try:
        with session.cursor() as cursor:
            cursor.execute(statement.statement)
            if statement.kind == "end-sessions":
                _run_each(session, [row[0] for row in cursor.fetchall()])
    except pymysql.MySQLError as error:
        raise StatementFailed("the server", statement, str(error.args[0]), str(error.args[-1])) from None


def _run_each(session: Any, statements: Iterable[str]) -> None:
    """Run statements that end sessions; one that has ended by itself is fine."""
    for statement in statements:
        try:
            with session.cursor() as cursor:
                cursor.execute(statement)
        except pymysql.MySQLError as error:
            if error.args[0] != _NO_SUCH_THREAD:
                raise
