"""PostgreSQL: lock users and end their sessions, without waiting for locks of other runs."""

from collections.abc import Collection, Mapping

import psycopg
from psycopg import sql

from rdsiam.core.changes import Authority
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres import effect
from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.roles import change_role
from rdsiam.engines.postgres.snapshot import Snapshot
from rdsiam.engines.postgres.sql_text import compose, text
from rdsiam.engines.statements import EndLogin, QueryFailed, Statement, StatementFailed

#: Lets the manager end sessions of all users except superusers, also on a replica, where no membership can be granted.
SIGNAL_ROLE = "pg_signal_backend"
#: Another session of the user may hold its row of pg_authid; that session has been ended, so the wait is short.
SHORT_WAIT = "SET LOCAL lock_timeout = '2s'"
#: Up to PostgreSQL 15, CREATEROLE suffices to alter a role, unless it is a superuser or replicates; since 16, ADMIN
#: OPTION is needed.
_LOGINS = """
SELECT r.rolname, r.rolcanlogin,
    EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid),
    (pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 160000
     AND NOT r.rolsuper AND NOT r.rolreplication) OR EXISTS (
        SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.member
        WHERE m.roleid = r.oid AND m.admin_option AND g.rolname = %s)
FROM pg_catalog.pg_roles r WHERE r.rolname = ANY(%s) ORDER BY 1
"""
#: Ends the sessions of a user.
_END = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE usename = {}"
#: Also ends sessions that have changed roles in a transaction that is still open: a function that runs as its definer
#: may change the definer's password, and any session that calls it then holds the definer's row.
_OR_BLOCKING = """ OR pid IN (
    SELECT l.pid FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
    WHERE l.relation = 'pg_catalog.pg_authid'::pg_catalog.regclass AND l.mode = 'RowExclusiveLock'
    AND NOT r.rolsuper AND r.rolname <> {})"""
#: Backends that have not told their user yet; each begins with a transaction. Up to PostgreSQL 17 they are not in
#: pg_stat_activity until then.
_UNFINISHED = """
SELECT l.pid FROM pg_catalog.pg_locks l WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_stat_activity a
    WHERE a.pid = l.pid AND (a.usesysid IS NOT NULL OR a.backend_type <> 'client backend'))"""
#: The server denies that as long as the backend has no user: then it has not read yet whether the user is locked.
_END_LOGIN = "SELECT pg_catalog.pg_terminate_backend(pid) FROM ({}) AS unfinished WHERE pid = {}"
#: Codes of a statement that waited too long for a lock, and of a concurrent update by another session.
_BLOCKED = frozenset({"55P03", "XX000"})


def disable(snapshot: Snapshot, name: str) -> list[Statement]:
    """Return the statements that lock `name` and end its sessions; membership in rds_iam and grants stay."""
    return _statements(name, snapshot.roles[name].login, name in snapshot.busy, snapshot.authority_over(name))


def lock_statements(
    session: PostgresSession, users: Collection[str], failures: Mapping[str, Exception]
) -> list[Statement]:
    """Return the statements that are missing until none of these users can log in or has a session.

    :param failures: user → the error of the last attempt; after some, sessions that hold the user's row end as well.
    """
    result: list[Statement] = []
    for name, login, busy, administers in _logins(session, users):
        failure = failures.get(name)
        blocked = isinstance(failure, StatementFailed) and failure.server_code in _BLOCKED
        result += _statements(name, login, busy, "manager" if administers else "master", blocked)
    return result


def end_session_statements(session: PostgresSession, users: Collection[str]) -> list[Statement]:
    """Return the statements that end all sessions of these users."""
    return [
        statement
        for name, _, busy, _ in _logins(session, users)
        for statement in _statements(name, False, busy, "manager")
    ]


def unfinished_logins(session: PostgresSession) -> frozenset[int]:
    """Return the backends that have not told their user yet.

    PostgreSQL reads whether a role may log in after it has checked the token or password, and tells the user a moment
    later. In between it may wait for somebody's lock on the database.
    """
    try:
        rows = session.execute(_UNFINISHED).fetchall()
        session.commit()
    except psycopg.Error as error:
        raise QueryFailed(error.sqlstate, str(error)) from None
    return frozenset(pid for (pid,) in rows)


def end_login_statements(user: str, connections: Collection[int]) -> list[EndLogin]:
    """Return the statements that end these backends, if they have not told their user yet."""
    return [
        EndLogin(
            "end-sessions",
            user,
            text(sql.SQL(_END_LOGIN).format(sql.SQL(_UNFINISHED), sql.Literal(pid))),
            False,
            connection=pid,
        )
        for pid in sorted(connections)
    ]


def _logins(session: PostgresSession, users: Collection[str]) -> list[tuple[str, bool, bool, bool]]:
    """Return for each user: name, can log in, has sessions, the manager may lock it."""
    try:
        rows = session.execute(_LOGINS, [MANAGER, sorted(users)]).fetchall()
        session.commit()
    except psycopg.Error as error:
        raise QueryFailed(error.sqlstate, str(error)) from None
    return [(name, login, busy, administers) for name, login, busy, administers in rows]


def execute(session: PostgresSession, statement: Statement) -> None:
    """Run one statement in a transaction of its own, waiting at most two seconds for a lock."""
    try:
        if isinstance(statement, EndLogin):
            _end_login(session, statement)
        else:
            effect.execute(session, f"{SHORT_WAIT}; {statement.statement}")
        session.commit()
    except psycopg.Error as error:
        if not session.closed:
            session.rollback()
        raise StatementFailed("the server", statement, error.sqlstate or "", effect.answer(error)) from None


def _end_login(session: PostgresSession, statement: EndLogin) -> None:
    """End a login. A process that is no backend, as the one that replays on a replica, counts as denied."""
    if (False,) in session.execute(sql.SQL(statement.statement)).fetchall():
        raise StatementFailed("the server", statement, "42501", "this process is no backend")


def _statements(name: str, login: bool, busy: bool, authority: Authority, blocked: bool = False) -> list[Statement]:
    result: list[Statement] = []
    if login:
        lock = compose("ALTER ROLE {u} NOLOGIN", u=name)
        result.append(change_role("disable-user", name, lock, authority))
    if login or busy:
        names = [sql.Literal(name), sql.Literal(MANAGER)]
        end = sql.SQL(_END + _OR_BLOCKING).format(*names) if blocked else sql.SQL(_END).format(names[0])
        result.append(Statement("end-sessions", name, text(end), False))
    return result
