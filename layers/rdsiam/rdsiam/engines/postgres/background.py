"""Background work that runs in a role's name and stops with its LOGIN: jobs of pg_cron, subscriptions, pg_partman.

A background worker begins as its role only if that role may log in ("role … is not permitted to log in").
"""

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from rdsiam.core.changes import MissingPart
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.migration import BackgroundWork
from rdsiam.engines.postgres.catalog import MEMBERSHIP_OPTIONS
from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.sql_text import compose, text

#: A table that somebody else made so may have policies, whose functions would run with the rights of who reads it.
_HAS_CRON = """
SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
WHERE n.nspname = 'cron' AND c.relname = 'job' AND c.relkind = 'r' AND r.rolsuper
"""
_JOBS = """SELECT jobid, schedule, database, active, pg_catalog.current_database() FROM cron.job
WHERE username = {} ORDER BY jobid"""
#: The column with the connection's password is left out; nobody but superusers may read it.
_SUBSCRIPTIONS = """
SELECT s.subname, d.datname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
JOIN pg_catalog.pg_roles r ON r.oid = s.subowner WHERE r.rolname = %s ORDER BY 1, 2
"""
_PARTMAN = "SELECT pg_catalog.current_setting('pg_partman_bgw.role', true)"


def of_server(session: PostgresSession, user: str, successor: str) -> Iterator[BackgroundWork]:
    """Yield the subscriptions of a role on the whole server, and pg_partman if it runs as this role."""
    for name, database in session.execute(_SUBSCRIPTIONS, [user]).fetchall():
        move = compose("ALTER SUBSCRIPTION {s} OWNER TO {h}", s=name, h=successor)
        yield _work(
            f"subscription {name} in {database}", f"it runs as {user}", user, f"as the master, in {database}: {move}"
        )
    role = session.execute(_PARTMAN).fetchone()
    session.commit()
    if role is not None and role[0] == user:
        remedy = f"set pg_partman_bgw.role to {successor} in the parameter group"
        yield _work("maintenance by pg_partman", f"the parameter pg_partman_bgw.role is {user}", user, remedy)


def jobs(session: PostgresSession, user: str, successor: str) -> Iterator[BackgroundWork]:
    """Yield the jobs of a role, if pg_cron is in the session's database."""
    has_cron = session.execute(_HAS_CRON).fetchone() is not None
    session.commit()
    if not has_cron:
        return
    readable, found = _read_jobs(session, user, successor)
    move = sql.SQL("UPDATE cron.job SET username = {} WHERE jobid = ").format(sql.Literal(successor))
    for job, schedule, database, active, place in found:
        what = f"job {int(job)} of pg_cron ({schedule}{'' if active else ', not active'}) in {database}"
        yield _work(what, f"it runs as {user}", user, f"as the master, in {place}: {text(move)}{int(job)}")
    if not readable:
        select = sql.SQL("SELECT * FROM cron.job WHERE username = {}").format(sql.Literal(user))
        remedy = f"as the master: {text(select)}; then for each: {text(move)}…"
        yield _work(
            f"jobs of pg_cron that run as {user}", f"{MANAGER} can't read whether there are some", user, remedy, False
        )


def _work(what: str, reason: str, user: str, remedy: str, certain: bool = True) -> BackgroundWork:
    stops = f"{reason}, and {'it' if certain else 'they'} would stop, as {user} can't log in afterwards"
    return BackgroundWork(MissingPart(what, stops, remedy, retry=False), certain)


def _read_jobs(session: PostgresSession, user: str, successor: str) -> tuple[bool, list[tuple[Any, ...]]]:
    """Return whether all jobs could be read, and the jobs.

    pg_cron shows a role its own jobs only (row level security). As a member of the successor, which is a member of the
    user, the manager may act as the user; the membership is never committed.
    """
    query = sql.SQL(_JOBS).format(sql.Literal(user))
    has_options = session.info.server_version >= MEMBERSHIP_OPTIONS
    become = compose("GRANT {h} TO {m}", h=successor, m=MANAGER) + (
        " WITH INHERIT TRUE, SET TRUE" if has_options else ""
    )
    try:
        try:
            session.execute(f"{become}; {compose('SET LOCAL ROLE {u}', u=user)}")
            return True, session.execute(query).fetchall()
        except psycopg.Error as error:
            if session.closed:
                raise
            session.rollback()
            # The successor may not exist yet, or the manager may not grant it.
            if not isinstance(error, psycopg.errors.InsufficientPrivilege | psycopg.errors.UndefinedObject):
                raise
        return False, session.execute(query).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        return False, []
    finally:
        if not session.closed:
            session.rollback()
