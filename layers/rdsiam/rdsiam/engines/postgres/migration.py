"""PostgreSQL's part of a migration: NOLOGIN keeps the password's verifier, so that its undo gives back all that was."""

from collections.abc import Mapping, Sequence

import psycopg

from rdsiam.engines.logins import MANAGER
from rdsiam.engines.migration import LoginState, Observation, ObservedClient
from rdsiam.engines.postgres.disabling import disable
from rdsiam.engines.postgres.lockout import IAM_ROLE, members
from rdsiam.engines.postgres.snapshot import Snapshot, acting_for, admin, compose
from rdsiam.engines.protocols import QueryFailed, Statement
from rdsiam.errors import Refused
from rdsiam.state.inventory import Ownership

_SUPERUSERS, _REPLICATION = "rds_superuser", "rds_replication"
_SESSIONS = """
SELECT COALESCE(a.application_name, ''), COALESCE(pg_catalog.host(a.client_addr), ''),
    pg_catalog.to_char(pg_catalog.max(a.backend_start) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    pg_catalog.count(*)
FROM pg_catalog.pg_stat_activity a WHERE a.usename = %s GROUP BY 1, 2 ORDER BY 1, 2
"""
#: Databases in which something belongs to a role, or names it; what is the whole server's can be settled in any.
_NAMED_IN = """
SELECT DISTINCT d.datname FROM pg_catalog.pg_shdepend s
JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND r.rolname = %s
  AND NOT (s.classid = 'pg_catalog.pg_auth_members'::pg_catalog.regclass)
"""


class PostgresMigrator:
    """The engine `postgres`, and Aurora PostgreSQL; see `Migrator`."""

    blind_spots = (
        "a login that begins and ends between two looks is not seen, as PostgreSQL counts none for a role; and what "
        "runs more seldom than the watching lasts, at a month's end, is seen by nobody. log_connections records each"
    )
    irreversible = ""

    def login_state(self, snapshot: Snapshot, user: str) -> LoginState:
        """Return how a role stands."""
        role = snapshot.roles.get(user)
        if role is None:
            return LoginState(False, False, False)
        iam = user in members(snapshot.memberships, IAM_ROLE, frozenset({snapshot.master, MANAGER}))
        keep_reason = ""
        if (
            user == snapshot.master
            or role.superuser
            or role.createrole
            or user in members(snapshot.memberships, _SUPERUSERS)
        ):
            keep_reason = f"{user} is an administrator"
        elif role.replication or user in members(snapshot.memberships, _REPLICATION):
            keep_reason = f"{user} replicates, and RDS has no IAM logins for that"
        return LoginState(True, role.login, iam, keep_reason)

    def observe(self, session: "psycopg.Connection", user: str, successor: str) -> Observation:
        """Look at the sessions, for a moment as one of those who may see whose they are."""
        inherit = " WITH INHERIT TRUE" if session.info.server_version >= 160000 else ""
        try:
            # Who acts for the successor acts for the other: sees application and address. It is never committed.
            session.execute(compose("GRANT {h} TO {m}", h=successor, m=MANAGER) + inherit)
            rows = session.execute(_SESSIONS, [user]).fetchall()
        except psycopg.Error as error:
            raise QueryFailed(error.sqlstate, str(error)) from None
        finally:
            if not session.closed:
                session.rollback()
        return Observation(tuple(ObservedClient(*row) for row in rows), None)

    def retire(self, snapshot: Snapshot, user: str) -> list[Statement]:
        """Return NOLOGIN, and what ends the sessions."""
        return disable(snapshot, user)

    def restore(self, snapshot: Snapshot, user: str, locked: Sequence[str]) -> list[Statement]:  # noqa: ARG002
        """Return LOGIN."""
        if snapshot.roles[user].login:
            return []
        return [
            Statement("enable-user", user, compose("ALTER ROLE {u} LOGIN", u=user), authority=admin(snapshot, user))
        ]

    def revert_in_place(self, snapshot: Snapshot, user: str, accounts: Mapping[str, Ownership]) -> list[Statement]:
        """Return what takes the role out of rds_iam and of our groups; its verifier was there all the time."""
        groups = {name for name in accounts if name in snapshot.roles and not snapshot.roles[name].login}
        result = [
            Statement("revoke", user, compose("REVOKE {g} FROM {u}", g=group, u=user))
            for group in sorted(groups | {IAM_ROLE})
            if snapshot.direct(group, user)
        ]
        for (database, name), value in snapshot.settings.get(user, {}).items():
            if database is not None and name == "role" and value in groups:
                reset = compose("ALTER ROLE {u} IN DATABASE {d} RESET role", u=user, d=database)
                result.append(Statement("act-as-owner", user, reset, authority=admin(snapshot, user)))
        return result

    def drop_successor(
        self, session: "psycopg.Connection", snapshot: Snapshot, successor: str, user: str
    ) -> list[list[Statement]]:
        """Return what gives its objects to the other, database by database, and drops it."""
        if successor not in snapshot.roles:
            return []
        if admin(snapshot, successor) != "manager":
            raise Refused(f"{successor} was not made by {MANAGER}, so it is not dropped")
        before, after = acting_for(snapshot, successor, MANAGER)
        give = compose("REASSIGN OWNED BY {h} TO {u}; DROP OWNED BY {h}", h=successor, u=user)
        names = {row[0] or snapshot.entry_database for row in session.execute(_NAMED_IN, [successor])}
        session.commit()
        given = [
            Statement("reassign", successor, before + give + after, False, database=name) for name in sorted(names)
        ]
        drop = Statement(
            "drop-user", successor, compose("DROP ROLE {h}", h=successor), False, database=snapshot.entry_database
        )
        return [given, [*disable(snapshot, successor), drop]]
