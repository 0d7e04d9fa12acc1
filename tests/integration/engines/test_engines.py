"""One conformance suite over both engines, on real servers: what is declared comes true, nothing else is touched."""

from dataclasses import replace

import pytest

from localcloud.core import processes
from rdsiam.engines.logins import Password, Token
from rdsiam.engines.protocols import DesiredState
from rdsiam.engines.statements import Statement
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.tokens import trust
from tests.integration.place import DENIED, MASTER, Place, user
from tests.kinds import MYSQL_FAMILY, MYSQL_NO_PARTIAL, POSTGRES

pytestmark = pytest.mark.exhaustive_on("partial", "vanilla")


@pytest.fixture(scope="module", params=[*POSTGRES, *MYSQL_FAMILY, MYSQL_NO_PARTIAL])
def place(request, make_place) -> Place:
    place: Place = make_place(request.param)
    with place.as_master() as master:
        master.run("CREATE DATABASE stock")
        master.run("CREATE TABLE made_before (id int)")
        if place.database.family == "postgres" and place.version < 15:
            master.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as the finding `public-may-create` has it
    return place


THREE = (user("reader", ("shop", "readonly")), user("writer", ("shop", "readwrite")), user("maker", ("shop", "owner")))


@pytest.fixture(scope="module")
def onboarded(place) -> tuple[list[Statement], DesiredState]:
    result: tuple[list[Statement], DesiredState] = place.converge(DesiredState(THREE, {}))
    # The promise: one as master. On PostgreSQL one for each database more, and one that proves that it still gets in.
    postgres = place.database.family == "postgres"
    assert sorted(place.opened) == ["manager"] * (3 if postgres else 1) + ["master"] * (3 if postgres else 1)
    return result


def test_a_plan_changes_nothing_and_says_what_apply_does(place):
    planned, _ = place.converge(DesiredState((user("planned", ("shop", "readonly")),), {}), apply=False)
    assert [s for s in planned if s.kind == "create-user"]
    assert "planned" not in place.accounts()


def test_a_second_run_finds_no_difference(place, onboarded):
    _, desired = onboarded
    assert place.converge(desired)[0] == []
    assert set(place.opened) == {"manager"}


def test_declared_users_log_in_by_token_and_by_nothing_else(place, onboarded):
    for name in ("reader", "writer", "maker"):
        place.as_user(name).__exit__()
        assert place.engine.refuses_passwords(place.database, name, "shop")


def test_the_master_keeps_its_password(place, onboarded):
    place.as_master().__exit__()


def test_the_catalogs_tell_how_each_user_logs_in(place, onboarded):
    accounts = place.accounts()
    assert accounts["reader"].iam
    assert not accounts["reader"].password
    assert accounts["reader"].tls
    assert not accounts["reader"].administrator
    assert not accounts[MASTER].iam
    assert accounts[MASTER].administrator


def test_tables_made_before_and_later_by_the_master_or_an_owner_are_readable_and_writable_as_declared(place, onboarded):
    with place.as_master() as master, place.as_user("maker") as maker:
        master.run("CREATE TABLE made_by_master (id int)")
        maker.run("CREATE TABLE made_by_owner (id int)")
    for table in ("made_before", "made_by_master", "made_by_owner"):
        with place.as_user("writer") as writer, place.as_user("reader") as reader, place.as_user("maker") as maker:
            writer.run(f"INSERT INTO {table} VALUES (1)")
            maker.run(f"DELETE FROM {table} WHERE id = 2")
            assert [row[0] for row in reader.run(f"SELECT id FROM {table}")] == [1]
            with pytest.raises(DENIED):
                reader.run(f"INSERT INTO {table} VALUES (2)")
            with pytest.raises(DENIED):
                writer.run(f"DROP TABLE {table}")
            with pytest.raises(DENIED):
                writer.run("CREATE TABLE of_writer (id int)")


def test_nobody_reaches_a_database_that_is_not_declared_for_them(place, onboarded):
    with place.as_master("stock") as master:
        master.run("CREATE TABLE IF NOT EXISTS secret (id int)")
    with pytest.raises((*DENIED, ConnectionFailed)), place.as_user("reader", "stock") as reader:
        reader.run("SELECT * FROM secret")


def test_what_is_no_longer_declared_is_taken_away(place, onboarded):
    _, desired = place.converge(replace(onboarded[1], users=(user("changing", ("shop", "readwrite")),)))
    with place.as_user("changing") as changing:
        changing.run("INSERT INTO made_before VALUES (7)")
    _, desired = place.converge(replace(desired, users=(user("changing", ("shop", "readonly")),)))
    with place.as_user("changing") as changing:
        changing.run("SELECT * FROM made_before")
        with pytest.raises(DENIED):
            changing.run("INSERT INTO made_before VALUES (7)")
    assert place.converge(desired)[0] == []


def test_a_list_of_privileges_gives_those_and_no_more_also_on_later_tables(place, onboarded):
    _, desired = place.converge(replace(onboarded[1], users=(user("inserter", ("shop", ("INSERT", "SELECT"))),)))
    with place.as_master() as master:
        master.run("CREATE TABLE IF NOT EXISTS made_after_list (id int)")
    with place.as_user("inserter") as inserter:
        inserter.run("INSERT INTO made_after_list VALUES (1)")
        with pytest.raises(DENIED):
            inserter.run("DELETE FROM made_after_list")
    assert place.converge(desired)[0] == []


def test_a_star_means_every_database_but_the_systems(place, onboarded):
    _, desired = place.converge(replace(onboarded[1], users=(user("everywhere", ("*", "readonly")),)))
    with place.as_user("everywhere") as shop, place.as_user("everywhere", "stock") as stock:
        shop.run("SELECT * FROM made_before")
        stock.run("SELECT 1")
    with pytest.raises((*DENIED, ConnectionFailed)), place.as_user("everywhere", "rdsadmin") as system:
        system.run("SELECT 1")
    assert place.converge(desired)[0] == []


def test_a_namesake_made_by_somebody_else_is_refused_and_can_be_adopted(place, onboarded):
    create = (
        "CREATE ROLE legacy LOGIN PASSWORD 'old-Password-1'"
        if place.database.family == "postgres"
        else "CREATE USER legacy@'%' IDENTIFIED BY 'old-Password-1'"
    )
    with place.as_master() as master:
        master.run(create)
    with pytest.raises(Refused, match="adopt: true"):
        place.converge(replace(onboarded[1], users=(user("legacy", ("shop", "readonly")),)))
    entry = "shop" if place.database.family == "postgres" else "information_schema"  # it may enter no schema yet
    place.login(Password("legacy", "old-Password-1"), entry).__exit__()
    _, desired = place.converge(replace(onboarded[1], users=(user("legacy", ("shop", "readonly"), adopt=True),)))
    assert desired.accounts["legacy"] == "adopted"
    assert desired.accounts["reader"] == "created"
    with place.as_user("legacy") as legacy:
        legacy.run("SELECT * FROM made_before")
    with pytest.raises(ConnectionFailed) as failed:
        place.login(Password("legacy", "old-Password-1"), entry)
    assert failed.value.stage == "login"
    assert place.engine.refuses_passwords(place.database, "legacy", "shop")
    assert place.converge(desired)[0] == []


@pytest.mark.exhaustive_on("vanilla")
@pytest.mark.parametrize("name", ['quo"te', "back`tick", "under_score", "per%cent", "ünïcode", "Mixed Case", "sem;i--"])
def test_names_of_databases_are_quoted(place, onboarded, name):
    quoted = f'"{name.replace(chr(34), chr(34) * 2)}"'
    if place.database.family == "mysql":
        quoted = "`" + name.replace("`", "``") + "`"
    with place.as_master() as master:
        master.run(f"CREATE DATABASE {quoted}")
    odd_user = f"odd{abs(hash(name))}"
    _, desired = place.converge(replace(onboarded[1], users=(user(odd_user, (name, "readwrite")),)))
    with place.as_user(odd_user, name) as odd:
        odd.run("SELECT 1")
    assert place.converge(desired)[0] == []


def test_errors_say_at_which_stage_a_connection_failed_and_never_the_secret(place, onboarded):
    canary = Token("reader", "canary-token")
    cases = {
        "login": (place.database, canary),
        "port": (replace(place.database, port=processes.free_port()), canary),
        "name": (replace(place.database, host="no-such-host.invalid"), canary),
    }
    for stage, (database, login) in cases.items():
        with pytest.raises(ConnectionFailed) as failed:
            place.engine.connect(database, login, "shop")
        assert failed.value.stage == stage
        assert "canary" not in str(failed.value) + repr(failed.value) + repr(login)


def test_a_certificate_of_another_authority_is_refused_before_anything_is_sent(place, onboarded, monkeypatch):
    monkeypatch.setenv("RDSIAM_CA", "")
    trust.ca_file.cache_clear()
    with pytest.raises(ConnectionFailed) as failed:
        place.engine.connect(place.database, Token("reader", "token-of-reader"), "shop")
    assert failed.value.stage == "tls"
    monkeypatch.undo()
    trust.ca_file.cache_clear()
