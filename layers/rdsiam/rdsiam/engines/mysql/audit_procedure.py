"""The only right of rdsiam_auditor on MySQL and MariaDB: to call a procedure that reads accounts without their hashes.

`mysql.user` and `mysql.global_priv` keep the login method of an account beside the hash of its password, and MariaDB
keeps both in one JSON column, so a grant of columns can't separate them. The procedure runs with the rights of
rdsiam_manager, which creates it, and returns facts derived from the hash: that there is none, or that no password can
have it. Its caller can read nothing else. Onboarding compares its text each time.
"""

from dataclasses import dataclass

from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.mysql.catalog import EXPIRED_ON_MARIADB, LOGIN_USER, SESSIONS, rows, server_version
from rdsiam.engines.mysql.connection import MysqlSession
from rdsiam.engines.mysql.grants import OF_ACCOUNT, Server, literal, server
from rdsiam.engines.protocols import marked
from rdsiam.engines.statements import Statement
from rdsiam.errors import Refused

SCHEMA, PROCEDURE = "rdsiam", "audit"
#: Global privileges, by bit: as MariaDB numbers them, and in the order of MySQL's columns.
GLOBAL = (
    "Select", "Insert", "Update", "Delete", "Create", "Drop", "Reload", "Shutdown", "Process", "File", "Grant",
    "References", "Index", "Alter", "Show_db", "Super", "Create_tmp_table", "Lock_tables", "Execute", "Repl_slave",
    "Repl_client", "Create_view", "Show_view", "Create_routine", "Alter_routine", "Create_user", "Event", "Trigger",
    "Create_tablespace",
)  # fmt: skip
#: Further global privileges of MariaDB, by the bits that follow.
GLOBAL_OF_MARIADB = (
    "Delete_history", "Set_user", "Federated_admin", "Connection_admin", "Read_only_admin", "Replication_slave_admin",
    "Replication_master_admin", "Binlog_admin", "Binlog_replay", "Slave_monitor", "Show_create_routine",
)  # fmt: skip
#: Privileges on a schema, in an order chosen here.
ON_SCHEMA = (
    "Select", "Insert", "Update", "Delete", "Create", "Drop", "Grant", "References", "Index", "Alter",
    "Create_tmp_table", "Lock_tables", "Execute", "Create_view", "Show_view", "Create_routine", "Alter_routine",
    "Event", "Trigger",
)  # fmt: skip


def _bits(names: tuple[str, ...]) -> str:
    """Return an expression that combines MySQL's columns of Y or N into one number."""
    return " | ".join(f"(({name}_priv = 'Y') << {bit})" for bit, name in enumerate(names))


#: Plugins that accept a login without a password if they keep no hash.
_EMPTY = "('mysql_native_password', 'mysql_old_password', 'sha256_password', 'caching_sha2_password')"
#: Hashes have a fixed form for each plugin; `invalid` and the like match no password.
_POSSIBLE = """CASE plugin
        WHEN 'mysql_native_password' THEN hash REGEXP '^[*][0-9A-Fa-f]{40}$'
        WHEN 'mysql_old_password' THEN hash REGEXP '^[0-9A-Fa-f]{16}$'
        WHEN 'ed25519' THEN CHAR_LENGTH(hash) = 43
        WHEN 'sha256_password' THEN hash LIKE '$5$%' AND hash NOT LIKE '%THISISACOMBINATIONOFINVALID%'
        WHEN 'caching_sha2_password' THEN hash LIKE '$A$%' AND hash NOT LIKE '%THISISACOMBINATIONOFINVALID%'
        ELSE plugin <> 'mysql_no_login' END"""
_MARIADB_SOURCE = f"""
        SELECT a.User, a.Host,
            COALESCE(w.plugin, NULLIF(JSON_VALUE(a.Priv, '$.plugin'), ''), 'mysql_native_password') AS plugin,
            COALESCE(IF(w.plugin IS NULL, JSON_VALUE(a.Priv, '$.authentication_string'), w.hash), '') AS hash,
            0 AS second, COALESCE(JSON_VALUE(a.Priv, '$.account_locked'), 0) AS locked,
            {EXPIRED_ON_MARIADB} AS expired,
            COALESCE(JSON_VALUE(a.Priv, '$.ssl_type'), 0) > 0 AS tls,
            CAST(COALESCE(JSON_VALUE(a.Priv, '$.access'), 0) AS UNSIGNED) AS access,
            COALESCE(JSON_VALUE(a.Priv, '$.is_role'), 0) AS is_role
        FROM mysql.global_priv AS a
        LEFT JOIN JSON_TABLE(a.Priv, '$.auth_or[*]' COLUMNS (
            plugin VARCHAR(64) PATH '$.plugin', hash VARCHAR(512) PATH '$.authentication_string')) AS w ON TRUE
    """


def _mysql_source(second: str) -> str:
    # A role of MySQL 8 is an account that was created locked, expired and without a password.
    return f"""
        SELECT User, Host, plugin, COALESCE(authentication_string, '') AS hash,
            {second} AS second, account_locked = 'Y' AS locked,
            password_expired = 'Y' OR COALESCE(plugin IN {_EMPTY} AND password_last_changed + INTERVAL
                NULLIF(COALESCE(password_lifetime, @@default_password_lifetime), 0) DAY <= NOW(), 0) AS expired,
            ssl_type <> '' AS tls, {_bits(GLOBAL)} AS access,
            account_locked = 'Y' AND password_expired = 'Y' AND authentication_string = '' AS is_role
        FROM mysql.user AS a
    """


#: Accounts that write to a table by which the server decides what users may do, or as whom stored code runs.
_WRITERS = """SELECT User, Host, 'writes', Table_name FROM mysql.tables_priv
    WHERE Db = 'mysql' AND Table_name IN ('user', 'global_priv', 'db', 'tables_priv', 'columns_priv', 'procs_priv',
        'proxies_priv', 'roles_mapping', 'role_edges', 'default_roles', 'global_grants', 'proc', 'event')
    AND CONCAT_WS(',', Table_priv, Column_priv) REGEXP 'Insert|Update|Grant'"""
#: Privileges of MySQL 8 that have no column, or a late one.
_LATER_PRIVILEGES = """SELECT USER, HOST, 'privilege', PRIV FROM mysql.global_grants
    UNION ALL SELECT User, Host, 'privilege', 'CREATE ROLE' FROM mysql.user WHERE Create_role_priv = 'Y'
    UNION ALL SELECT User, Host, 'privilege', 'DROP ROLE' FROM mysql.user WHERE Drop_role_priv = 'Y'"""
#: From the attributes, which also hold hashes.
_ATTRIBUTES = """SELECT User, Host, 'restrictions', JSON_EXTRACT(User_attributes, '$.Restrictions') FROM mysql.user
    WHERE JSON_CONTAINS_PATH(User_attributes, 'one', '$.Restrictions')
    UNION ALL SELECT User, Host, 'factors', JSON_LENGTH(User_attributes, '$.multi_factor_authentication')
    FROM mysql.user WHERE JSON_CONTAINS_PATH(User_attributes, 'one', '$.multi_factor_authentication')
    UNION ALL SELECT User, Host, 'locking', '' FROM mysql.user
    WHERE JSON_CONTAINS_PATH(User_attributes, 'one', '$.Password_locking')"""
_SECOND = "COALESCE(JSON_CONTAINS_PATH(a.User_attributes, 'one', '$.additional_password'), 0)"
_NO_ROLES = "SELECT NULL, NULL, NULL, NULL FROM DUAL WHERE FALSE"
_OWNED_TABLES = """SELECT definer, COUNT(*) FROM (
        SELECT definer FROM mysql.proc UNION ALL SELECT definer FROM mysql.event) AS owned GROUP BY definer"""
_OWNED_VIEWS = """SELECT DEFINER, COUNT(*) FROM (
        SELECT DEFINER FROM information_schema.ROUTINES UNION ALL SELECT DEFINER FROM information_schema.EVENTS
        UNION ALL SELECT DEFINER FROM information_schema.TRIGGERS
        UNION ALL SELECT DEFINER FROM information_schema.VIEWS) AS owned GROUP BY DEFINER"""


def _procedure(settings: str, source: str, roles: str, owned: str, properties: str) -> str:
    # One row for each login method of an account. Sessions show their user only, without the host pattern they matched.
    return f"""BEGIN
    SET SESSION lock_wait_timeout = 5;
    SELECT @@require_secure_transport, DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%dT%H:%i:%sZ'),
        @@lower_case_table_names <> 0, {settings};
    SELECT User, Host, plugin, hash = '' AND plugin IN {_EMPTY}, {_POSSIBLE},
        second, locked, expired, tls, access, is_role
    FROM ({source}) AS ways;
    SELECT User, Host, Db, {_bits(ON_SCHEMA)} FROM mysql.db;
    {roles};
    SELECT SCHEMA_NAME FROM information_schema.SCHEMATA;
    SELECT {LOGIN_USER}, COUNT(*) FROM {SESSIONS} WHERE p.ID <> CONNECTION_ID() GROUP BY 1;
    {owned};
    {properties};
END"""


@dataclass(frozen=True)
class InstalledProcedure:
    """The procedure as it is installed on a server.

    :ivar schema: its schema exists.
    :ivar procedure: definer, security type and body of the procedure, in one line; None if there is none.
    :ivar granted: the auditor may call the procedure.
    :ivar mark: the resource id in its comment; None if there is none.
    :ivar readable: tables of the schema `mysql`, with the auditor's privileges on them, which earlier versions granted.
    :ivar body: the body that the procedure needs on this server.
    """

    schema: bool
    procedure: tuple[str, str, str] | None
    granted: bool
    mark: str | None
    readable: tuple[tuple[str, str], ...]
    body: str


def body(server: Server) -> str:
    """Return the body of the procedure for a server."""
    if server.mariadb:
        roles = "SELECT User, Host, Role, '' FROM mysql.roles_mapping"
        return _procedure("0, ''", _MARIADB_SOURCE, roles, _OWNED_TABLES, _WRITERS)
    if server.version < (8,):
        return _procedure("0, ''", _mysql_source(second="0"), _NO_ROLES, _OWNED_TABLES, _WRITERS)
    roles = "SELECT TO_USER, TO_HOST, FROM_USER, FROM_HOST FROM mysql.role_edges"
    properties = f"{_WRITERS}\n    UNION ALL {_LATER_PRIVILEGES}"
    if server.restricts:
        settings, attributes = "@@partial_revokes, @@mandatory_roles", f"\n    UNION ALL {_ATTRIBUTES}"
        return _procedure(settings, _mysql_source(_SECOND), roles, _OWNED_VIEWS, properties + attributes)
    return _procedure("0, @@mandatory_roles", _mysql_source("0"), roles, _OWNED_VIEWS, properties)


def read_installed(session: MysqlSession) -> InstalledProcedure:
    """Read the procedure and the auditor's privileges."""
    procedures = rows(
        session,
        "SELECT DEFINER, SECURITY_TYPE, ROUTINE_DEFINITION, ROUTINE_COMMENT FROM information_schema.ROUTINES "
        "WHERE ROUTINE_SCHEMA = %s AND ROUTINE_NAME = %s AND ROUTINE_TYPE = 'PROCEDURE'",
        [SCHEMA, PROCEDURE],
    )
    granted = rows(
        session,
        "SELECT 1 FROM mysql.procs_priv WHERE User = %s AND Host = '%%' AND Db = %s AND Routine_name = %s "
        "AND Routine_type = 'PROCEDURE' AND FIND_IN_SET('Execute', Proc_priv) > 0",
        [AUDITOR, SCHEMA, PROCEDURE],
    )
    readable = rows(
        session,
        f"SELECT TABLE_NAME, PRIVILEGE_TYPE FROM information_schema.TABLE_PRIVILEGES {OF_ACCOUNT} "
        "AND TABLE_SCHEMA = 'mysql' ORDER BY 1, 2",
        [f"'{AUDITOR}'@'%'"],
    )
    schemas = rows(session, "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s", [SCHEMA])
    return InstalledProcedure(
        schema=bool(schemas),
        procedure=next((_in_one_line(definer, security, text) for definer, security, text, _ in procedures), None),
        granted=bool(granted),
        mark=next((marked(comment) for *_, comment in procedures), None),
        readable=tuple(readable),
        body=body(server(server_version(session))),
    )


def _in_one_line(definer: str, security: str, body: str | None) -> tuple[str, str, str]:
    return definer, security, " ".join((body or "").split())


def statements(installed: InstalledProcedure, mark: str) -> list[Statement]:
    """Return the statements that are missing so that the auditor can call the procedure, and do nothing else.

    :param mark: the comment that the procedure needs; empty to leave it as it is.
    :raises Refused: a procedure of that name exists that the manager did not create.
    """
    result = []
    if installed.procedure is not None and installed.procedure[0] != f"{MANAGER}@%":
        raise Refused(
            f"a procedure {SCHEMA}.{PROCEDURE} of {installed.procedure[0]} exists that rdsiam did not make",
            "rename or drop it, then run this again",
            "name-taken",
        )
    if not installed.schema:
        result.append(Statement("create-auditor", AUDITOR, f"CREATE DATABASE `{SCHEMA}`"))
    current = installed.procedure == _in_one_line(f"{MANAGER}@%", "DEFINER", installed.body)
    if installed.procedure is not None and not current:
        result.append(Statement("create-auditor", AUDITOR, f"DROP PROCEDURE `{SCHEMA}`.`{PROCEDURE}`"))
    comment = f"COMMENT {literal(mark)} " if mark else ""
    if not current:
        create = (
            f"CREATE PROCEDURE `{SCHEMA}`.`{PROCEDURE}`() READS SQL DATA SQL SECURITY DEFINER {comment}{installed.body}"
        )
        result.append(Statement("create-auditor", AUDITOR, create))
    elif mark and installed.mark != marked(mark):
        alter = f"ALTER PROCEDURE `{SCHEMA}`.`{PROCEDURE}` {comment}".rstrip()
        result.append(Statement("create-auditor", AUDITOR, alter))
    if not (current and installed.granted):
        grant = f"GRANT EXECUTE ON PROCEDURE `{SCHEMA}`.`{PROCEDURE}` TO '{AUDITOR}'@'%'"
        result.append(Statement("grant", AUDITOR, grant))
    for table, privilege in installed.readable:
        revoke = f"REVOKE {privilege} ON `mysql`.`{table}` FROM '{AUDITOR}'@'%'"
        result.append(Statement("revoke", AUDITOR, revoke))
    return result
