"""Accounts of MariaDB and MySQL, made by plain SQL, and the facts that the audit reads of them."""

from dataclasses import dataclass
from typing import Any

#: The statements that make an account (`{u}` is its name), what differs from an ordinary account, and whether it has a
#: password.
Case = tuple[list[str], dict[str, Any], bool]


@dataclass(frozen=True)
class Dialect:
    """Words and names in which the two servers differ.

    :ivar token: how an account of IAM authentication is identified.
    :ivar socket: the plugin for logins through the server's socket.
    :ivar password: the plugin of a new account.
    :ivar users: the table with the accounts.
    :ivar longest: the number of characters of a name.
    :ivar system: accounts and roles of the server itself and of RDS.
    """

    token: str
    socket: str
    password: str
    users: str
    longest: int
    system: frozenset[str]
    hidden: tuple[str, ...]


DIALECTS = {
    "mariadb": Dialect(
        "IDENTIFIED VIA AWSAuthenticationPlugin USING 'RDS'", "unix_socket", "mysql_native_password",
        "mysql.global_priv", 80, frozenset({"mariadb.sys@localhost"}),
        ("SELECT Password FROM mysql.user", "SELECT Priv FROM mysql.global_priv"),
    ),
    "mysql": Dialect(
        "IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'", "auth_socket", "caching_sha2_password",
        "mysql.user", 32, frozenset({
            "mysql.infoschema@localhost", "mysql.session@localhost", "mysql.sys@localhost", "rds_superuser_role@%",
        }),
        ("SELECT User_attributes FROM mysql.user", "SELECT * FROM mysql.global_grants"),
    ),
}  # fmt: skip

IAM = {"iam": True, "tls": True}
FAR = "'{u}'@'10.%'"
_HASH = "'*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19'"
_PLUGIN = "AWSAuthenticationPlugin USING 'RDS'"
_NATIVE = f"mysql_native_password USING {_HASH}"
MARIADB: dict[str, Case] = {
    "iam": ([f"CREATE USER {FAR} IDENTIFIED VIA {_PLUGIN} REQUIRE SSL"], IAM, False),
    "iam without tls": ([f"CREATE USER {FAR} IDENTIFIED VIA {_PLUGIN}"], {"iam": True}, False),
    "password": ([f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE}"], {}, True),
    "password over tls": ([f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE} REQUIRE X509"], {"tls": True}, True),
    "iam or password": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_PLUGIN} OR {_NATIVE} REQUIRE SSL"],
        {**IAM, "second_password": True}, True,
    ),
    "password or iam": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE} OR {_PLUGIN}"], {"iam": True, "second_password": True}, True,
    ),
    "iam or no password": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_PLUGIN} OR mysql_native_password"],
        {"iam": True, "second_password": True, "empty_password": True}, True,
    ),
    "iam or a hash that nothing has": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_PLUGIN} OR mysql_native_password USING 'invalid'"], {"iam": True}, False,
    ),
    "no password": ([f"CREATE USER {FAR}"], {"empty_password": True}, True),
    "the server's socket": ([f"CREATE USER {FAR} IDENTIFIED VIA unix_socket"], {}, False),
    "hash that nothing has": (
        [f"CREATE USER {FAR} IDENTIFIED VIA mysql_native_password USING 'invalid'"], {"unusable": True}, False,
    ),
    "hash that says so": (
        [f"CREATE USER {FAR} IDENTIFIED VIA mysql_native_password USING '*THISISNOTAVALIDPASSWORDTHATCANBEUSEDHERE'"],
        {"unusable": True}, False,
    ),
    "locked": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE} ACCOUNT LOCK"], {"locked": True, "unusable": True}, True,
    ),
    "unlocked again": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE} ACCOUNT LOCK", f"ALTER USER {FAR} ACCOUNT UNLOCK"], {}, True,
    ),
    "expired": ([f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE} PASSWORD EXPIRE"], {"expired": True}, True),
    "expires some day": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE} PASSWORD EXPIRE INTERVAL 3 DAY"], {}, True,
    ),
    "expired by age": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE} PASSWORD EXPIRE INTERVAL 3 DAY",
         "UPDATE mysql.global_priv SET Priv = JSON_SET(Priv, '$.password_last_changed', UNIX_TIMESTAMP() - 259201) "
         "WHERE User = '{u}'"],
        {"expired": True}, True,
    ),
    "ed25519": (
        [f"CREATE USER {FAR}", "UPDATE mysql.global_priv SET Priv = JSON_SET(Priv, '$.plugin', 'ed25519', "
         "'$.authentication_string', CONCAT(REPEAT('q', 42), '+')) WHERE User = '{u}'"],
        {}, True,
    ),
    "pam": (
        [f"CREATE USER {FAR}", "UPDATE mysql.global_priv SET Priv = JSON_SET(Priv, '$.plugin', 'pam') "
         "WHERE User = '{u}'"],
        {}, True,
    ),
    "makes users": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE}", f"GRANT CREATE USER ON *.* TO {FAR}"],
        {"administrator": True, "privileges": {"*": ("CREATE USER",)}}, True,
    ),
    "grants": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE}", f"GRANT SELECT ON *.* TO {FAR} WITH GRANT OPTION"],
        {"administrator": True, "privileges": {"*": ("GRANT OPTION", "SELECT")}}, True,
    ),
    "super": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE}", f"GRANT SUPER ON *.* TO {FAR}"],
        {"administrator": True, "privileges": {"*": ("SUPER",)}}, True,
    ),
    "writes to the grant tables": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE}", f"GRANT UPDATE ON mysql.* TO {FAR}"],
        {"administrator": True, "privileges": {"mysql": ("UPDATE",)}}, True,
    ),
    "administrator by a role in a role": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE}", "CREATE ROLE chiefs", "CREATE ROLE bosses",
         "GRANT CREATE USER ON *.* TO chiefs", "GRANT chiefs TO bosses", f"GRANT bosses TO {FAR}"],
        {"administrator": True, "member_of": ("bosses",)}, True,
    ),
    "replication": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE}", f"GRANT REPLICATION SLAVE ON *.* TO {FAR}"],
        {"replication": True, "privileges": {"*": ("REPLICATION SLAVE",)}}, True,
    ),
    "reads two schemas": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE}", f"GRANT SELECT, EXECUTE ON shop.* TO {FAR}",
         rf"GRANT CREATE TEMPORARY TABLES ON `my\_app`.* TO {FAR}"],
        {"privileges": {"shop": ("EXECUTE", "SELECT"), "my_app": ("CREATE TEMPORARY TABLES",)}}, True,
    ),
    "definer of a routine": (
        [f"CREATE USER {FAR} IDENTIFIED VIA {_NATIVE}",
         f"CREATE DEFINER={FAR} PROCEDURE shop.of_{{u}}() SELECT 1"],
        {"owns": 1}, True,
    ),
}  # fmt: skip

_TOKEN = "AWSAuthenticationPlugin AS 'RDS'"
_SHA2 = "caching_sha2_password BY 'a-Password-1'"
_INVALID = "$A$005$THISISACOMBINATIONOFINVALIDSALTANDPASSWORDTHATMUSTNEVERBRBEUSED"
MYSQL: dict[str, Case] = {
    "iam": ([f"CREATE USER {FAR} IDENTIFIED WITH {_TOKEN} REQUIRE SSL"], IAM, False),
    "iam without tls": ([f"CREATE USER {FAR} IDENTIFIED WITH {_TOKEN}"], {"iam": True}, False),
    "password": ([f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}"], {}, True),
    "password over tls": ([f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2} REQUIRE X509"], {"tls": True}, True),
    "no password": ([f"CREATE USER {FAR}"], {"empty_password": True}, True),
    "locked": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2} ACCOUNT LOCK"], {"locked": True, "unusable": True}, True,
    ),
    "unlocked again": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2} ACCOUNT LOCK", f"ALTER USER {FAR} ACCOUNT UNLOCK"], {}, True,
    ),
    "expired": ([f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2} PASSWORD EXPIRE"], {"expired": True}, True),
    "expires some day": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2} PASSWORD EXPIRE INTERVAL 3 DAY"], {}, True,
    ),
    "makes users": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", f"GRANT CREATE USER ON *.* TO {FAR}"],
        {"administrator": True, "privileges": {"*": ("CREATE USER",)}}, True,
    ),
    "grants": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", f"GRANT SELECT ON *.* TO {FAR} WITH GRANT OPTION"],
        {"administrator": True, "privileges": {"*": ("GRANT OPTION", "SELECT")}}, True,
    ),
    "super": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", f"GRANT SUPER ON *.* TO {FAR}"],
        {"administrator": True, "privileges": {"*": ("SUPER",)}}, True,
    ),
    "writes to the grant tables": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", f"GRANT UPDATE ON mysql.* TO {FAR}"],
        {"administrator": True, "privileges": {"mysql": ("UPDATE",)}}, True,
    ),
    "administrator by a role in a role": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", "CREATE ROLE chiefs", "CREATE ROLE bosses",
         "GRANT CREATE USER ON *.* TO chiefs", "GRANT chiefs TO bosses", f"GRANT bosses TO {FAR}"],
        {"administrator": True, "member_of": ("bosses",)}, True,
    ),
    "replication": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", f"GRANT REPLICATION SLAVE ON *.* TO {FAR}"],
        {"replication": True, "privileges": {"*": ("REPLICATION SLAVE",)}}, True,
    ),
    "reads two schemas": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", f"GRANT SELECT, EXECUTE ON shop.* TO {FAR}",
         f"GRANT CREATE TEMPORARY TABLES ON `my_app`.* TO {FAR}"],
        {"privileges": {"shop": ("EXECUTE", "SELECT"), "my_app": ("CREATE TEMPORARY TABLES",)}}, True,
    ),
    "definer of a routine": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}",
         f"CREATE DEFINER={FAR} PROCEDURE shop.of_{{u}}() SELECT 1"],
        {"owns": 1}, True,
    ),
    "two passwords": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}",
         f"ALTER USER {FAR} IDENTIFIED BY 'a-Password-2' RETAIN CURRENT PASSWORD"],
        {}, True,
    ),
    "iam after two passwords": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}",
         f"ALTER USER {FAR} IDENTIFIED BY 'a-Password-2' RETAIN CURRENT PASSWORD",
         f"ALTER USER {FAR} IDENTIFIED WITH {_TOKEN} REQUIRE SSL"],
        IAM, False,
    ),
    "password and iam as a second factor": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2} AND IDENTIFIED WITH {_TOKEN} REQUIRE SSL"],
        {"tls": True, "further_factors": 1}, True,
    ),
    "the server's socket": ([f"CREATE USER {FAR} IDENTIFIED WITH auth_socket"], {}, False),
    "a plugin that refuses everyone": (
        [f"CREATE USER {FAR} IDENTIFIED WITH mysql_no_login"], {"unusable": True}, False,
    ),
    "sha256": ([f"CREATE USER {FAR} IDENTIFIED WITH sha256_password BY 'a-Password-1'"], {}, True),
    "sha256 without a password": (
        [f"CREATE USER {FAR} IDENTIFIED WITH sha256_password"], {"empty_password": True}, True,
    ),
    "hash that nothing has": (
        [f"CREATE USER {FAR} IDENTIFIED WITH caching_sha2_password AS '{_INVALID}'"], {"unusable": True}, False,
    ),
    "expired by age": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2} PASSWORD EXPIRE INTERVAL 3 DAY",
         "UPDATE mysql.user SET password_last_changed = NOW() - INTERVAL 4 DAY WHERE User = '{u}'"],
        {"expired": True}, True,
    ),
    "grants roles": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", f"GRANT ROLE_ADMIN ON *.* TO {FAR}"],
        {"administrator": True, "privileges": {"*": ("ROLE_ADMIN",)}}, True,
    ),
    "makes others the definer": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", f"GRANT SET_ANY_DEFINER ON *.* TO {FAR}"],
        {"administrator": True, "privileges": {"*": ("SET_ANY_DEFINER",)}}, True,
    ),
    "other dynamic privileges": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", f"GRANT CONNECTION_ADMIN, SYSTEM_USER ON *.* TO {FAR}"],
        {"privileges": {"*": ("CONNECTION_ADMIN", "SYSTEM_USER")}}, True,
    ),
    "makes roles": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", f"GRANT CREATE ROLE, DROP ROLE ON *.* TO {FAR}"],
        {"privileges": {"*": ("CREATE ROLE", "DROP ROLE")}}, True,
    ),
    "writes everywhere but on the grant tables": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", f"GRANT INSERT, UPDATE ON *.* TO {FAR}",
         f"REVOKE INSERT, UPDATE ON mysql.* FROM {FAR}"],
        {"privileges": {"*": ("INSERT", "UPDATE")}}, True,
    ),
    "reads a schema whose name has a backslash": (
        [f"CREATE USER {FAR} IDENTIFIED WITH {_SHA2}", rf"GRANT SELECT ON `my\_other`.* TO {FAR}"],
        {"privileges": {"my\\_other": ("SELECT",)}}, True,
    ),
}  # fmt: skip
