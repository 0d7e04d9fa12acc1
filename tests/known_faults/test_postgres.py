"""PostgreSQL servers as people have them: what owners made is left as it is, and keeps rdsiam from nothing else."""

import pytest

from tests.integration.rdsadmin import as_rdsadmin

DONE = {"onboarded", "unchanged"}


@pytest.fixture
def arn(make_instance) -> str:
    made: str = make_instance()
    return made


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
