"""The roles, the administrator and the databases of a new PostgreSQL instance, by version, as RDS makes them."""

from __future__ import annotations

import psycopg
from psycopg import sql

# Roles that RDS's rds_superuser is a member of WITH ADMIN OPTION, with the first version that has them. Read off role
# dumps of instances of 14, 15 and 17; for 16 and 18 inferred from the version in which PostgreSQL got the role.
_SUPERUSER_ROLES = {
    "pg_monitor": 10,
    "pg_signal_backend": 10,
    "rds_password": 10,
    "rds_replication": 10,
    "pg_read_all_data": 14,
    "pg_write_all_data": 14,
    "pg_checkpoint": 15,
    "pg_create_subscription": 16,
    "pg_use_reserved_connections": 16,
    "pg_maintain": 17,
}
#: Other roles of RDS's own, with the first version that has them; read off the same dumps.
_OTHER_ROLES = {"rds_ad": 10, "rdsrepladmin": 10, "rds_extension": 17, "rds_reserved": 17}
# RDS's own database, in which nobody else has anything.
_OWN_DATABASE = (sql.SQL("CREATE DATABASE rdsadmin"), sql.SQL("REVOKE ALL ON DATABASE rdsadmin FROM PUBLIC"))
_SCHEMA_OF_THE_OWNER_FROM = 15  # up to 14 `public` has an owner of its own
# The roles on which rdsadmin, the only superuser, gave the master ADMIN OPTION; also those that the master created.
_ADMINISTERED = """
SELECT m.roleid::regrole::text FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.grantor
WHERE m.member = quote_ident(%(master)s)::regrole AND m.admin_option AND g.rolsuper ORDER BY 1
"""
_OTHER_MEMBERS = """
SELECT m.member::regrole::text, bool_or(m.admin_option), bool_or(m.inherit_option), bool_or(m.set_option)
FROM pg_auth_members m
WHERE m.roleid = %(role)s::regrole AND m.member <> quote_ident(%(master)s)::regrole GROUP BY 1 ORDER BY 1
"""
#: From this version on a role grants another only with ADMIN OPTION, whatever CREATEROLE says.
NEEDS_ADMIN_FROM = 16


def make(connection: psycopg.Connection, master: str, database: str | None, *, with_admin: bool) -> None:
    """Make the roles, the administrator and the databases of a new instance.

    :param database: the instance's own database, if any.
    :param with_admin: give the administrator ADMIN OPTION on `rds_superuser`, which RDS's needs not.
    """
    owner = sql.Identifier(master)
    statements: list[sql.SQL | sql.Composed] = [
        *_OWN_DATABASE,
        sql.SQL("CREATE ROLE rds_superuser NOLOGIN"),
        sql.SQL("CREATE ROLE rds_password NOLOGIN"),
        sql.SQL("CREATE ROLE rds_replication NOLOGIN"),
        sql.SQL("CREATE ROLE rdstopmgr LOGIN"),  # without a password, as nobody logs in by it
        *_missing_roles(connection),
        sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE VALID UNTIL 'infinity'").format(owner),
        *_memberships(connection, master, with_admin=with_admin),
        sql.SQL("ALTER DATABASE postgres OWNER TO {}").format(owner),
        _own_template(master),
    ]
    if has_own_database(database):
        assert database is not None
        statements.append(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), owner))
    for statement in statements:
        connection.execute(statement)


def complete(connection: psycopg.Connection, master: str, *, with_admin: bool) -> None:
    """Make what RDS itself has in a newer version, for a server to which everything else was restored."""
    if not with_admin:
        _take_admin_back(connection, master)
    memberships = _memberships(connection, master, with_admin=with_admin)
    statements: list[sql.SQL | sql.Composed] = [
        *_OWN_DATABASE,
        _own_template(master),
        *_missing_roles(connection),
        *memberships,
    ]
    for statement in statements:
        connection.execute(statement)
    if with_admin and connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'rds_iam'").fetchone():
        _let_grant_rds_iam(connection, master)


def _take_admin_back(connection: psycopg.Connection, master: str) -> None:
    """Take from the master the ADMIN OPTION that it had on the former version, and keep what it granted by that.

    pg_hba.conf counts indirect members too: a master that created a token user would have to log in by token itself.
    """
    if connection.info.server_version < NEEDS_ADMIN_FROM * 10_000:
        return
    for (role,) in connection.execute(_ADMINISTERED, {"master": master}).fetchall():
        others = connection.execute(_OTHER_MEMBERS, {"role": role, "master": master}).fetchall()
        name = sql.SQL(role)  # quoted by regrole
        connection.execute(sql.SQL("REVOKE {} FROM {} CASCADE").format(name, sql.Identifier(master)))
        for member, *options in others:
            granted = sql.SQL("GRANT {} TO {} WITH ADMIN {}, INHERIT {}, SET {}")
            connection.execute(granted.format(name, sql.SQL(member), *map(sql.Literal, options)))


def _own_template(master: str) -> sql.Composed:
    return sql.SQL("ALTER DATABASE template1 OWNER TO {}").format(sql.Identifier(master))


def _missing_roles(connection: psycopg.Connection) -> list[sql.Composed]:
    version = connection.info.server_version // 10_000
    present = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
    return [
        sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role))
        for role, since in _OTHER_ROLES.items()
        if since <= version and role not in present
    ]


def _memberships(connection: psycopg.Connection, master: str, *, with_admin: bool) -> list[sql.Composed]:
    superuser, version = sql.Identifier("rds_superuser"), connection.info.server_version // 10_000
    admin = sql.SQL(" WITH ADMIN OPTION") if with_admin else sql.SQL("")
    return [
        *(
            sql.SQL("GRANT {} TO {} WITH ADMIN OPTION").format(sql.Identifier(role), superuser)
            for role, since in _SUPERUSER_ROLES.items()
            if since <= version
        ),
        sql.SQL("GRANT {} TO {}{}").format(superuser, sql.Identifier(master), admin),
    ]


def _let_grant_rds_iam(connection: psycopg.Connection, master: str) -> None:
    connection.execute(
        sql.SQL("GRANT rds_iam TO {} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE").format(sql.Identifier(master))
    )


def has_own_database(database: str | None) -> bool:
    """Tell whether an instance is created with a database besides `postgres`."""
    return bool(database) and database != "postgres"


def own_public(connection: psycopg.Connection, master: str) -> None:
    """Give the master the schema `public` of the instance's own database, as RDS does up to 14."""
    if connection.info.server_version < _SCHEMA_OF_THE_OWNER_FROM * 10_000:
        connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(master)))


def make_rds_iam(connection: psycopg.Connection, master: str, *, with_admin: bool) -> None:
    """Make the role `rds_iam` if it is missing.

    :param with_admin: let the administrator grant it, which RDS's may by its own rule. Without that rule only members
      with ADMIN OPTION may, so this is the smallest membership; the login rules let the master in before it counts.
    """
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'rds_iam'").fetchone():
        return
    connection.execute("CREATE ROLE rds_iam NOLOGIN")
    if with_admin:
        _let_grant_rds_iam(connection, master)


def set_master_iam(connection: psycopg.Connection, master: str, *, enabled: bool, with_admin: bool) -> None:
    """Make the administrator a member of `rds_iam`, or no member.

    :param with_admin: as a user with a password it keeps the membership of `make_rds_iam`.
    """
    owner = sql.Identifier(master)
    if enabled:
        admin = sql.SQL(" WITH ADMIN TRUE, INHERIT TRUE, SET TRUE") if with_admin else sql.SQL("")
        connection.execute(sql.SQL("GRANT rds_iam TO {}{}").format(owner, admin))
    elif with_admin:
        _let_grant_rds_iam(connection, master)
    else:
        connection.execute(sql.SQL("REVOKE rds_iam FROM {}").format(owner))


def set_password(connection: psycopg.Connection, user: str, password: str) -> None:
    """Set a password, hashed as the server's `password_encryption` says."""
    # Hashed here, so that the server never sees the password, not even in a statement that fails.
    hashed = connection.pgconn.encrypt_password(password.encode(), user.encode()).decode()
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(user), sql.Literal(hashed)))
