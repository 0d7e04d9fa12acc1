"""Facts that the audit reads of MySQL, and the statements that follow from them, on a real server."""

import itertools
import re
from typing import Any

import pytest

from rdsiam.audit import collect
from rdsiam.engines.facts import AccountFacts, ServerFacts
from rdsiam.engines.logins import AUDITOR, Token
from rdsiam.engines.mysql.remediation import MysqlRemediationSql
from rdsiam.engines.protocols import DesiredState
from tests.integration.place import DENIED, Place, user

NUMBERS = itertools.count()
ONE = (user("declared", ("shop", "readwrite")),)


class Auditor:
    def auditor(self, _: object) -> Token:
        return Token(AUDITOR, f"token-of-{AUDITOR}")


@pytest.fixture(scope="module")
def mysql(make_place) -> tuple[Place, DesiredState]:
    place = make_place("mysql")
    return place, place.converge(DesiredState(ONE, {}))[1]


@pytest.fixture
def place(mysql) -> Place:
    return mysql[0]


def differing(account: AccountFacts) -> dict[str, Any]:
    """Return what is not as of an ordinary account."""
    plain = AccountFacts(account.name, account.host).to_json()
    found = {key: value for key, value in account.to_json().items() if value != plain[key]}
    return {key: value for key, value in found.items() if key not in {"host", "plugin", "sessions", "schema_names"}}


TOKENS = "AWSAuthenticationPlugin AS 'RDS'"
CREATE = "CREATE USER {u} IDENTIFIED BY 'a-Password-1'"
PASSWORD = {"password": True}
IAM = {"iam": True, "tls": True, "password": False}
ADMINISTRATOR = {"administrator": True}
#: Beyond those of `mysql_accounts`.
CASES = {
    "locks itself": ([f"{CREATE} FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 1"], PASSWORD | {"locking": True}),
    "grants a dynamic privilege": (
        [CREATE, "GRANT ROLE_ADMIN ON *.* TO {u} WITH GRANT OPTION"],
        PASSWORD | ADMINISTRATOR | {"privileges": {"*": ("ROLE_ADMIN",)}},
    ),
    "writes everywhere": (
        [CREATE, "GRANT INSERT, UPDATE ON *.* TO {u}"],
        PASSWORD | ADMINISTRATOR | {"privileges": {"*": ("INSERT", "UPDATE")}},
    ),
    "inserts everywhere but in mysql and updates everywhere": (
        [CREATE, "GRANT INSERT, UPDATE ON *.* TO {u}", "REVOKE INSERT ON mysql.* FROM {u}"],
        PASSWORD | ADMINISTRATOR | {"privileges": {"*": ("INSERT", "UPDATE")}},
    ),
    "writes everywhere but in a schema": (
        [CREATE, "GRANT UPDATE ON *.* TO {u}", "REVOKE UPDATE ON shop.* FROM {u}"],
        PASSWORD | ADMINISTRATOR | {"privileges": {"*": ("UPDATE",)}},
    ),
    "writes to mysql.user": ([CREATE, "GRANT UPDATE ON mysql.user TO {u}"], PASSWORD | ADMINISTRATOR),
    "writes to a column of mysql.user": (
        [CREATE, "GRANT UPDATE (authentication_string) ON mysql.user TO {u}"], PASSWORD | ADMINISTRATOR,
    ),
    "reads mysql.user": ([CREATE, "GRANT SELECT ON mysql.user TO {u}"], PASSWORD),
    "writes to a harmless table": ([CREATE, "GRANT UPDATE ON mysql.time_zone TO {u}"], PASSWORD),
    "like the master": (
        [CREATE, "GRANT rds_superuser_role TO {u}"],
        PASSWORD | ADMINISTRATOR | {"member_of": ("rds_superuser_role",)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_facts_of_mysql_have_users_that_can_become_an_administrator(place, case):
    statements, expected = CASES[case]
    name = f"u{list(CASES).index(case)}"
    with place.as_rdsadmin() as admin:
        for statement in statements:
            admin.run(statement.format(u=f"{name}@'10.%'", n=name))
    account = place.audit()[f"{name}@10.%"]
    assert differing(account) == expected
    assert AccountFacts.from_json(account.to_json()) == account


def test_facts_of_mariadb_have_every_global_privilege_by_its_name(make_place):
    """Beyond the common ones; each is what GRANT takes and SHOW GRANTS shows."""
    place = make_place("mariadb")
    place.converge(DesiredState(ONE, {}))
    names = (
        "BINLOG ADMIN", "BINLOG REPLAY", "CONNECTION ADMIN", "DELETE HISTORY", "FEDERATED ADMIN", "READ_ONLY ADMIN",
        "REPLICATION MASTER ADMIN", "REPLICATION SLAVE ADMIN", "SET USER", "SLAVE MONITOR",
    )  # fmt: skip
    with place.as_rdsadmin() as admin:
        for number, name in enumerate(names):
            admin.run(f"CREATE USER holder{number} IDENTIFIED BY 'a-Password-1'")
            admin.run(f"GRANT {name} ON *.* TO holder{number}")
        admin.run("CREATE USER holder IDENTIFIED BY 'a-Password-1'")
        admin.run("GRANT ALL ON *.* TO holder")
    accounts = place.audit()
    for number, name in enumerate(names):
        account = accounts[f"holder{number}@%"]
        assert account.privileges == {"*": (name,)}
        assert account.administrator is (name == "SET USER")
    assert set(names) <= set(accounts["holder@%"].privileges["*"])
    sql = MysqlRemediationSql()
    with place.as_master() as master, pytest.raises(DENIED):  # the master has none of them to give
        master.run("GRANT BINLOG ADMIN ON *.* TO holder")
    with place.as_rdsadmin() as admin:
        for number in range(len(names)):
            account = accounts[f"holder{number}@%"]
            for text in sql.revoke(account, "*", account.privileges["*"]):
                admin.run(text)
    assert place.audit()["holder0@%"].privileges == {}


def test_every_user_has_a_mandatory_role(place):
    with place.as_rdsadmin() as admin:
        admin.run("CREATE ROLE IF NOT EXISTS everyone, 'user makers'@'%'")
        admin.run("GRANT CREATE USER ON *.* TO 'user makers'")
        try:
            admin.run("SET GLOBAL mandatory_roles = 'everyone'")
            account = place.audit()["declared@%"]
            assert (account.administrator, account.member_of) == (False, ("everyone",))
            admin.run("SET GLOBAL mandatory_roles = 'everyone,`user makers`@`%`'")
            account = place.audit()["declared@%"]
            assert (account.administrator, account.member_of) == (True, ("everyone", "user makers"))
            with place.as_user("declared") as client:
                client.run("SET ROLE ALL")
                client.run("CREATE USER made_by_declared")
        finally:
            admin.run("SET GLOBAL mandatory_roles = ''")


def test_one_call_of_the_procedure_reads_all_and_returns_no_hash(place):
    with place.as_rdsadmin() as admin:
        admin.run(
            "CREATE USER hashed IDENTIFIED BY 'a-Password-1' AND IDENTIFIED WITH AWSAuthenticationPlugin AS 'AWS5E'"
        )
        admin.run("CREATE USER hashed2 IDENTIFIED WITH sha256_password BY 'a-Password-1'")
        admin.run("ALTER USER hashed2 IDENTIFIED BY 'b-Password-1' RETAIN CURRENT PASSWORD")
        hashes = {row[0] for row in admin.run("SELECT authentication_string FROM mysql.user")} - {"", "RDS", "invalid"}
        hashes |= {row[0] for row in admin.run("SELECT User_attributes->>'$.additional_password' FROM mysql.user")}
        admin.run("SET GLOBAL log_output = 'TABLE'")
        admin.run("SET GLOBAL general_log = ON")
        assert isinstance(collect.read(place.database, Auditor()), ServerFacts)
        admin.run("SET GLOBAL general_log = OFF")
        log = admin.run(f"SELECT command_type, argument FROM mysql.general_log WHERE user_host LIKE '%{AUDITOR}%'")
    kinds = [row[0] for row in log]
    assert kinds.count("Connect") == 1
    assert 1 <= kinds.count("Query") <= 3
    session = place.engine.connect(place.database, Token(AUDITOR, f"token-of-{AUDITOR}"), None)
    returned = []
    with session.cursor() as cursor:
        cursor.execute("CALL rdsiam.audit()")
        returned.append(cursor.fetchall())
        while cursor.nextset():
            returned.append(cursor.fetchall())
    session.close()
    assert "hashed2" in str(returned)
    texts = {each.decode() if isinstance(each, bytes) else each for each in hashes if each}
    assert len(texts) > 3
    assert not [each for each in texts if repr(each)[1:-1] in str(returned)]
    assert not re.search(r"\$A\$|\$5\$", str(returned))


@pytest.mark.parametrize(
    "statement",
    ["SELECT authentication_string FROM mysql.user", "SELECT User FROM mysql.user", "SELECT * FROM mysql.global_grants",
     "SHOW CREATE USER boss@'%'", "SHOW GRANTS FOR boss@'%'", "DROP PROCEDURE rdsiam.audit", "SELECT * FROM mysql.db",
     "CREATE TABLE rdsiam.mine (id int)", "DROP PROCEDURE IF EXISTS rdsiam.audit", "SELECT * FROM shop.things"],
)  # fmt: skip
def test_the_auditor_reads_nothing_of_mysql(place, statement):
    with place.as_rdsadmin() as admin:
        admin.run("CREATE TABLE IF NOT EXISTS shop.things (id int)")
    with place.as_user(AUDITOR, "rdsiam") as auditor, pytest.raises(DENIED):
        auditor.run(statement)


@pytest.mark.parametrize(
    "options",
    ["", " FAILED_LOGIN_ATTEMPTS 1", " AND IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'",
     " AND IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' AND IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'",
     " AND IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' FAILED_LOGIN_ATTEMPTS 2"],
    ids=["password", "locks itself", "two factors", "three factors", "both"],
)  # fmt: skip
@pytest.mark.parametrize("locked", [False, True])
def test_after_the_conversion_that_the_audit_prints_the_user_logs_in_by_token(place, options, locked):
    name = f"converted{next(NUMBERS)}"
    sql = MysqlRemediationSql()
    with place.as_master() as master:
        master.run(f"CREATE USER {name} IDENTIFIED BY 'a-Password-1'{options}")
        master.run(f"GRANT SELECT ON shop.* TO {name}")
        if locked:
            master.run(f"ALTER USER {name} ACCOUNT LOCK")
        account = place.audit()[f"{name}@%"]
        for text in sql.unlock(account) if locked else sql.convert(account):
            master.run(text)
    for _ in range(3):
        assert place.engine.refuses_passwords(place.database, name, None)
    place.as_user(name).__exit__()
    account = place.audit()[f"{name}@%"]
    assert differing(account) == IAM | {"privileges": {"shop": ("SELECT",)}}
    assert list(sql.convert(account)) == [
        f"ALTER USER '{name}'@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL;"
    ]
