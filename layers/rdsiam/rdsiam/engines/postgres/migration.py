"""Migrations on PostgreSQL: NOLOGIN keeps the password's verifier, so that an undo restores the login completely."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import psycopg

from rdsiam.engines.logins import MANAGER
from rdsiam.engines.migration import BackgroundWork, LoginState, Observation, ObservedClient
from rdsiam.engines.postgres import background, replication
from rdsiam.engines.postgres.catalog import MEMBERSHIP_OPTIONS
from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.disabling import disable
from rdsiam.engines.postgres.lockout import IAM_ROLE, members
from rdsiam.engines.postgres.memberships import acting_for, leave
from rdsiam.engines.postgres.roles import change_role
from rdsiam.engines.postgres.snapshot import SUPERUSERS, Snapshot
from rdsiam.engines.postgres.sql_text import compose
from rdsiam.engines.statements import QueryFailed, Statement
from rdsiam.errors import Refused
from rdsiam.state.record import Ownership

#: Databases besides the first in which pg_cron is looked for, one after the other.
_MOST_DATABASES = 20
_SESSIONS = """
SELECT COALESCE(a.application_name, ''), COALESCE(pg_catalog.host(a.client_addr), ''),
    pg_catalog.to_char(pg_catalog.max(a.backend_start) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    pg_catalog.count(*)
FROM pg_catalog.pg_stat_activity a WHERE a.usename = %s GROUP BY 1, 2 ORDER BY 1, 2
"""
#: Databases with objects that a role owns or that refer to it; objects of the whole server can be changed in any.
_NAMED_IN = """
SELECT DISTINCT d.datname FROM pg_catalog.pg_shdepend s
JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND r.rolname = %s
  AND NOT (s.classid = 'pg_catalog.pg_auth_members'::pg_catalog.regclass)
"""


class PostgresMigrator:
    """The engine `postgres`, and Aurora PostgreSQL; see `Migrator`."""

    blind_spots = (
        "a login that begins and ends between two observations, since PostgreSQL doesn't count logins of a role; and a "
        "job that runs less often than the watching lasts, for instance at the end of a month. log_connections records "
        "each login"
    )
    irreversible = ""

    def login_state(self, snapshot: Snapshot, user: str, successor: str = "") -> LoginState:
        """Return how a role can log in."""
        role = snapshot.roles.get(user)
        if role is None:
            return LoginState(False, False, False)
        edges = snapshot.memberships
        iam = user in members(edges, IAM_ROLE, frozenset({snapshot.master, MANAGER}))
        keep_reason = replication.keep_reason(snapshot, user, successor)
        if user == snapshot.master or role.superuser or role.createrole or user in members(edges, SUPERUSERS):
            keep_reason = f"{user} is an administrator"
        return LoginState(True, role.login, iam, keep_reason)

    def observe(self, session: PostgresSession, user: str, successor: str) -> Observation:
        """Observe the sessions, in a transaction that gives the manager the right to see their details."""
        inherit = " WITH INHERIT TRUE" if session.info.server_version >= MEMBERSHIP_OPTIONS else ""
        try:
            # A member of the successor is an indirect member of the user and sees application and address. The grant is
            # never committed.
            session.execute(compose("GRANT {h} TO {m}", h=successor, m=MANAGER) + inherit)
            rows = session.execute(_SESSIONS, [user]).fetchall()
        except psycopg.Error as error:
            raise QueryFailed(error.sqlstate, str(error)) from None
        finally:
            if not session.closed:
                session.rollback()
        return Observation(tuple(ObservedClient(*row) for row in rows), None)

    def background_work(
        self, connect: Callable[[str | None], PostgresSession], snapshot: Snapshot, user: str, successor: str
    ) -> tuple[BackgroundWork, ...]:
        """Return subscriptions, jobs of pg_cron, which is in one database (by default `postgres`), and pg_partman."""
        found: list[BackgroundWork] = []
        others = [
            name
            for name in snapshot.databases
            if name != snapshot.entry_database
            and not snapshot.is_closed(name)
            and not snapshot.obstacle(snapshot.on_server[name])
        ]
        for name in (snapshot.entry_database, *others[:_MOST_DATABASES]):
            with closing(connect(name)) as session:
                try:
                    if name == snapshot.entry_database:
                        found += background.of_server(session, user, successor)
                    found += background.jobs(session, user, successor)
                except psycopg.Error as error:
                    raise QueryFailed(error.sqlstate, str(error)) from None
        return tuple(found)

    def retire(self, snapshot: Snapshot, user: str) -> list[Statement]:
        """Return NOLOGIN, and the statement that ends the sessions."""
        return disable(snapshot, user)

    def restore(self, snapshot: Snapshot, user: str, locked: Sequence[str]) -> list[Statement]:  # noqa: ARG002
        """Return LOGIN."""
        if snapshot.roles[user].login:
            return []
        login = compose("ALTER ROLE {u} LOGIN", u=user)
        return [change_role("enable-user", user, login, snapshot.authority_over(user))]

    def revert_in_place(self, snapshot: Snapshot, user: str, accounts: Mapping[str, Ownership]) -> list[Statement]:
        """Return the statements that remove the role from rds_iam and managed groups; it still has its verifier."""
        groups = {
            name
            for name, ownership in accounts.items()
            if ownership == "created" and name in snapshot.roles and not snapshot.roles[name].login
        }
        result = [each for group in sorted(groups | {IAM_ROLE}) for each in leave(snapshot, group, user)]
        for (database, name), value in snapshot.settings.get(user, {}).items():
            if database is not None and name == "role" and value in groups:
                reset = compose("ALTER ROLE {u} IN DATABASE {d} RESET role", u=user, d=database)
                result.append(change_role("act-as-owner", user, reset, snapshot.authority_over(user)))
        return result

    def drop_successor(
        self, session: PostgresSession, snapshot: Snapshot, successor: str, user: str
    ) -> list[list[Statement]]:
        """Return the statements that give its objects to the user, database by database, and drop it."""
        if successor not in snapshot.roles:
            return []
        if snapshot.authority_over(successor) != "manager":
            raise Refused(
                f"{MANAGER} may not drop {successor}: it does not administer that role",
                "onboard the database, which restores that right after a major upgrade; or drop the role yourself",
                "rights-missing",
            )
        before, after = acting_for(snapshot, successor, MANAGER)
        give = compose("REASSIGN OWNED BY {h} TO {u}; DROP OWNED BY {h}", h=successor, u=user)
        entry = snapshot.entry_database
        databases = {row[0] or entry for row in session.execute(_NAMED_IN, [successor])}
        session.commit()
        reassign = [
            Statement("reassign", successor, before + give + after, False, database=name) for name in sorted(databases)
        ]
        drop = Statement("drop-user", successor, compose("DROP ROLE {h}", h=successor), False, database=entry)
        return [reassign, [*disable(snapshot, successor), drop]]
