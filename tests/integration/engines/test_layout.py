"""The layout of a server: the audit and onboarding see the same one, and another one as soon as `"*"` covers more."""

import pytest

from rdsiam.engines.logins import AUDITOR, Token
from rdsiam.engines.protocols import DesiredState
from rdsiam.state.layout import Layout
from tests.integration.place import Place, user
from tests.kinds import MYSQL_EXHAUSTIVE, OLDER_EXHAUSTIVE

KINDS = ["postgres", OLDER_EXHAUSTIVE, "mariadb", MYSQL_EXHAUSTIVE]


@pytest.fixture(scope="module", params=KINDS)
def place(request, make_place) -> Place:
    return make_place(request.param)


#: Tests of what only PostgreSQL has: objects of MySQL and MariaDB have no owners, and schemas are its databases.
on_postgres = pytest.mark.parametrize("place", ["postgres", OLDER_EXHAUSTIVE], indirect=True)


def layout(place: Place) -> Layout:
    with place.as_master() as master:
        found: Layout = place.engine.layout(master._session)
        assert len(found.databases) == 64
        return found


def test_the_layout_stays_as_long_as_nothing_is_created(place):
    before = layout(place)
    with place.as_master() as master:
        master.run("CREATE TABLE public.stays (id int)" if place.database.family == "postgres" else "SELECT 1")
        with_table = layout(place)
        master.run("DROP TABLE public.stays" if place.database.family == "postgres" else "SELECT 1")
    assert layout(place) == before
    assert with_table.databases == before.databases


def test_a_created_database_changes_the_layout_and_dropping_it_changes_it_back(place):
    before = layout(place)
    with place.as_master() as master:
        master.run("CREATE DATABASE tenant")
        changed = layout(place)
        master.run("DROP DATABASE tenant")
    assert changed.databases != before.databases
    assert layout(place) == before


@on_postgres
def test_a_schema_in_another_database_changes_the_layout(place):
    with place.as_master() as master:
        master.run("CREATE DATABASE elsewhere")
    before = layout(place)
    with place.as_master("elsewhere") as master:
        master.run("CREATE SCHEMA sales")
    changed = layout(place)
    assert changed.databases != before.databases
    with place.as_master() as master:
        master.run("DROP DATABASE elsewhere")


@on_postgres
@pytest.mark.parametrize(
    ("closed", "opened"),
    [
        ("CONNECTION LIMIT 0", "CONNECTION LIMIT -1"),
        ("ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"),
        ("SET default_transaction_read_only = on", "SET default_transaction_read_only = off"),
        ("SET default_transaction_read_only = on", "RESET default_transaction_read_only"),
    ],
)
def test_a_database_that_is_closed_and_opened_again_changes_the_layout(place, closed, opened):
    with place.as_master() as master:
        master.run("CREATE DATABASE gate")
        before = layout(place)
        master.run(f"ALTER DATABASE gate {closed}")
        changed = layout(place)
        master.run(f"ALTER DATABASE gate {opened}")
        again = layout(place)
        master.run("DROP DATABASE gate")
    assert changed.databases != before.databases
    assert again == before


@on_postgres
def test_an_owner_of_its_first_object_changes_the_owners_and_a_second_object_does_not(place):
    with place.as_master() as master:
        master.run("CREATE ROLE migrator; GRANT migrator TO CURRENT_USER; GRANT CREATE ON SCHEMA public TO migrator")
        before = layout(place)
        master.run("SET ROLE migrator; CREATE TABLE public.first (id int); RESET ROLE")
        changed = layout(place)
        master.run("SET ROLE migrator; CREATE TABLE public.second (id int); RESET ROLE")
        again = layout(place)
        master.run("DROP OWNED BY migrator; DROP ROLE migrator")
    assert (changed.databases, again) == (before.databases, changed)
    assert changed.owners != before.owners


def test_the_auditor_sees_the_layout_that_onboarding_sees(place):
    place.converge(DesiredState((user("app", ("shop", "readonly")),), {}))
    with place.as_master() as master:
        master.run("CREATE DATABASE seen")
    session = place.engine.connect(place.database, Token(AUDITOR, f"token-of-{AUDITOR}"), None)
    try:
        seen = place.engine.audit(session, place.database).layout
    finally:
        session.close()
    assert seen == layout(place)
