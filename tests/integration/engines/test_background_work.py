"""Work that runs in a role's name and stops with its LOGIN is named, with the statement that moves it."""

from dataclasses import replace
from typing import Any

import pytest

from rdsiam.engines.logins import MANAGER, Token
from rdsiam.engines.migration import BackgroundWork
from rdsiam.engines.postgres.migration import PostgresMigrator
from rdsiam.engines.protocols import DesiredState, Sessions
from tests.integration.place import Place, user
from tests.kinds import POSTGRES

# An administrator's rights decide nothing here.
pytestmark = pytest.mark.exhaustive_on("vanilla")

#: pg_cron's own table with its policy, by which a role sees its own jobs only. RDS's administrator owns it.
CRON = (
    "CREATE SCHEMA cron",
    "CREATE TABLE cron.job (jobid bigint, schedule text, command text, nodename text, nodeport int, database text, "
    "username text DEFAULT CURRENT_USER, active bool, jobname text)",
    "GRANT SELECT ON cron.job TO PUBLIC",
    "ALTER TABLE cron.job ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY cron_job_policy ON cron.job USING (username = CURRENT_USER)",
)
JOB = (
    "INSERT INTO cron.job VALUES ({n}, '0 3 * * *', 'CALL refresh()', 'localhost', 5432, 'shop', '{u}', {active}, 'x')"
)


@pytest.fixture(scope="module", params=POSTGRES)
def place(make_place, request) -> Place:
    """Return a server on which `app_iam` replaces `app`."""
    place: Place = make_place(request.param)
    with place.as_master() as master:
        master.run("CREATE ROLE app LOGIN PASSWORD 'of-old-1'")
        master.run("CREATE ROLE idle LOGIN PASSWORD 'of-old-1'")
    successors = tuple(replace(user(f"{name}_iam"), replaces=name) for name in ("app", "idle"))
    _, desired = place.converge(DesiredState(successors, {}))
    place.known |= set(desired.accounts)
    return place


def run(place: Place, name: str, *statements: str) -> None:
    with place.as_rdsadmin(name) as admin:
        for statement in statements:
            admin.run(statement)


def work(place: Place, name: str, successor: str | None = None) -> tuple[BackgroundWork, ...]:
    sessions = Sessions(place.connect, "manager")
    desired = DesiredState((), dict.fromkeys(place.known, "created"))

    def connect(database: str | None) -> Any:
        return place.engine.connect(place.database, Token(MANAGER, f"token-of-{MANAGER}"), database)

    try:
        snapshot = place.engine.inspect(sessions, place.database, desired)
        return PostgresMigrator().background_work(connect, snapshot, name, successor or f"{name}_iam")
    finally:
        sessions.close()


def test_a_server_without_background_work_names_none(place):
    assert work(place, "app") == ()


@pytest.mark.parametrize("database", ["postgres", "shop"])
def test_jobs_of_pg_cron_are_named_with_the_statement_that_moves_them(place, database):
    run(place, database, *CRON, "GRANT USAGE ON SCHEMA cron TO app")
    for number, (name, active) in enumerate([("app", True), ("app", False), ("boss", True)], 1):
        run(place, database, JOB.format(n=number, u=name, active=active))
    try:
        found = work(place, "app")
        assert [each.certain for each in found] == [True, True]
        assert [each.part.what for each in found] == [
            "job 1 of pg_cron (0 3 * * *) in shop",
            "job 2 of pg_cron (0 3 * * *, not active) in shop",
        ]
        for number, each in enumerate(found, 1):
            place_and_move = f"in {database}: UPDATE cron.job SET username = 'app_iam' WHERE jobid = {number}"
            assert each.part.remedy == f"as the master, {place_and_move}"
            run(place, database, each.part.remedy.partition(": ")[2])
        assert work(place, "app") == ()
        assert not any(each.certain for each in work(place, "idle"))
    finally:
        run(place, database, "DROP SCHEMA cron CASCADE")


def test_jobs_that_can_not_be_read_may_exist(place):
    run(place, "postgres", *CRON)  # nobody may use the schema
    try:
        for found in (work(place, "app"), work(place, "app", "not_yet_created")):
            assert [each.certain for each in found] == [False]
            assert "SELECT * FROM cron.job WHERE username = 'app'" in found[0].part.remedy
    finally:
        run(place, "postgres", "DROP SCHEMA cron CASCADE")


def test_a_table_of_somebody_else_is_not_read(place):
    """Its policies would run with the rights of the manager."""
    run(place, "shop", *CRON, "GRANT USAGE ON SCHEMA cron TO PUBLIC", JOB.format(n=1, u="app", active=True))
    run(
        place, "shop",
        "CREATE TABLE public.trace (who name)",
        "GRANT ALL ON public.trace TO PUBLIC",
        "CREATE FUNCTION public.evil() RETURNS bool LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO public.trace VALUES (current_user); RETURN true; END $$",
        "CREATE POLICY evil ON cron.job USING (public.evil())",
        "ALTER TABLE cron.job OWNER TO idle",
    )  # fmt: skip
    try:
        assert work(place, "app") == ()
        with place.as_rdsadmin() as admin:
            assert admin.run("SELECT * FROM public.trace") == []
    finally:
        run(place, "shop", "DROP SCHEMA cron CASCADE", "DROP FUNCTION public.evil", "DROP TABLE public.trace")


def test_subscriptions_and_pg_partman_are_named(place):
    run(
        place, "shop",
        """CREATE SUBSCRIPTION "from elsewhere" CONNECTION 'host=localhost dbname=x password=of-old-1' PUBLICATION p
        WITH (connect = false)""",
        "CREATE SUBSCRIPTION others CONNECTION 'host=localhost dbname=x' PUBLICATION p WITH (connect = false)",
        "UPDATE pg_subscription SET subowner = 'app'::regrole WHERE subname = 'from elsewhere'",
        "ALTER DATABASE postgres SET pg_partman_bgw.role = 'app'",
    )  # fmt: skip
    try:
        found = work(place, "app")
        assert [each.part.what for each in found] == [
            "subscription from elsewhere in shop",
            "maintenance by pg_partman",
        ]
        assert found[0].part.remedy == 'as the master, in shop: ALTER SUBSCRIPTION "from elsewhere" OWNER TO "app_iam"'
        assert "of-old-1" not in str(found)
        assert work(place, "idle") == ()
    finally:
        run(place, "shop", "ALTER DATABASE postgres RESET pg_partman_bgw.role")
        for name in ('"from elsewhere"', "others"):
            run(place, "shop", f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)", f"DROP SUBSCRIPTION {name}")
