"""Facts that the audit reads, on real servers: every field made true by plain SQL, and the auditor's few rights."""

import re
from typing import Any

import psycopg
import pymysql
import pytest

from rdsiam.audit import collect
from rdsiam.engines.facts import AccountFacts, ServerFacts, Unreadable
from rdsiam.engines.logins import AUDITOR, MANAGER, Token
from rdsiam.engines.statements import QueryFailed
from rdsiam.errors import ConnectionFailed, Refused
from tests.integration.audit.mysql_accounts import IAM, MARIADB, MYSQL
from tests.integration.audit.reading.tokens import Tokens, dialect
from tests.integration.place import DENIED, MASTER
from tests.kinds import needs_mysql


def differing(account: AccountFacts) -> dict[str, Any]:
    """Return what is not as of an ordinary account."""
    plain = AccountFacts(account.name, account.host).to_json()
    found = {key: value for key, value in account.to_json().items() if value != plain[key]}
    return {
        key: value
        for key, value in found.items()
        if key not in {"host", "plugin", "sessions", "password", "schema_names"}
    }


POSTGRES = {
    "iam directly": (["CREATE ROLE {u} LOGIN", "GRANT rds_iam TO {u}"], {**IAM, "member_of": ("rds_iam",)}),
    "iam through two roles": (
        ["CREATE ROLE {u} LOGIN", "CREATE ROLE near", "CREATE ROLE far", "GRANT rds_iam TO far", "GRANT far TO near",
         "GRANT near TO {u}"],
        {**IAM, "iam_through": ("near", "far"), "member_of": ("near",)},
    ),
    "iam by a membership that neither inherits nor sets": (
        ["CREATE ROLE {u} LOGIN", "GRANT rds_iam TO {u} WITH INHERIT FALSE, SET FALSE"],
        {**IAM, "member_of": ("rds_iam",)},
    ),
    "password": (["CREATE ROLE {u} LOGIN PASSWORD 'a-Password-1'"], {}),
    "password that ended": (
        ["CREATE ROLE {u} LOGIN PASSWORD 'a-Password-1' VALID UNTIL '2020-01-01'"],
        {"expired": True, "unusable": True},
    ),
    "password that never ends": (["CREATE ROLE {u} LOGIN PASSWORD 'a-Password-1' VALID UNTIL 'infinity'"], {}),
    "iam with a password that ended": (
        ["CREATE ROLE {u} LOGIN VALID UNTIL '2020-01-01'", "GRANT rds_iam TO {u}"],
        {**IAM, "expired": True, "member_of": ("rds_iam",)},
    ),
    "no connections": (["CREATE ROLE {u} LOGIN CONNECTION LIMIT 0"], {"locked": True, "unusable": True}),
    "makes roles": (["CREATE ROLE {u} LOGIN CREATEROLE"], {"administrator": True}),
    "superuser": (["CREATE ROLE {u} LOGIN SUPERUSER"], {"administrator": True}),
    "member of rds_superuser": (
        ["CREATE ROLE {u} LOGIN", "GRANT rds_superuser TO {u}"],
        {"administrator": True, "member_of": ("rds_superuser",)},
    ),
    "member of one that makes roles": (
        ["CREATE ROLE {u} LOGIN", "CREATE ROLE makers CREATEROLE", "GRANT makers TO {u}"],
        {"administrator": True, "member_of": ("makers",)},
    ),
    "replication": (["CREATE ROLE {u} LOGIN REPLICATION"], {"replication": True}),
    "member of rds_replication": (
        ["CREATE ROLE {u} LOGIN", "GRANT rds_replication TO {u}"],
        {"replication": True, "member_of": ("rds_replication",)},
    ),
    "owner in another database": (
        ["CREATE ROLE {u} LOGIN", "GRANT {u} TO CURRENT_USER", "CREATE DATABASE of_{u} OWNER {u}",
         "CREATE SCHEMA of_{u} AUTHORIZATION {u}", "CREATE TABLE of_{u}.things (id int)",
         "ALTER TABLE of_{u}.things OWNER TO {u}"],
        {"owns": 3},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", POSTGRES)
def test_facts_of_postgres_have_every_change(postgres, case):
    statements, expected = POSTGRES[case]
    place, _ = postgres
    if "INHERIT" in str(statements) and place.version < 16:
        pytest.skip("memberships have options from PostgreSQL 16 on")
    name = f"u{list(POSTGRES).index(case)}"
    with place.as_rdsadmin("postgres") as admin:
        for statement in statements:
            admin.run(statement.format(u=name))
    account = place.audit()[name]
    assert differing(account) == expected
    assert account.password is (False if account.iam else None)
    assert account.sessions == 0


def test_facts_have_a_postgres_role_without_login_only_if_it_has_or_hands_on_rds_iam(postgres):
    place, _ = postgres
    with place.as_rdsadmin() as admin:
        for statement in ("CREATE ROLE team", "GRANT rds_iam TO team", "CREATE ROLE squad", "GRANT team TO squad"):
            admin.run(statement)
        admin.run("CREATE ROLE harmless")
    accounts = place.audit()
    assert (accounts["team"].login, accounts["team"].iam, accounts["team"].iam_through) == (False, True, ())
    assert accounts["squad"].iam_through == ("team",)
    assert not {"harmless", "rds_iam", "rds_superuser", "pg_monitor", "rdsadmin", "shop_readwrite"} & set(accounts)


def test_facts_have_a_postgres_role_that_only_borrows_a_name_of_rds(postgres):
    place, _ = postgres
    with place.as_rdsadmin() as admin:
        admin.run("CREATE ROLE rds_backdoor LOGIN")
    assert "rds_backdoor" in place.audit()


def test_facts_of_postgres_say_whether_it_enforces_tls(postgres):
    place, _ = postgres
    found = collect.read(place.database, Tokens())
    assert isinstance(found, ServerFacts)
    assert found.tls_enforced is (place.version >= 15), "RDS's default from PostgreSQL 15 on"
    for setting, expected in (("1", True), ("on", True), ("0", False), ("off", False)):
        with place.as_rdsadmin() as admin:
            admin.run(f"ALTER ROLE {AUDITOR} SET rds.force_ssl = '{setting}'")
        found = collect.read(place.database, Tokens())
        assert isinstance(found, ServerFacts)
        assert found.tls_enforced is expected
    with place.as_rdsadmin() as admin:
        admin.run(f"ALTER ROLE {AUDITOR} RESET ALL")


CASES = [
    *(pytest.param("mariadb", case, id=f"mariadb-{case}") for case in MARIADB),
    *(pytest.param("mysql", case, id=f"mysql-{case}", marks=needs_mysql) for case in MYSQL),
]


@pytest.mark.parametrize(("family", "case"), CASES, indirect=["family"])
def test_facts_of_mysql_have_every_change(family, case):
    place, _ = family
    cases = MARIADB if place.database.engine == "mariadb" else MYSQL
    statements, expected, password = cases[case]
    name = f"u{list(cases).index(case)}"
    with place.as_rdsadmin() as admin:
        for statement in statements:
            admin.run(statement.format(u=name))
    account = place.audit()[f"{name}@10.%"]
    assert differing(account) == expected
    assert account.password is password
    assert account.sessions == 0


def test_facts_of_mysql_have_the_plugin_of_each_account(family):
    place, _ = family
    with place.as_rdsadmin() as admin:
        admin.run(f"CREATE USER by_socket@'%' IDENTIFIED WITH {dialect(place).socket}")
    accounts = place.audit()
    assert accounts["by_socket@%"].plugin == dialect(place).socket
    assert accounts["declared@%"].plugin == "AWSAuthenticationPlugin"
    assert accounts[f"{MASTER}@%"].plugin == dialect(place).password


def test_facts_of_mysql_have_anonymous_users_and_every_host_pattern_but_no_role_and_no_account_of_the_system(family):
    place, _ = family
    with place.as_rdsadmin() as admin:
        admin.run("CREATE USER ''@'localhost', many@'%', many@'10.0.0.%', rdsadmin@'%', AWS_backdoor@'%'")
        admin.run("CREATE ROLE some_role, AWS_LAMBDA_ACCESS")
    accounts = place.audit()
    assert {"@localhost", "many@%", "many@10.0.0.%", "rdsadmin@%", "AWS_backdoor@%"} <= set(accounts)
    own = {"some_role@%", "AWS_LAMBDA_ACCESS@%", "some_role", "AWS_LAMBDA_ACCESS", "rdsadmin@localhost"}
    assert not (own | dialect(place).system) & set(accounts)
    with place.as_rdsadmin() as admin:
        admin.run("DROP USER rdsadmin@'%'")


def test_facts_of_mysql_say_whether_it_enforces_tls(family):
    place, _ = family
    for setting, expected in (("ON", True), ("OFF", False)):
        with place.as_rdsadmin() as admin:
            admin.run(f"SET GLOBAL require_secure_transport = {setting}")
        found = collect.read(place.database, Tokens())
        assert isinstance(found, ServerFacts)
        assert found.tls_enforced is expected


def test_facts_have_the_version_and_every_database_but_the_servers_own(place):
    with place.as_master() as master:
        master.run("CREATE DATABASE warehouse")
    found = collect.read(place.database, Tokens())
    assert isinstance(found, ServerFacts)
    assert re.match(r"\d+\.\d+", found.version)
    assert {"shop", "warehouse"} <= set(found.databases)
    assert not {"template0", "template1", "rdsadmin", "mysql", "information_schema", "rdsiam"} & set(found.databases)
    assert list(found.databases) == sorted(found.databases)


def test_open_sessions_are_seen_and_what_they_do_is_not(place):
    label = "declared" if place.database.family == "postgres" else "declared@%"
    assert (place.audit()[label].sessions, place.audit()[label].last_seen) == (0, None)
    with place.as_user("declared") as declared, place.as_user("declared"):
        declared.run("SELECT 'my secret thing'")
        account = place.audit()[label]
        assert account.sessions == 2
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", account.last_seen or "")
        with place.as_user(AUDITOR, "postgres" if place.database.family == "postgres" else "rdsiam") as auditor:
            activity = (
                "SELECT query FROM pg_catalog.pg_stat_activity"
                if place.database.family == "postgres"
                else "SELECT INFO FROM information_schema.PROCESSLIST"
            )
            assert "secret thing" not in str(auditor.run(activity))


def test_a_session_counts_for_none_of_several_host_patterns(family):
    place, _ = family
    with place.as_rdsadmin() as admin:
        admin.run(f"CREATE USER twice@'%' {dialect(place).token} REQUIRE SSL")
        admin.run(f"CREATE USER twice@'10.%' {dialect(place).token} REQUIRE SSL")
    assert place.audit()["twice@%"].sessions == 0
    with place.as_user("twice", "information_schema"):
        accounts = place.audit()
    assert (accounts["twice@%"].sessions, accounts["twice@10.%"].sessions) == (None, None)


ODD = [
    "quo'te", 'dou"ble', "back\\slash", "back`tick", "per%cent", "%s", "{brace}", "new\nline", "tab\tbed", "a@b",
    "-- x", "'; DROP USER boss; --", "\u202eright to left", "עברית", "ünïcode", "<script>", "=cmd()", "$$", " blank ",
]  # fmt: skip


@pytest.mark.parametrize("name", [*ODD, "🦊 fox", "é" * 31 + "x"], ids=ascii)
def test_names_on_postgres_come_as_they_are(postgres, name):
    place, _ = postgres
    with place.as_rdsadmin() as admin:
        admin.run(psycopg.sql.SQL("CREATE ROLE {} LOGIN").format(psycopg.sql.Identifier(name)).as_string())
        admin.run(psycopg.sql.SQL("GRANT rds_iam TO {}").format(psycopg.sql.Identifier(name)).as_string())
    account = place.audit()[name]
    assert (account.name, account.iam) == (name, True)
    assert AccountFacts.from_json(account.to_json()) == account


def test_a_postgres_name_in_another_encoding_hides_nobody(postgres):
    place, _ = postgres
    with place.as_rdsadmin() as admin:
        admin.run("CREATE DATABASE western ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with place.server._connect() as setting:
        setting.autocommit = True
        info = setting.info
        with psycopg.connect(
            host=info.host, port=info.port, user=info.user, password=info.password, dbname="western", autocommit=True
        ) as western:
            western.execute("CREATE ROLE m\u00fcller LOGIN")
    assert {"m\\xfcller", "declared"} <= set(place.audit())


@pytest.mark.parametrize("name", [*ODD, "longest"], ids=ascii)
def test_names_on_mysql_come_as_they_are(family, name):
    place, _ = family
    name = "a" * dialect(place).longest if name == "longest" else name
    with place.as_rdsadmin() as admin:
        quoted = pymysql.converters.escape_string(name)
        admin.run(f"CREATE USER '{quoted}'@'%' {dialect(place).token}")
        admin.run(f"GRANT SELECT ON shop.* TO '{quoted}'@'%'")
        # MariaDB drops blanks at the end, MySQL at the beginning too.
        kept = name.rstrip(" ") if place.database.engine == "mariadb" else name.strip(" ")
        written = pymysql.converters.escape_string(kept)
        assert admin.run(f"SELECT User FROM mysql.user WHERE User = '{written}'") == [(kept,)]
    account = place.audit()[f"{kept}@%"]
    assert (account.name, account.iam, account.privileges) == (kept, True, {"shop": ("SELECT",)})


def test_one_connection_and_three_queries_at_most_on_postgres(postgres):
    place, _ = postgres
    log = place.server._directory / "postgres.log"
    with place.as_rdsadmin() as admin:
        admin.run(f"ALTER ROLE {AUDITOR} SET log_statement = 'all'")
    before = log.stat().st_size
    assert isinstance(collect.read(place.database, Tokens()), ServerFacts)
    written = log.read_bytes()[before:].decode()
    with place.as_rdsadmin() as admin:
        admin.run(f"ALTER ROLE {AUDITOR} RESET ALL")
    said = re.findall(r"\[(\d+)\] LOG:  (?:statement|execute [^:]*):", written)
    assert 1 <= len(said) <= 3
    assert len(set(said)) == 1


def test_one_connection_and_three_queries_at_most_on_mysql(family):
    place, _ = family

    with place.as_rdsadmin() as admin:
        admin.run("SET GLOBAL log_output = 'TABLE'")
        admin.run("SET GLOBAL general_log = ON")
        assert isinstance(collect.read(place.database, Tokens()), ServerFacts)
        admin.run("SET GLOBAL general_log = OFF")
        said = admin.run(f"SELECT command_type, argument FROM mysql.general_log WHERE user_host LIKE '%{AUDITOR}%'")
    kinds = [row[0] for row in said]
    assert kinds.count("Connect") == 1
    assert 1 <= kinds.count("Query") <= 3
    assert set(kinds) <= {"Connect", "Query", "Quit"}


HIDDEN = {
    "postgres": (
        "SELECT rolpassword FROM pg_catalog.pg_authid", "SELECT passwd FROM pg_catalog.pg_shadow",
        "CREATE ROLE other", "GRANT rds_iam TO boss", "CREATE TABLE public.mine (id int)",
    ),
    "mysql": (
        "SELECT authentication_string FROM mysql.user", "SELECT User FROM mysql.user", "SELECT * FROM mysql.db",
        "SHOW CREATE USER boss@'%'", "SHOW GRANTS FOR boss@'%'", "DROP PROCEDURE rdsiam.audit",
        "CREATE TABLE rdsiam.mine (id int)", "CREATE PROCEDURE rdsiam.other() SELECT 1",
        "SELECT * FROM shop.things",
    ),
}  # fmt: skip


def test_the_auditor_reads_no_hash_and_changes_nothing(place):
    with place.as_rdsadmin() as admin:
        if place.database.family == "mysql":
            admin.run("CREATE TABLE IF NOT EXISTS shop.things (id int)")
        elif place.version < 15:
            with place.as_rdsadmin("postgres") as in_postgres:  # as the finding `public-may-create` has it
                in_postgres.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with place.as_user(AUDITOR, "postgres" if place.database.family == "postgres" else "rdsiam") as auditor:
        hidden = () if place.database.family == "postgres" else dialect(place).hidden
        for statement in (*HIDDEN[place.database.family], *hidden):
            with pytest.raises(DENIED):
                auditor.run(statement)
        if place.database.family == "postgres":
            assert {row[0] for row in auditor.run("SELECT rolpassword FROM pg_catalog.pg_roles")} == {"********"}


def test_what_the_procedure_returns_holds_no_hash(family):
    place, _ = family
    with place.as_rdsadmin() as admin:
        admin.run("CREATE USER hashed@'%' IDENTIFIED BY 'a-Password-1'")
        hashes = {row[0] for row in admin.run("SELECT authentication_string FROM mysql.user")} - {"", "RDS", "invalid"}
    session = place.engine.connect(place.database, Token(AUDITOR, f"token-of-{AUDITOR}"), None)
    returned = []
    with session.cursor() as cursor:
        cursor.execute("CALL rdsiam.audit()")
        returned.append(cursor.fetchall())
        while cursor.nextset():
            returned.append(cursor.fetchall())
    session.close()
    assert "hashed" in str(returned)
    assert hashes
    assert not [one for one in hashes if one in str(returned)]
    assert not re.search(r"[0-9A-F]{16}", str(returned))


def test_the_wide_grants_of_earlier_versions_are_revoked_and_stay_revoked(family):
    place, desired = family
    with place.as_master() as master:
        for table in (dialect(place).users, "mysql.db", "mysql.procs_priv"):
            master.run(f"GRANT SELECT ON {table} TO {AUDITOR}@'%'")
    planned, desired = place.converge(desired)
    assert {s.kind for s in planned} == {"revoke"}
    assert place.opened == ["manager"]
    with place.as_rdsadmin() as admin:
        grants = [row[0] for row in admin.run(f"SHOW GRANTS FOR {AUDITOR}@'%'")]
    assert len(grants) == 2
    assert grants[0].startswith("GRANT USAGE ON *.*")
    assert grants[1] == f"GRANT EXECUTE ON PROCEDURE `rdsiam`.`audit` TO `{AUDITOR}`@`%`"
    assert place.converge(desired)[0] == []


def test_a_procedure_that_was_tampered_with_is_created_again_and_a_foreign_one_is_refused(family):
    place, desired = family
    with place.as_user(MANAGER, "rdsiam") as manager:
        manager.run("DROP PROCEDURE rdsiam.audit")
        manager.run("CREATE PROCEDURE rdsiam.audit() SQL SECURITY DEFINER SELECT 'all is well'")
    with pytest.raises(QueryFailed):
        place.audit()
    assert isinstance(collect.read(place.database, Tokens()), Unreadable)
    statements, desired = place.converge(desired)
    assert [s.statement.split()[0] for s in statements] == ["DROP", "CREATE", "GRANT"]
    assert "declared@%" in place.audit()
    assert place.converge(desired)[0] == []
    with place.as_master() as master:
        master.run("DROP PROCEDURE rdsiam.audit")
        master.run("CREATE PROCEDURE rdsiam.audit() SELECT 'mine'")
    with pytest.raises(Refused, match="that rdsiam did not make"):
        place.converge(desired)
    with place.as_master() as master:
        master.run("DROP PROCEDURE rdsiam.audit")
    place.converge(desired)
    assert "declared@%" in place.audit()


def test_a_database_that_is_closed_to_everybody_is_opened_to_the_auditor(postgres):
    place, desired = postgres
    with place.as_master("postgres") as master:
        master.run("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    unread = collect.read(place.database, Tokens())
    assert isinstance(unread, Unreadable)
    assert unread.stage == "login"
    with pytest.raises(ConnectionFailed):
        place.converge(desired)
    statements, desired = place.converge(desired, reader="master")  # as onboarding does if the manager is not let in
    opened = [f'GRANT CONNECT ON DATABASE "postgres" TO "{name}"' for name in (MANAGER, AUDITOR)]
    assert [s.statement for s in statements] == opened
    assert isinstance(collect.read(place.database, Tokens()), ServerFacts)
    assert place.converge(desired)[0] == []
