"""PostgreSQL: how users are locked and their sessions end. No lock of another run's is waited for."""

from collections.abc import Collection
from typing import Any

import psycopg
from psycopg import sql

from rdsiam.engines import Authority, QueryFailed, Statement, StatementFailed
from rdsiam.engines.postgres_found import Found, admin, compose, text
from rdsiam.logins import MANAGER

#: Lets the manager end sessions of everybody but superusers, on a replica too, where no membership can be granted.
SIGNAL_ROLE = "pg_signal_backend"
#: Another session of the user may hold its row of pg_authid; it is ended before, so nobody waits for long.
SHORT_WAIT = "SET LOCAL lock_timeout = '2s'"
#: Until PostgreSQL 15 CREATEROLE suffices to alter a role; from 16 on ADMIN OPTION is needed.
_LOGINS = """
SELECT r.rolname, r.rolcanlogin,
    EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid),
    pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 160000 OR EXISTS (
        SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.member
        WHERE m.roleid = r.oid AND m.admin_option AND g.rolname = %s)
FROM pg_catalog.pg_roles r WHERE r.rolname = ANY(%s) ORDER BY 1
"""


def disable(found: Found, name: str) -> list[Statement]:
    """Return what takes the login away from `name` and ends its sessions; membership in rds_iam and grants stay."""
    return _statements(name, found.roles[name].login, name in found.busy, admin(found, name))


def locking(session: Any, users: Collection[str]) -> list[Statement]:
    """Return what is missing until none of these users can log in or has a session."""
    result: list[Statement] = []
    for name, login, busy, administers in _logins(session, users):
        result += _statements(name, login, busy, "manager" if administers else "master")
    return result


def ending(session: Any, users: Collection[str]) -> list[Statement]:
    """Return what ends the sessions of those of these users who have any."""
    return [end for name, _, busy, _ in _logins(session, users) for end in _statements(name, False, busy, "manager")]


def _logins(session: Any, users: Collection[str]) -> list[tuple[str, bool, bool, bool]]:
    try:
        rows: list[tuple[str, bool, bool, bool]] = session.execute(_LOGINS, [MANAGER, sorted(users)]).fetchall()
        session.commit()
    except psycopg.Error as error:
        raise QueryFailed(error.sqlstate, str(error)) from None
    return rows


def carry_out(session: Any, statement: Statement) -> None:
    """Run one statement in a transaction of its own, waiting two seconds at most for a lock."""
    try:
        session.execute(f"{SHORT_WAIT}; {statement.statement}")
        session.commit()
    except psycopg.Error as error:
        if not session.closed:
            session.rollback()
        raise StatementFailed("the server", statement, error.sqlstate or "", " ".join(str(error).split())) from None


def _statements(name: str, login: bool, busy: bool, authority: Authority) -> list[Statement]:
    result: list[Statement] = []
    if login:
        lock = compose("ALTER ROLE {u} NOLOGIN", u=name)
        result.append(Statement("disable-user", name, lock, authority=authority))
    if login or busy:
        end = text(
            sql.SQL(
                "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE usename = {}"
            ).format(sql.Literal(name))
        )
        result.append(Statement("end-sessions", name, end, False))
    return result
