"""PostgreSQL servers as people have them: what owners made is left as it is, and keeps rdsiam from nothing else."""

from typing import Any

import pytest

from tests.integration.account import Account
from tests.integration.rdsadmin import as_rdsadmin

READER = {"name": "reader", "privileges": "readonly", "on": ["shop"]}
DONE = {"onboarded", "unchanged"}


@pytest.fixture
def arn(make_instance) -> str:
    made: str = make_instance()
    return made


def onboard(account: Account, arn: str, **changed: Any) -> dict[str, Any]:
    """Declare the reader of the instance, and onboard it."""
    account.declare(arn.rpartition(":")[2], READER | changed)
    return account.onboard(arn)


@pytest.mark.known_fault("case 05", "an event trigger that fails on rdsiam's statements is not named (issue 14 A)")
def test_an_event_trigger_of_the_database_is_no_obstacle_or_is_named(account, arn):
    with as_rdsadmin(account, arn, "shop") as another:
        another.run("CREATE TABLE public.ddl_log (at timestamptz DEFAULT now(), who name, what text)")
        another.run("ALTER TABLE public.ddl_log OWNER TO boss")
        another.run(
            "CREATE FUNCTION public.log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO ddl_log (who, what) VALUES (current_user, tg_tag); END $$"
        )
        another.run("CREATE EVENT TRIGGER ddl ON ddl_command_end EXECUTE FUNCTION public.log_ddl()")
    answer = onboard(account, arn)
    assert answer.get("status") in DONE or "trigger" in str(answer), answer


@pytest.mark.known_fault("case 08", "groups of the names that rdsiam gives exist (issue 14 C)")
def test_groups_that_have_the_names_of_rdsiams_are_adopted_where_that_is_declared(account, arn):
    with account.as_master(arn) as master:
        master.run("CREATE ROLE shop_readonly NOLOGIN")
        master.run("CREATE ROLE ann LOGIN PASSWORD 'of-old-1' IN ROLE shop_readonly")
    account.entries["faults"] = {
        "match": {"identifier": arn.rpartition(":")[2]}, "users": [READER], "adopt_groups": True
    }  # fmt: skip
    try:
        account.publish_entries()
        answer = account.onboard(arn)
    finally:
        del account.entries["faults"]
        account.publish_entries()
    assert answer.get("status") == "onboarded", answer


@pytest.mark.known_fault("case 31", "NOLOGIN stops jobs of pg_cron (issue 14 E)")
def test_a_plan_to_retire_a_user_names_its_scheduled_jobs(account, arn):
    with as_rdsadmin(account, arn) as another:  # this table stands in for pg_cron's own
        another.run("CREATE SCHEMA cron")
        another.run(
            "CREATE TABLE cron.job (jobid bigint, schedule text, command text, nodename text, nodeport int, "
            "database text, username text, active bool, jobname text)"
        )
        another.run("GRANT USAGE ON SCHEMA cron TO PUBLIC")
        another.run("GRANT SELECT ON cron.job TO PUBLIC")
        another.run("CREATE ROLE app LOGIN PASSWORD 'of-old-1'")
        another.run("GRANT app TO boss WITH ADMIN TRUE, INHERIT TRUE")
        another.run(
            "INSERT INTO cron.job VALUES (1, '0 3 * * *', 'CALL refresh()', 'localhost', 5432, 'shop', 'app', true, "
            "'nightly')"
        )
    account.declare(arn.rpartition(":")[2], {"name": "app_iam", "replaces": "app"})
    assert account.onboard(arn)["status"] in DONE
    plan = account.invoke("MigrateFunction", {"database": arn, "user": "app", "plan": True})
    assert plan["status"] == "planned", plan
    assert "cron" in str(plan)
