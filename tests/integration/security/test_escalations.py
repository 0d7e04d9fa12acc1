"""No user with rights from rdsiam gets code run as an administrator through the administrator's own tables."""

from dataclasses import replace

import psycopg
import pytest

from rdsiam.engines.logins import Password
from rdsiam.engines.protocols import DesiredState
from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.state.escalations import Escalation, Examined
from tests.integration.audit.test_audit import audit
from tests.integration.audit.test_audit import report as stored_report
from tests.integration.place import Place, user
from tests.kinds import BEFORE_16, OLDER_EXHAUSTIVE

DECLARED = (
    user("maker", ("shop", "owner")),
    user("lister", ("shop", ("SELECT", "REFERENCES", "TRIGGER"))),
    user("reader", ("shop", "readonly")),
)
#: What a user plants to become a member of rds_superuser.
BECOME = "$$ BEGIN EXECUTE 'GRANT rds_superuser TO {}'; RETURN {}; END $$"


KINDS = ["postgres", pytest.param("postgres-vanilla", marks=pytest.mark.exhaustive), OLDER_EXHAUSTIVE]


@pytest.fixture(scope="module", params=KINDS)
def place(make_place, request) -> Place:
    """Return a server with tables of the master, of an administrator and of an ordinary role."""
    place: Place = make_place(request.param)
    with place.as_master() as master:
        master.run("CREATE TABLE customer (id int PRIMARY KEY)")
        master.run("INSERT INTO customer VALUES (1)")
        master.run("CREATE ROLE colleague LOGIN CREATEROLE PASSWORD 'colleague'; CREATE ROLE plain LOGIN")
        master.run("GRANT CREATE ON SCHEMA public TO colleague, plain")
        master.run(f"GRANT colleague, plain TO boss{'' if request.param in BEFORE_16 else ' WITH SET TRUE'}")
        for owner in ("colleague", "plain"):
            master.run(f"SET ROLE {owner}; CREATE TABLE of_{owner} (id int PRIMARY KEY); RESET ROLE")
        master.run("REVOKE colleague, plain FROM boss")
    return place


@pytest.fixture
def desired(place) -> DesiredState:
    _, desired = place.converge(DesiredState(DECLARED, dict.fromkeys(place.known, "created")))
    place.known |= set(desired.accounts)
    return desired


def superusers(place: Place) -> set[str]:
    with place.as_master() as master:
        query = (
            "SELECT m.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member "
            "WHERE a.roleid = 'rds_superuser'::regrole"
        )
        return {row[0] for row in master.run(query)}


def examined(place: Place, desired: DesiredState) -> Examined:
    place.converge(desired, apply=False)
    return place.examined


@pytest.mark.parametrize("name", ["maker", "lister"])
@pytest.mark.parametrize("table", ["customer", "of_colleague", "later"])
def test_no_level_and_no_privilege_gives_triggers_or_foreign_keys_on_tables_of_administrators(
    place, desired, name, table
):
    with place.as_master() as master:
        master.run("CREATE TABLE IF NOT EXISTS later (id int PRIMARY KEY)")
        query = f"SELECT has_table_privilege('{name}', '{table}', %s)"
        held = [master.run(query.replace("%s", f"'{one}'"))[0][0] for one in ("TRIGGER", "REFERENCES", "SELECT")]
    assert held == [False, False, True]


def test_tables_of_an_ordinary_role_are_an_owners_to_refer_to(place, desired):
    with place.as_user("maker") as maker:
        maker.run("CREATE TABLE mine (id int REFERENCES of_plain (id))")


def test_an_owner_becomes_no_administrator_by_a_trigger(place, desired):
    with place.as_user("maker") as maker:
        maker.run(f"CREATE FUNCTION become() RETURNS trigger LANGUAGE plpgsql AS {BECOME.format('maker', 'NEW')}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            maker.run("CREATE TRIGGER planted BEFORE INSERT ON customer FOR EACH ROW EXECUTE FUNCTION become()")
    with place.as_master() as master:
        master.run("INSERT INTO customer VALUES (2)")
    assert superusers(place) == {"boss"}


def test_an_owner_becomes_no_administrator_by_a_foreign_key_whose_column_is_cast(place, desired):
    with place.as_user("maker") as maker:
        maker.run("CREATE TYPE boxed AS (id int)")
        maker.run(f"CREATE FUNCTION unbox(boxed) RETURNS int LANGUAGE plpgsql AS {BECOME.format('maker', '$1.id')}")
        maker.run("CREATE CAST (boxed AS int) WITH FUNCTION unbox(boxed) AS IMPLICIT")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            maker.run("CREATE TABLE planted (id boxed REFERENCES customer (id))")
    assert superusers(place) == {"boss"}


def test_with_references_alone_such_a_cast_runs_as_the_owner_of_the_referenced_table(place):
    """The reason why nobody gets REFERENCES on tables of administrators."""
    with place.as_rdsadmin() as session:
        session.run("CREATE TABLE customers_of (id int PRIMARY KEY); INSERT INTO customers_of VALUES (1)")
        session.run("ALTER TABLE customers_of OWNER TO boss; CREATE TABLE ran_as (name name)")
        session.run("GRANT INSERT ON ran_as TO PUBLIC; CREATE ROLE caster; GRANT REFERENCES ON customers_of TO caster")
        session.run("GRANT CREATE ON SCHEMA public TO caster; SET SESSION AUTHORIZATION caster")
        session.run("CREATE TYPE packed AS (id int)")
        body = "$$ BEGIN INSERT INTO ran_as VALUES (current_user); RETURN $1.id; END $$"
        session.run(f"CREATE FUNCTION unpack(packed) RETURNS int LANGUAGE plpgsql AS {body}")
        session.run("CREATE CAST (packed AS int) WITH FUNCTION unpack(packed) AS IMPLICIT")
        session.run("CREATE TABLE referring (id packed REFERENCES customers_of (id))")
        session.run("INSERT INTO referring VALUES (ROW(1)::packed); RESET SESSION AUTHORIZATION")
        assert ("boss",) in session.run("SELECT name FROM ran_as")
        session.run("DROP OWNED BY caster CASCADE; DROP ROLE caster; DROP TABLE customers_of, ran_as")


def test_what_managed_users_hold_already_is_revoked(place, desired):
    """Also what only one column, and what future tables have."""
    with place.as_master() as master:
        master.run("GRANT ALL ON customer TO shop_owner, reader; GRANT REFERENCES (id) ON later TO lister")
        master.run("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO shop_owner")

    statements, _ = place.converge(desired)

    assert {one.kind for one in statements} == {"revoke", "default-privileges"}
    after = examined(place, desired)
    assert (after.databases, after.escalations) == (("postgres", "shop"), ())
    assert place.converge(desired)[0] == []
    with place.as_user("maker") as maker, pytest.raises(psycopg.errors.InsufficientPrivilege):
        maker.run("CREATE TABLE planted (id int REFERENCES customer (id))")


def test_without_the_masters_secret_it_stays_and_is_reported(place, desired):
    with place.as_master() as master:
        master.run("GRANT TRIGGER ON customer TO shop_owner")
    copy = replace(place, database=replace(place.database, master_secret_arn=None))

    assert copy.converge(desired)[0] == []

    (one,) = examined(copy, desired).escalations
    assert (one.owner, one.grantee, one.users) == ("boss", "shop_owner", ("maker",))


def test_an_undeclared_users_ways_are_found_and_end_with_the_remediation(place, desired):
    with place.as_master() as master:
        master.run("""CREATE ROLE "legacy ""app" LOGIN PASSWORD 'legacy'; CREATE ROLE staff""")
        master.run('GRANT staff TO "legacy ""app"')
        master.run("GRANT CREATE ON SCHEMA public TO PUBLIC")
        master.run('GRANT ALL ON customer, later TO "legacy ""app"; GRANT REFERENCES (id) ON later TO PUBLIC')
        master.run("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT TRIGGER ON TABLES TO staff")
    try:
        with place.login(Password('legacy "app', "legacy")) as legacy:
            legacy.run("CREATE FUNCTION plant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
            legacy.run('CREATE TRIGGER "it""s" BEFORE INSERT ON customer FOR EACH ROW EXECUTE FUNCTION plant()')
        found = examined(place, desired).escalations
        app = 'legacy "app'
        everybody = ("lister", "maker", "plain", "reader")
        assert [(one.grantee, one.held, one.privileges, one.objects) for one in found] == [
            ("", "tables", ("REFERENCES",), (("public", "later"),)),
            (app, "tables", ("REFERENCES", "TRIGGER"), (("public", "customer"), ("public", "later"))),
            (app, "trigger", (), (("public", "customer", 'it"s'),)),
            ("staff", "future tables", ("TRIGGER",), (("public",),)),
        ]
        assert {one.owner for one in found} == {"boss"}
        assert set(found[0].users) >= {app, *everybody}
        assert found[3].users == (app,)
        assert place.converge(desired)[0] == []  # nobody's but a managed user's rights are touched

        with place.as_master() as master:
            for one in found:
                for statement in REMEDIATIONS["postgres"].end_escalation(one):
                    master.run(statement)

        assert examined(place, desired).escalations == ()
    finally:
        with place.as_master() as master:
            master.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")


def test_an_administrator_is_no_finding(place, desired):
    with place.as_master() as master:
        master.run("GRANT ALL ON customer TO colleague")
        master.run("CREATE ROLE deputy LOGIN; GRANT rds_superuser TO deputy; GRANT ALL ON customer TO deputy")

    assert examined(place, desired).escalations == ()


def test_what_was_found_survives_json():
    one = Escalation("shop", "boss", "", "tables", ("TRIGGER",), (("public", "customer"),), 1, ("app",))
    whole = Examined(("postgres", "shop"), (one,))

    assert Examined.from_json(whole.to_json()) == whole


def test_the_audit_reports_what_onboarding_saw_and_where_nobody_looked(account):
    name = "escalating"
    app = {"name": "app", "privileges": "owner", "on": ["shop"]}
    account.declare(name, app)
    arn = account.create(name, "postgres")
    account.wait_onboarded(arn)
    with account.as_master(arn) as master:
        master.run("CREATE TABLE customer (id int PRIMARY KEY)")
        master.run("CREATE ROLE legacy LOGIN PASSWORD 'legacy'")
        master.run("GRANT ALL ON customer TO legacy, shop_owner")
        master.run("CREATE DATABASE crm")
        master.run("GRANT CREATE ON SCHEMA public TO PUBLIC")
    kinds = {"acts-as-administrator", "administrators-unexamined", "public-may-create"}

    def findings():
        answer = account.invoke("OnboardFunction", {"database": arn})
        assert answer["status"] in {"onboarded", "unchanged"}, answer
        report = stored_report(account, audit(account, arn))
        assert report["databases"][0]["schemas"][-1] == {"database": "shop", "schemas": ["public"], "count": 1}
        return [one for one in report["findings"] if one["kind"] in kinds]

    held, opened, unknown = findings()

    assert (held["severity"], held["user"], held["evidence"]["objects"]) == ("high", "legacy", ["public.customer"])
    assert (unknown["severity"], unknown["evidence"]["databases"]) == ("low", ["crm"])
    assert opened["evidence"] == {"in": "shop", "schema": "public", "owner": "pg_database_owner"}
    with account.as_master(arn) as master:
        for step in [*held["remediation"], *opened["remediation"]]:
            if step["language"] == "sql":
                master.run(step["text"])
    account.declare(name, app | {"on": ["crm", "shop"]})
    assert findings() == []
