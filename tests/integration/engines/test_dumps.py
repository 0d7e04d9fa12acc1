"""Settings of owners stay as they are through every kind of run: dumps differ in what `changes` lists.

Memberships with options and grantors, settings, default privileges, owners, limits, ends of validity, comments; on
MySQL and MariaDB host patterns, TLS requirements, limits, comments. The dumps have no passwords.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from rdsiam.core.changes import Change
from rdsiam.engines.logins import AUDITOR, MANAGER, Password, Token
from rdsiam.engines.postgres import database_privileges
from rdsiam.engines.protocols import DesiredState, Sessions
from rdsiam.engines.registry import MIGRATORS, ROTATORS
from tests.integration.engines import mysql_databases, test_real_schemas
from tests.integration.engines.test_mysql_databases import differing, unexplained
from tests.integration.place import Place, user
from tests.kinds import MYSQL, OLDER_EXHAUSTIVE

PASSWORD = "Of-old-Password-1"
READER = user("reader", ("shop", "readonly"))
LEAVER = user("leaver", ("shop", "readwrite"))
OLD_APP = user("old_app", ("shop", "readwrite"), adopt=True)

#: As RDS's superuser, or as another administrator of the owner's.
OWNERS = """
CREATE ROLE deploy CREATEROLE LOGIN PASSWORD 'Of-old-Password-1' VALID UNTIL '2031-05-06 07:08:09+00'
CREATE ROLE team NOLOGIN NOINHERIT
CREATE ROLE old_app LOGIN PASSWORD 'Of-old-Password-1' CONNECTION LIMIT 7 IN ROLE team
ALTER ROLE old_app VALID UNTIL '2030-01-02 03:04:05+00'
COMMENT ON ROLE old_app IS 'the shop''s own: ask Ann'
CREATE ROLE etl LOGIN PASSWORD 'Of-old-Password-1' CONNECTION LIMIT 3 IN ROLE team
CREATE ROLE "migr ator" LOGIN PASSWORD 'Of-old-Password-1'
COMMENT ON ROLE "migr ator" IS 'moves data'
ALTER ROLE old_app SET statement_timeout TO '7min'
ALTER ROLE old_app IN DATABASE shop SET search_path TO "$user", shop, public
ALTER ROLE etl SET role TO team
ALTER DATABASE shop SET work_mem TO '5MB'
CREATE SCHEMA team AUTHORIZATION team
SET ROLE team; CREATE TABLE team.orders (id int); CREATE VIEW team.open AS SELECT id FROM team.orders; RESET ROLE
CREATE TABLE public.things (id int, name text)
ALTER TABLE public.things OWNER TO "migr ator"
CREATE TABLE public.own (id int)
ALTER TABLE public.own OWNER TO old_app
COMMENT ON TABLE public.things IS 'of the migr ator'
ALTER DEFAULT PRIVILEGES FOR ROLE team GRANT SELECT ON TABLES TO etl
ALTER DEFAULT PRIVILEGES FOR ROLE "migr ator" IN SCHEMA public REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC
GRANT SELECT (name) ON public.things TO etl WITH GRANT OPTION
REVOKE CONNECT ON DATABASE shop FROM PUBLIC
GRANT CONNECT ON DATABASE shop TO old_app, etl, team, "migr ator", boss
GRANT etl TO "migr ator"
"""
#: From PostgreSQL 16 on: memberships of the master and of others, with every combination of options.
OPTIONS = """
GRANT team TO boss WITH INHERIT FALSE, SET TRUE
GRANT "migr ator" TO boss WITH ADMIN TRUE, INHERIT FALSE, SET FALSE
GRANT etl TO deploy WITH ADMIN TRUE, INHERIT TRUE, SET FALSE
GRANT team TO deploy WITH ADMIN TRUE
GRANT etl TO boss WITH ADMIN TRUE, INHERIT FALSE, SET FALSE
SET ROLE deploy; GRANT team TO boss WITH INHERIT FALSE, SET FALSE GRANTED BY deploy; RESET ROLE
"""


@pytest.fixture(
    scope="module",
    params=["postgres", pytest.param("postgres-vanilla", marks=pytest.mark.exhaustive), OLDER_EXHAUSTIVE],
)
def postgres(request, make_place) -> Place:
    place: Place = make_place(request.param)
    with place.as_rdsadmin() as admin:
        for line in [*OWNERS.splitlines(), *(OPTIONS.splitlines() if place.version > 15 else [])]:
            if line:
                admin.run(line)
        if place.version > 15 and place.administrator == "vanilla":
            # RDS's own may lock it without, and would lose its own login by this.
            admin.run("GRANT old_app TO boss WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
    with place.as_master() as master:  # the version decides about its membership in what it creates
        if place.version > 15:
            master.run("SET createrole_self_grant TO 'set'")
        master.run(f"CREATE ROLE tool LOGIN PASSWORD '{PASSWORD}'")
    with place.as_rdsadmin() as admin:
        admin.run("CREATE SCHEMA tool AUTHORIZATION tool; CREATE TABLE tool.box (id int)")
        admin.run("ALTER TABLE tool.box OWNER TO tool")
    return place


def dump(place: Place) -> list[str]:
    return test_real_schemas.dump(place)


def lines(before: list[str], after: list[str], *names: str) -> list[str]:
    """Return the lines that differ, and that name none of these, nor what belongs to the service."""
    known = (*names, MANAGER, AUDITOR, "shop_readonly", "shop_readwrite")
    differ = [line for line in difflib.ndiff(before, after) if line.startswith(("+ ", "- "))]
    return [line for line in differ if not any(name in line for name in known)]


def removed(before: list[str], after: list[str]) -> list[str]:
    return [line for line in before if line not in after]


@pytest.fixture(scope="module")
def onboarded(postgres) -> dict[str, Any]:
    """Return dumps before and after an onboarding that adopts a user, and what it desired."""
    before = dump(postgres)
    _, desired = postgres.converge(DesiredState((LEAVER, OLD_APP, READER), {}))
    return {"before": before, "after": dump(postgres), "desired": desired}


def test_onboarding_and_adoption_change_what_is_declared_and_nothing_else(postgres, onboarded):
    before, after = onboarded["before"], onboarded["after"]
    assert removed(before, after) == [], "nothing that was there is another one"
    assert lines(before, after, "reader", "leaver", "rds_iam TO old_app") == []
    about = [line for line in after if "old_app" in line and line not in before]
    assert [
        line for line in about if not re.search(r"rds_iam|shop_readwrite|DEFAULT PRIVILEGES FOR ROLE old_app", line)
    ] == []


def test_a_second_run_changes_nothing(postgres, onboarded):
    statements, _ = postgres.converge(onboarded["desired"])
    assert statements == []
    assert dump(postgres) == onboarded["after"]


def test_a_revoked_or_leaving_user_is_locked_and_comes_back_as_it_was(postgres, onboarded):
    assert postgres.remove("old_app").unreached == ()
    locked = dump(postgres)
    assert [
        line for line in removed(onboarded["after"], locked) if not line.startswith("ALTER ROLE old_app WITH ")
    ] == []
    assert lines(onboarded["after"], locked, "ALTER ROLE old_app WITH ") == []
    postgres.converge(onboarded["desired"])
    assert dump(postgres) == onboarded["after"]
    # An adopted and a created user leave, and are declared again.
    _, left = postgres.converge(replace(onboarded["desired"], users=(READER,)))
    gone = dump(postgres)
    assert lines(onboarded["after"], gone, "ALTER ROLE old_app WITH ", "ALTER ROLE leaver WITH ") == []
    postgres.converge(replace(left, users=(LEAVER, OLD_APP, READER)))
    assert dump(postgres) == onboarded["after"]


def test_a_migration_and_its_undo_leave_everything_as_it_was(postgres, onboarded):
    """`etl` acts as another role, has a limit, and the options of its memberships differ."""
    successor = replace(user("etl_iam"), replaces="etl")
    _, desired = postgres.converge(replace(onboarded["desired"], users=(LEAVER, OLD_APP, READER, successor)))
    paired = dump(postgres)
    assert lines(onboarded["after"], paired, "etl_iam") == []
    assert run(postgres, lambda migrator, snapshot, _: [migrator.retire(snapshot, "etl")])
    assert lines(paired, dump(postgres), "ALTER ROLE etl WITH ") == []
    run(postgres, lambda migrator, snapshot, _: [migrator.restore(snapshot, "etl", ())])
    assert dump(postgres) == paired
    run(postgres, lambda migrator, snapshot, session: migrator.drop_successor(session, snapshot, "etl_iam", "etl"))
    assert dump(postgres) == onboarded["after"]
    assert desired.accounts["etl_iam"] == "created"


def run(place: Place, statements: Any) -> list[Change]:
    """Run the batches of statements of a migration, each from what it finds."""
    sessions = Sessions(place.connect, "manager")
    done: list[Change] = []
    try:
        snapshot = place.engine.inspect(sessions, place.database, DesiredState((), {}))
        session = sessions.read(place.engine.entry_database())
        for batch in statements(MIGRATORS[place.database.family], snapshot, session):
            assert place.engine.apply(sessions, snapshot, batch, DesiredState((), {})) == ()
            done += batch
    finally:
        sessions.close()
    return done


def test_rotations_change_passwords_alone_and_a_clone(postgres, onboarded):
    rotator = ROTATORS["postgres"]
    session = rotator.connect(postgres.database, Password("etl", PASSWORD, "scram-sha-256,md5"), "shop")
    rotator.set_own_password(session, PASSWORD, "New-Password-1", lambda: False)
    session.close()
    assert dump(postgres) == onboarded["after"]
    session = rotator.connect(postgres.database, Password("boss", "correct horse battery", "scram-sha-256,md5"), "shop")
    before = dump(postgres)
    rotator.set_other_password(session, "etl", "etl_clone", "Clone-Password-1")
    rotator.set_other_password(session, "etl", "etl", "New-Password-2")
    session.close()
    after = dump(postgres)
    assert removed(before, after) == []
    assert lines(before, after, "etl_clone") == []
    with postgres.as_rdsadmin() as admin:
        admin.run("DROP ROLE etl_clone")
    assert dump(postgres) == before


def test_a_membership_that_the_master_gets_while_other_databases_are_done_stays(postgres, onboarded, monkeypatch):
    """rdsiam acts for the owner for a moment; it inspected the roles before the master got its own membership."""
    with postgres.as_rdsadmin() as admin:
        admin.run("CREATE ROLE builder; CREATE TABLE public.built (id int); ALTER TABLE public.built OWNER TO builder")
        if postgres.version > 15 and postgres.administrator == "vanilla":
            admin.run("GRANT builder TO boss WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
    owned = "builder TO boss"
    read = database_privileges._Database._read
    granted: list[list[str]] = []

    def meanwhile(self: Any) -> Any:
        found = read(self)
        if self.name == "shop" and not granted:
            with postgres.as_master() as master:
                master.run("GRANT builder TO boss" + (" WITH INHERIT FALSE, SET TRUE" if postgres.version > 15 else ""))
            granted.append([line for line in dump(postgres) if owned in line])
        return found

    monkeypatch.setattr(database_privileges._Database, "_read", meanwhile)
    statements, _ = postgres.converge(onboarded["desired"])
    assert any("built" in each.statement for each in statements)
    assert [line for line in dump(postgres) if owned in line] == granted[0] != []
    with postgres.as_rdsadmin() as admin:
        admin.run("DROP TABLE public.built; DROP OWNED BY builder; DROP ROLE builder")
    assert dump(postgres) == onboarded["after"]


@pytest.fixture(scope="module", params=["mariadb", MYSQL])
def mysql(request, make_place) -> Place:
    place: Place = make_place(request.param)
    mysql_databases.make(place)
    comment = "" if request.param == "mariadb" else " COMMENT 'ask Ann'"
    with place.as_rdsadmin("mysql") as admin:
        for account, options in {
            "etl@'%'": "REQUIRE NONE WITH MAX_QUERIES_PER_HOUR 7000 MAX_USER_CONNECTIONS 3",
            "etl@'10.0.%'": "REQUIRE SUBJECT '/CN=etl' AND ISSUER '/CN=ca'",
            "etl@'192.168.1.1'": "REQUIRE X509 PASSWORD EXPIRE INTERVAL 90 DAY",
            "kept@'172.16.%'": f"REQUIRE CIPHER 'ECDHE-RSA-AES256-GCM-SHA384' ACCOUNT LOCK{comment}",
        }.items():
            admin.run(f"CREATE USER {account} IDENTIFIED BY '{PASSWORD}' {options}")
        admin.run("GRANT SELECT, INSERT ON shop.* TO etl@'%'")
        admin.run("GRANT UPDATE (name) ON shop.customer TO etl@'10.0.%'")
    return place


MYSQL_USERS = (READER, LEAVER, user("adopted", ("my_app", "readonly"), adopt=True))


@pytest.fixture(scope="module")
def mysql_onboarded(mysql) -> dict[str, Any]:
    before = mysql_databases.dump(mysql)
    statements, desired = mysql.converge(DesiredState(MYSQL_USERS, {}))
    return {"before": before, "after": mysql_databases.dump(mysql), "desired": desired, "statements": statements}


def without_hashes(shown: dict[str, str]) -> dict[str, str]:
    """Return a dump without the passwords of users, which a rotation changes, and when they were changed."""
    patterns = (
        r"(IDENTIFIED (VIA|WITH) '?\S+?'? (USING|AS)) '(?:[^'\\]|\\.|'')*'",
        r"(IDENTIFIED BY PASSWORD) '[^']*'",
    )
    result = dict(shown)
    for pattern in patterns:
        result = {name: re.sub(pattern, r"\1 …", text) for name, text in result.items()}
    return result


def accounts(names: Iterable[str]) -> set[str]:
    return {name.split("'")[1] for name in names if "'" in name}


def test_on_mysql_a_run_and_a_second_one_change_what_is_declared_and_nothing_else(mysql, mysql_onboarded):
    names = differing(mysql_onboarded["before"], mysql_onboarded["after"])
    assert unexplained(names, mysql_onboarded["statements"]) == set()
    assert accounts(names) == {"reader", "leaver", "adopted", MANAGER, AUDITOR}
    assert mysql.converge(mysql_onboarded["desired"])[0] == []
    assert differing(mysql_onboarded["after"], mysql_databases.dump(mysql)) == set()


def test_on_mysql_a_revoked_or_leaving_user_is_locked_and_comes_back_as_it_was(mysql, mysql_onboarded):
    desired, after = mysql_onboarded["desired"], mysql_onboarded["after"]
    assert mysql.remove("adopted").unreached == ()
    assert accounts(differing(after, mysql_databases.dump(mysql))) == {"adopted"}
    mysql.converge(desired)
    assert differing(after, mysql_databases.dump(mysql)) == set()
    _, left = mysql.converge(replace(desired, users=(READER,)))
    gone = mysql_databases.dump(mysql)
    assert {name.partition(" ")[0] for name in differing(after, gone)} == {"user"}
    assert accounts(differing(after, gone)) == {"leaver", "adopted"}
    mysql.converge(replace(left, users=MYSQL_USERS))
    assert differing(after, mysql_databases.dump(mysql)) == set()


def test_on_mysql_a_migration_and_its_undo_leave_everything_as_it_was(mysql, mysql_onboarded):
    before = mysql_databases.dump(mysql)
    successor = replace(user("etl_iam"), replaces="etl")
    mysql.converge(replace(mysql_onboarded["desired"], users=(*MYSQL_USERS, successor)))
    paired = mysql_databases.dump(mysql)
    assert accounts(differing(before, paired)) == {"etl_iam"}
    run(mysql, lambda migrator, snapshot, _: [migrator.retire(snapshot, "etl")])
    assert accounts(differing(paired, mysql_databases.dump(mysql))) == {"etl"}
    run(mysql, lambda migrator, snapshot, _: [migrator.restore(snapshot, "etl", ())])
    assert differing(paired, mysql_databases.dump(mysql)) == set()
    run(mysql, lambda migrator, snapshot, session: migrator.drop_successor(session, snapshot, "etl_iam", "etl"))
    assert differing(before, mysql_databases.dump(mysql)) == set()


def test_on_mysql_rotations_change_passwords_alone_and_a_clone(mysql, mysql_onboarded):
    rotator = ROTATORS["mysql"]
    before = without_hashes(mysql_databases.dump(mysql))
    manager = rotator.connect(mysql.database, Token(MANAGER, f"token-of-{MANAGER}"), None)
    rotator.set_other_password(manager, "etl", "etl", "New-Password-1")
    assert differing(before, without_hashes(mysql_databases.dump(mysql))) == set()
    manager.close()
    master = rotator.connect(mysql.database, Password("boss", "correct horse battery"), None)
    rotator.set_other_password(master, "app", "app_clone", "Clone-Password-1")
    rotator.set_other_password(master, "app", "app", "New-Password-2")
    master.close()
    assert accounts(differing(before, without_hashes(mysql_databases.dump(mysql)))) == {"app_clone"}
