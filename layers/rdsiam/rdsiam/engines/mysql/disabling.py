"""MySQL and MariaDB: lock users, end their sessions, and stop their events."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pymysql
from pymysql.charset import charset_by_name

from rdsiam.engines.mysql.catalog import LOGIN_USER, SESSIONS, is_mariadb, rows, server_answer, without_roles
from rdsiam.engines.mysql.connection import MysqlSession
from rdsiam.engines.mysql.failures import failed
from rdsiam.engines.mysql.grants import AccountName, account, identifier, literal
from rdsiam.engines.statements import EndLogin, QueryFailed, Statement

_ACCOUNTS = "SELECT User, Host FROM mysql.user"
#: MariaDB keeps the lock in its JSON, MySQL in a column.
_LOCKED_MARIADB = "SELECT User, Host FROM mysql.global_priv WHERE JSON_EXTRACT(Priv, '$.account_locked') = TRUE"
_LOCKED = "SELECT User, Host FROM mysql.user WHERE account_locked = 'Y'"
_EVENT_WORKERS = "SELECT PROCESSLIST_ID FROM performance_schema.threads WHERE NAME = 'thread/sql/event_worker'"
#: A killed session is listed until its last transaction is rolled back; it runs no further statement. A connection that
#: is logging in is none yet; an event that runs has the same command.
_BUSY = f"""SELECT {LOGIN_USER}, MAX(t.PROCESSLIST_USER IS NULL) FROM {SESSIONS}
WHERE p.COMMAND NOT IN ('Killed', 'Connect', 'Change user')
OR p.COMMAND = 'Connect' AND p.ID IN ({_EVENT_WORKERS}) GROUP BY 1"""  # noqa: S608 constants
#: On MySQL, reading `SESSIONS` waits for every connection that changes its user and doesn't answer the server: as long
#: as its client likes. Since 8.0.22 this table lists sessions without waiting, each with the user that logged in, and a
#: connection that changes its user with the old one. It has no definers of events, and none as killed.
_AT_ONCE = "performance_schema.processlist AS p"
#: It is empty if performance_schema is off, and incomplete if that has no room for all threads.
_HAS_AT_ONCE = """SELECT 1 FROM information_schema.TABLES AS t, performance_schema.global_status AS s
WHERE t.TABLE_SCHEMA = 'performance_schema' AND t.TABLE_NAME = 'processlist' AND @@performance_schema
AND s.VARIABLE_NAME = 'Performance_schema_thread_instances_lost' AND s.VARIABLE_VALUE = '0'"""
_BUSY_AT_ONCE = f"SELECT DISTINCT CONVERT(p.USER USING utf8mb4) COLLATE utf8mb4_bin, 0 FROM {_AT_ONCE}"  # noqa: S608
#: A change of the user that has had the time that logins get.
_LATE_CHANGE = "p.COMMAND = 'Change user' AND p.TIME >= 1"
_CHANGES_USER = f"SELECT 1 FROM {_AT_ONCE} WHERE p.COMMAND = 'Change user' LIMIT 1"  # noqa: S608
#: Connections as `p` that are logging in, or become another user's. Each shows its new user before the server reads
#: whether that is locked; but MySQL shows none for a new connection, until the login has succeeded.
_UNFINISHED = """FROM information_schema.PROCESSLIST AS p
WHERE p.COMMAND IN ('Connect', 'Change user') AND p.USER IN ({})"""
_NO_USER_YET = "unauthenticated user"
#: The same where sessions are listed at once: a connection that changes its user may become anybody's.
_UNFINISHED_AT_ONCE = f"FROM {_AT_ONCE} WHERE (p.COMMAND = 'Change user' OR p.USER = '{_NO_USER_YET}')"
#: A replica runs no events: their status there is SLAVESIDE_DISABLED.
_EVENTS = """SELECT DEFINER, EVENT_SCHEMA, EVENT_NAME, CHARACTER_SET_CLIENT, COLLATION_CONNECTION
FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'"""
#: RDS grants no user the privilege to KILL sessions of other users; it has this procedure instead.
_RDS_KILL = "SELECT 1 FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'mysql' AND ROUTINE_NAME = 'rds_kill'"
_NO_SUCH_THREAD = 1094
#: PyMySQL's code if the server did not answer in time.
_LOST = 2013
#: Seconds after which the user of a running statement is read again, if the server shows definers.
_SECOND_LOOK = 0.1
_CHARSET = "SET SESSION character_set_client = %s, collation_connection = %s"
_SHORT_WAIT = "SET SESSION lock_wait_timeout = 2, innodb_lock_wait_timeout = 2"


@dataclass(frozen=True)
class Event:
    """An enabled event.

    :ivar charset: the character set in which its text is stored.
    :ivar collation: the collation of texts in it.
    """

    schema: str
    name: str
    charset: str
    collation: str


@dataclass(frozen=True)
class DisableEvent(Statement):
    """ALTER EVENT … DISABLE.

    The server replaces character set and collation of the event by those of the session, and leaves its text as it is
    stored. So the session must have those of the event, or the text could no longer be read.
    """

    charset: str = ""
    collation: str = ""


@dataclass(frozen=True)
class AccountActivity:
    """Accounts that can log in, users that are logged in, and events that run in a user's name without a login.

    :ivar accounts: all accounts.
    :ivar locked: accounts that can't log in.
    :ivar busy: users that have sessions.
    :ivar at_once: whether their sessions can be listed without waiting for another connection.
    :ivar complete: whether the process list was read, and not only what can be listed at once.
    :ivar hidden: users with a session that only the process list has as theirs: an event that is running.
    :ivar events: definer, as `user@host pattern` → its enabled events.
    :ivar rds_kill: whether RDS's procedure for ending sessions exists.
    """

    accounts: frozenset[AccountName]
    locked: frozenset[AccountName]
    busy: frozenset[str]
    events: Mapping[str, tuple[Event, ...]]
    rds_kill: bool
    at_once: bool
    complete: bool
    hidden: frozenset[str]


def read_activity(session: MysqlSession, events: bool = True, sessions: bool = True) -> AccountActivity:
    """Read accounts, sessions and events. Changes nothing and waits for no lock.

    :param events: also read events. A user that may create events can make that slow: MariaDB copies the text of each.
    :param sessions: also read which users have sessions. Where they can't be listed at once, a user can make that slow.
    """
    at_once = _lists_at_once(session)
    complete = sessions and not (at_once and rows(session, _CHANGES_USER))
    busy: list[tuple[str, int]] = []
    if sessions:
        busy = _process_list(session) if complete else rows(session, _BUSY_AT_ONCE)
    by_definer: dict[str, list[Event]] = {}
    for definer, *event in sorted(rows(session, _EVENTS)) if events else ():
        by_definer.setdefault(definer, []).append(Event(*event))
    return AccountActivity(
        accounts=frozenset((user, host) for user, host in without_roles(session, rows(session, _ACCOUNTS))),
        locked=frozenset(
            (user, host) for user, host in rows(session, _LOCKED_MARIADB if is_mariadb(session) else _LOCKED)
        ),
        busy=frozenset(user for user, _ in busy),
        events={definer: tuple(found) for definer, found in by_definer.items()},
        rds_kill=bool(rows(session, _RDS_KILL)),
        at_once=at_once,
        complete=complete,
        hidden=frozenset(user for user, hidden in busy if hidden),
    )


def _lists_at_once(session: MysqlSession) -> bool:
    return not is_mariadb(session) and bool(rows(session, _HAS_AT_ONCE))


def _process_list(session: MysqlSession) -> list[tuple[str, int]]:
    """Return users that have sessions, each with whether one of them is known from the process list only."""
    try:
        return [(user, hidden) for user, hidden in rows(session, _BUSY)]
    except pymysql.MySQLError as error:
        if error.args[0] != _LOST:
            raise
        problem = "reading information_schema.PROCESSLIST took too long: connections that change their user delay it"
        raise QueryFailed(str(_LOST), problem) from None


def disable(activity: AccountActivity, user: str, events: bool = True) -> list[Statement]:
    """Return the statements that lock every account of a user and end its sessions; grants stay.

    :param events: also disable its events, which run without a login. The server makes the user that alters an event
        its definer. So the manager is the definer until a user with the right to do so enables the event again.
    """
    hosts = sorted(host for name, host in activity.accounts if name == user)
    result = [
        Statement("disable-user", user, f"ALTER USER {account(user, host)} ACCOUNT LOCK")
        for host in hosts
        if (user, host) not in activity.locked
    ]
    stops: list[Statement] = [
        DisableEvent(
            "disable-event",
            user,
            f"ALTER EVENT {identifier(event.schema)}.{identifier(event.name)} DISABLE",
            False,
            charset=event.charset,
            collation=event.collation,
        )
        for host in hosts
        for event in activity.events.get(f"{user}@{host}", ())
        if events
    ]
    if result or stops or user in activity.busy:
        stops.append(_end(activity, user))
    return result + stops


def _end(activity: AccountActivity, user: str) -> Statement:
    """Return the statement whose rows are statements, so that sessions opened in between are included.

    The second column says whether it is certain that the session is the user's.
    """
    kill = _kill(activity.rds_kill)
    if activity.at_once and user not in activity.hidden:
        own = f"CAST(p.USER AS BINARY) = {literal(user)}"
        return Statement("end-sessions", user, f"SELECT CONCAT({kill}), TRUE FROM {_AT_ONCE} WHERE {own}", False)  # noqa: S608
    certain = "t.PROCESSLIST_USER IS NOT NULL OR p.COMMAND = 'Sleep'"
    # Users' names are case-sensitive, which the comparison is of bytes only.
    own = f"CAST({LOGIN_USER} AS BINARY) = {literal(user)}"
    select = f"SELECT CONCAT({kill}), {certain} FROM {SESSIONS} WHERE {own}"  # noqa: S608
    return Statement("end-sessions", user, select, False)


def first_statements(session: MysqlSession, users: Collection[str]) -> list[Statement]:
    """Return the statements that lock users of MySQL before the process list is read, and then end their sessions.

    On MariaDB nothing makes reading it wait.
    """
    if is_mariadb(session):
        return []
    activity = _read(session, events=False, sessions=False)
    statements = [statement for user in sorted(users) for statement in disable(activity, user)]
    return sorted(statements, key=lambda each: each.kind != "disable-user")  # all locks first


def lock_statements(session: MysqlSession, users: Collection[str]) -> list[Statement]:
    """Return the statements that are missing until none of these users can log in or has a session."""
    activity = _read(session, events=False)
    return [statement for user in sorted(users) for statement in disable(activity, user)]


def stop_statements(session: MysqlSession, users: Collection[str]) -> list[Statement]:
    """Return the statements that disable the events of these users and end running events, which are sessions.

    If a change of the user keeps the process list from being read, which alone has the users of running events, they
    include one that ends the change.
    """
    activity = _read(session, events=True)
    statements = [each for user in sorted(users) for each in disable(activity, user) if each.kind != "disable-user"]
    try:
        if activity.complete or not rows(session, _EVENT_WORKERS):
            return statements
    except pymysql.MySQLError as error:
        raise QueryFailed(*server_answer(error)) from None
    kill = f"SELECT CONCAT({_kill(activity.rds_kill)}), TRUE FROM {_AT_ONCE} WHERE {_LATE_CHANGE}"  # noqa: S608
    return statements + [Statement("end-sessions", user, kill, False) for user in sorted(users)]


def end_session_statements(session: MysqlSession, users: Collection[str]) -> list[Statement]:
    """Return the statements that end all sessions of these users."""
    activity = _read(session, events=False)
    return [_end(activity, user) for user in sorted(users) if user in activity.busy]


def unfinished_logins(session: MysqlSession, users: Collection[str]) -> frozenset[int]:
    """Return the connections that are logging in and may become sessions of these users."""
    try:
        return frozenset(int(row[0]) for row in rows(session, f"SELECT p.ID {_unfinished(session, users)}"))
    except pymysql.MySQLError as error:
        raise QueryFailed(*server_answer(error)) from None


def end_login_statements(session: MysqlSession, user: str, connections: Collection[int]) -> list[EndLogin]:
    """Return the statements whose row is a statement that ends a connection, if it is still logging in."""
    try:
        kill = _kill(bool(rows(session, _RDS_KILL)))
    except pymysql.MySQLError as error:
        raise QueryFailed(*server_answer(error)) from None
    select = f"SELECT CONCAT({kill}), TRUE {_unfinished(session, [user])}"
    return [
        EndLogin("end-sessions", user, f"{select} AND p.ID = {connection:d}", False, connection=connection, final=True)
        for connection in sorted(connections)
    ]


def _unfinished(session: MysqlSession, users: Collection[str]) -> str:
    """Return the end of a query for the connections that may become sessions of these users."""
    if _lists_at_once(session):
        return _UNFINISHED_AT_ONCE
    names = sorted(users) if is_mariadb(session) else [*sorted(users), _NO_USER_YET]
    return _UNFINISHED.format(", ".join(map(literal, names)))


def _kill(rds_kill: bool) -> str:
    """Return the parts of a statement that ends the connection `p.ID`."""
    return "'CALL mysql.rds_kill(', p.ID, ')'" if rds_kill else "'KILL ', p.ID"


def _read(session: MysqlSession, events: bool, sessions: bool = True) -> AccountActivity:
    try:
        return read_activity(session, events, sessions)
    except pymysql.MySQLError as error:
        raise QueryFailed(*server_answer(error)) from None


def execute(session: MysqlSession, statement: Statement) -> None:
    """Run one statement, waiting at most two seconds for a lock."""
    try:
        with session.cursor() as cursor:
            cursor.execute(_SHORT_WAIT)
    except pymysql.MySQLError as error:
        raise failed(statement, error) from None
    run(session, statement)


def run(session: MysqlSession, statement: Statement) -> None:
    """Run one statement; it commits by itself.

    :raises StatementFailed: the database's answer.
    """
    try:
        if isinstance(statement, DisableEvent):
            _disable_event(session, statement)
            return
        with session.cursor() as cursor:
            cursor.execute(statement.statement)
            if statement.kind == "end-sessions":
                _end_sessions(session, statement, cursor.fetchall())
    except pymysql.MySQLError as error:
        raise failed(statement, error) from None


def _disable_event(session: MysqlSession, statement: DisableEvent) -> None:
    """Disable an event in a session that has the character set and collation of the event for this statement only."""
    with session.cursor() as cursor:
        encoded = _encoded(statement)
        if encoded is None:
            cursor.execute(statement.statement)
            return
        cursor.execute("SELECT @@character_set_client, @@collation_connection")
        own = cursor.fetchone()
        try:
            cursor.execute(_CHARSET, [statement.charset, statement.collation])
            cursor.execute(encoded)  # type: ignore[call-overload]  # the driver takes bytes too
        finally:
            if session.open:
                cursor.execute(_CHARSET, own)


def _encoded(statement: DisableEvent) -> bytes | None:
    """Return the statement in the event's character set; None if that lacks letters of the names in the statement.

    All character sets of clients begin with ASCII. An event that can't be named in its own one must be disabled too.
    """
    if statement.statement.isascii():
        return statement.statement.encode()
    try:
        return statement.statement.encode(charset_by_name(statement.charset).encoding or "")
    except (LookupError, UnicodeEncodeError):
        return None


def _end_sessions(session: MysqlSession, statement: Statement, found: Sequence[tuple[str, int]]) -> None:
    """End sessions that are certainly the user's, and of the others those that are still shown as the user's."""
    _run_each(session, [kill for kill, certain in found if certain])
    uncertain = {kill for kill, certain in found if not certain}
    if uncertain:
        time.sleep(_SECOND_LOOK)
        _run_each(session, [kill for kill, _ in rows(session, statement.statement) if kill in uncertain])


def _run_each(session: MysqlSession, statements: Iterable[str]) -> None:
    """Run statements that end sessions; a session that has ended meanwhile is no error."""
    for statement in statements:
        try:
            with session.cursor() as cursor:
                cursor.execute(statement)
        except pymysql.MySQLError as error:
            if error.args[0] != _NO_SUCH_THREAD:
                raise
