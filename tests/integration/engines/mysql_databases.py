"""Databases of MySQL and MariaDB as people have them before rdsiam: definers, roles, odd names; made by plain SQL.

Each schema has a table `things`. Accounts have passwords; `ghost` is the definer of objects and does not exist.
"""

import re
from pathlib import Path

from tests.integration.place import Client, Place

PASSWORD = "old-Password-1"
SCHEMAS = ("shop", "my_app", "myXapp", "Sales%2024", "Mixed_Case", "tick`ed", "empty_one", "söder", "a-b c")

_DEFINITIONS = Path(__file__).with_suffix(".sql")
#: As the master.
_GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE, EVENT, TRIGGER ON shop.* TO legacy@'%'
GRANT SELECT ON {my_app}.* TO legacy@'%'
GRANT SELECT (id, name), UPDATE (email) ON shop.customer TO app@'%'
GRANT SELECT, INSERT ON shop.invoice TO app@'10.%'
GRANT EXECUTE ON FUNCTION shop.total TO app@'%'
GRANT EXECUTE ON PROCEDURE shop.note TO app@'%' WITH GRANT OPTION
GRANT SELECT ON {my_app}.* TO app@'10.%' WITH GRANT OPTION
GRANT SELECT ON *.* TO backup@'10.0.0.%'
GRANT LOCK TABLES, PROCESS, RELOAD, REPLICATION CLIENT ON *.* TO backup@'10.0.0.%'
CREATE ROLE clerk
CREATE ROLE chief
GRANT SELECT ON shop.* TO clerk
GRANT INSERT, UPDATE ON {sales}.* TO chief
GRANT clerk TO chief
GRANT clerk TO app@'%'
GRANT chief TO adopted@'%'
GRANT SELECT (v) ON my_app.settings TO adopted@'%'
GRANT EXECUTE ON PROCEDURE shop.note TO adopted@'%'
"""
_ACCOUNTS = (
    "legacy@'%'", "app@'%'", "app@'10.%'", "backup@'10.0.0.%'", "adopted@'%'", "'Odd name'@'192.168.%'",
    "''@'10.9.9.9'",
)  # fmt: skip


def make(place: Place) -> None:
    """Make the schemas, accounts and objects."""
    mariadb = place.database.engine == "mariadb"
    with place.as_master() as master:
        literal = dict(master.run("SHOW VARIABLES LIKE 'partial_revokes'")).get("partial_revokes") == "ON"
        for schema in SCHEMAS:
            quoted = "`" + schema.replace("`", "``") + "`"
            master.run(f"CREATE DATABASE IF NOT EXISTS {quoted}")
            if schema != "empty_one":
                master.run(f"CREATE TABLE {quoted}.things (id int)")
        for account in _ACCOUNTS:
            master.run(f"CREATE USER {account} IDENTIFIED BY '{PASSWORD}'")
    with place.as_rdsadmin() as admin:  # definers that don't exist, or not yet
        for definition in re.findall(r"^CREATE.*?(?=;\n)", _DEFINITIONS.read_text(), re.DOTALL | re.MULTILINE):
            admin.run(definition)
    names = {"my_app": "`my_app`", "sales": "`Sales%2024`"}
    if not literal:
        names = {name: text.replace("_", r"\_").replace("%", r"\%") for name, text in names.items()}
    with place.as_master() as master:
        for grant in filter(None, _GRANTS.splitlines()):
            master.run(grant.format(**names))
    with place.as_rdsadmin() as admin:
        admin.run(f"SET DEFAULT ROLE clerk {'FOR' if mariadb else 'TO'} app@'%'")


def dump(place: Place) -> dict[str, str]:
    """Return all accounts, rights and definitions of a server, each under its name, as SHOW shows them."""
    with place.as_rdsadmin("information_schema") as admin:
        return _accounts(place, admin) | _definitions(admin)


def _accounts(place: Place, admin: Client) -> dict[str, str]:
    result: dict[str, str] = {}
    roles = ", is_role" if place.database.engine == "mariadb" else ", 'N'"
    for user, host, is_role in admin.run(f"SELECT User, Host{roles} FROM mysql.user"):
        name = f"`{user}`" if is_role == "Y" else f"'{user}'@'{host}'"
        if is_role != "Y":
            result[f"user {name}"] = admin.run(f"SHOW CREATE USER {name}")[0][0]
        for [grant] in admin.run(f"SHOW GRANTS FOR {name}"):
            key = f"grant {name} {re.split(' (?:TO|FROM) ', grant.partition(' ON ')[2])[0] or grant}"
            result[key] = f"{result.get(key, '')}{_without_login(grant)}\n"
    return result


def _without_login(grant: str) -> str:
    """Leave out how an account logs in, which MariaDB shows among its rights too."""
    rights, _, login = grant.partition(" IDENTIFIED ")
    rights = rights.partition(" REQUIRE ")[0].partition(" WITH MAX_USER_CONNECTIONS")[0]
    return f"{rights} WITH GRANT OPTION" if "WITH GRANT OPTION" in login else rights


def _definitions(admin: Client) -> dict[str, str]:
    result: dict[str, str] = {}
    schemas = admin.run("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")
    for [schema] in schemas:
        if schema in {"mysql", "sys", "information_schema", "performance_schema"}:
            continue
        quoted = "`" + schema.replace("`", "``") + "`"
        result[f"schema {schema}"] = admin.run(f"SHOW CREATE DATABASE {quoted}")[0][1]
        for query, kind, column in (
            ("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{}'", "TABLE", 1),
            ("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{}'", "TRIGGER", 2),
            ("SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{}'", "EVENT", 3),
            ("SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{}' "
             "AND ROUTINE_TYPE = 'FUNCTION'", "FUNCTION", 2),
            ("SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{}' "
             "AND ROUTINE_TYPE = 'PROCEDURE'", "PROCEDURE", 2),
        ):  # fmt: skip
            for [name] in admin.run(query.format(schema)):
                shown = admin.run(f"SHOW CREATE {kind} {quoted}.`{name}`")[0]
                result[f"{kind.lower()} {schema}.{name}"] = str(shown[column])
    return result
