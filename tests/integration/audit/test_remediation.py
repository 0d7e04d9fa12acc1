"""The statements that findings print, run as they are by the master of real servers, on users with hostile names."""

from dataclasses import replace

import pytest

from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.logins import Password, Token
from rdsiam.engines.mysql.snapshot import read_schema_names
from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.errors import ConnectionFailed
from tests.integration.place import DENIED, Place
from tests.kinds import MYSQL_FAMILY, POSTGRES

# The statements are the same for all versions and administrators.
pytestmark = pytest.mark.exhaustive_on("vanilla", "postgres14")

HOSTILE = [
    "plain",
    'do"uble',
    "sin'gle",
    "back`tick",
    "back\\slash\\",
    "new\nline",
    "semi; DROP ROLE boss; --",
    "%s {u} $1",
]
PASSWORD = "a-Password-1"


@pytest.fixture(scope="module", params=[*POSTGRES, *MYSQL_FAMILY])
def place(request, make_place) -> Place:
    return make_place(request.param)


#: Tests of what only the one has: their servers are those of all others.
on_postgres = pytest.mark.parametrize("place", POSTGRES, indirect=True)
on_mysql = pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)


@pytest.fixture
def made(place, request):
    """Make a user that logs in by password, and drop it in the end by the statement that a finding prints."""
    name = request.param
    account = AccountFacts(name=name, host="" if place.database.family == "postgres" else "%")
    drop = REMEDIATIONS[place.database.family].drop(account)
    if place.database.family == "postgres":
        make = f"CREATE ROLE {quoted(place, name)} LOGIN PASSWORD '{PASSWORD}'"
    else:
        make = f"CREATE USER {quoted(place, name)}@'%' IDENTIFIED BY '{PASSWORD}'"
    with place.as_master() as master:
        master.run(make)
        yield account
        for statement in drop:
            master.run(statement)
    assert name not in place.accounts()


def quoted(place: Place, name: str) -> str:
    """Quote a name by hand: what is tested is not trusted with making the test."""
    mark = '"' if place.database.family == "postgres" else "`"
    return mark + name.replace(mark, mark * 2) + mark


def run(place: Place, statements) -> None:
    assert statements
    with place.as_master() as master:
        for statement in statements:
            master.run(statement)


def logs_in(place: Place, login) -> bool:
    if isinstance(login, Password):  # up to PostgreSQL 13 it is stored as an MD5 hash
        login = replace(login, method="scram-sha-256,md5")
    try:
        place.engine.connect(place.database, login, None).close()
    except ConnectionFailed as error:
        if error.stage != "login":
            raise
        return False
    return True


@pytest.mark.parametrize("made", HOSTILE, indirect=True, ids=repr)
def test_a_converted_account_takes_tokens_and_no_password(place, made):
    engine = REMEDIATIONS[place.database.family]
    assert logs_in(place, Password(made.name, PASSWORD))
    run(place, engine.convert(made))
    account = place.accounts()[made.name]
    assert (account.iam, account.password, account.tls) == (True, False, True)
    assert logs_in(place, Token(made.name, f"token-of-{made.name}"))
    assert not logs_in(place, Password(made.name, PASSWORD))


@pytest.mark.parametrize("made", HOSTILE, indirect=True, ids=repr)
def test_a_locked_account_takes_no_login_and_an_unlocked_one_takes_tokens(place, made):
    engine = REMEDIATIONS[place.database.family]
    run(place, engine.lock(made))
    assert not logs_in(place, Password(made.name, PASSWORD))
    run(place, engine.unlock(made))
    assert logs_in(place, Token(made.name, f"token-of-{made.name}"))


@pytest.mark.parametrize("made", ["plain"], indirect=True)
def test_a_locked_user_that_took_tokens_keeps_no_rds_iam(place, made):
    engine = REMEDIATIONS[place.database.family]
    run(place, engine.convert(made))
    run(place, engine.lock(AccountFacts(name=made.name, host=made.host, iam=True)))
    assert not logs_in(place, Token(made.name, f"token-of-{made.name}"))
    if place.database.family == "postgres":
        with place.as_master() as master:
            members = (
                "SELECT count(*) FROM pg_auth_members WHERE roleid = 'rds_iam'::regrole AND member = '{}'::regrole"
            )
            assert master.run(members.format(made.name)) == [(0,)]


@on_postgres  # on MySQL and MariaDB nothing is inherited
@pytest.mark.parametrize("made", HOSTILE, indirect=True, ids=repr)
def test_a_member_that_leaves_a_group_has_its_password_again(place, made):
    engine = REMEDIATIONS["postgres"]
    with place.as_master() as master:
        master.run(f"CREATE ROLE staff; GRANT rds_iam TO staff; GRANT staff TO {quoted(place, made.name)}")
    try:
        assert not logs_in(place, Password(made.name, PASSWORD))
        caught = AccountFacts(name=made.name, iam=True, iam_through=("staff",), member_of=("staff",))
        run(place, engine.remove_iam(caught))
        assert logs_in(place, Password(made.name, PASSWORD))
        run(place, engine.remove_iam(AccountFacts(name="staff", login=False, iam=True)))
    finally:
        run(place, ["DROP ROLE staff"])


@on_postgres  # objects of MySQL and MariaDB have no owners
@pytest.mark.parametrize("made", HOSTILE, indirect=True, ids=repr)
def test_objects_of_a_clone_are_its_users_and_the_master_is_a_member_of_nobody(place, made):
    with place.as_master() as master:
        master.run("CREATE ROLE successor LOGIN; GRANT rds_iam TO successor")
        master.run(f"GRANT CREATE ON SCHEMA public TO {quoted(place, made.name)}, successor")
    try:
        with place.login(Password(made.name, PASSWORD)) as clone:
            clone.run("CREATE TABLE made_by_clone (id int)")
        run(place, [REMEDIATIONS["postgres"].give_objects(made, "successor")])
        with place.as_master() as master:
            owner = "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'made_by_clone'"
            assert master.run(owner) == [("successor",)]
            option = " AND inherit_option" if place.version >= 16 else ""
            inheriting = f"SELECT count(*) FROM pg_auth_members WHERE member = 'boss'::regrole{option} AND "
            assert master.run(inheriting + "roleid = 'successor'::regrole") == [(0,)]
        with place.as_user("successor") as successor:
            successor.run("DROP TABLE made_by_clone")
    finally:
        with place.as_master() as master:
            master.run(
                f"REVOKE CREATE ON SCHEMA public FROM {quoted(place, made.name)}, successor; DROP ROLE successor"
            )


@on_mysql
def test_tls_is_required_of_an_account_that_did_not_require_it(place):
    app = AccountFacts(name="app", host="10.%")
    with place.as_master() as master:
        master.run("CREATE USER app@'10.%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE NONE")
        assert not place.accounts()["app"].tls
        run(place, REMEDIATIONS["mysql"].require_tls(app))
        assert place.accounts()["app"].tls
        master.run("DROP USER app@'10.%'")


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)  # MySQL keeps none when the plugin changes
def test_what_mariadb_keeps_beside_the_token_is_taken(place):
    app = AccountFacts(name="app", host="10.%")
    ways = f"AWSAuthenticationPlugin AS 'RDS' OR mysql_native_password USING PASSWORD('{PASSWORD}')"
    with place.as_master() as master:
        master.run(f"CREATE USER app@'10.%' IDENTIFIED VIA {ways} REQUIRE NONE")
        before = place.accounts()["app"]
        assert (before.password, before.tls) == (True, False)
        run(place, REMEDIATIONS["mysql"].discard_second_password(app, "mariadb"))
        after = place.accounts()["app"]
        assert (after.iam, after.password, after.tls) == (True, False, True)
        master.run("DROP USER app@'10.%'")


@on_mysql
def test_an_anonymous_user_is_dropped(place):
    with place.as_master() as master:
        master.run("CREATE USER ''@'elsewhere'")
        assert "" in place.accounts()
        run(place, REMEDIATIONS["mysql"].drop(AccountFacts(name="", host="elsewhere")))
        assert "" not in place.accounts()


@on_mysql
@pytest.mark.parametrize("schema", ["my_app", "per%cent", "back`tick", "plain"])
def test_privileges_are_granted_on_just_that_schema_and_taken_where_its_name_is_plain(place, schema):
    engine = REMEDIATIONS["mysql"]
    other = schema.replace("_", "X").replace("%", "XX")
    with place.as_master() as master:
        app = AccountFacts(name="app", host="%", schema_names=read_schema_names(master._session))
        run(place, [engine.create_database(schema), "CREATE USER app", *engine.convert(app)])
        run(place, engine.grant(app, schema, "readonly"))
        with place.as_user("app", schema) as reader:
            reader.run("SHOW TABLES")
            with pytest.raises(DENIED):
                reader.run("CREATE TABLE x (id int)")
            if other != schema:
                with pytest.raises(DENIED):
                    reader.run(f"USE `{other}`")
        if schema == "plain":
            run(place, engine.revoke(app, schema, ("SELECT", "SHOW VIEW")))
            assert master.run("SELECT count(*) FROM mysql.db WHERE User = 'app'") == [(0,)]
        run(place, engine.drop(app))
        master.run("DROP DATABASE `{}`".format(schema.replace("`", "``")))
