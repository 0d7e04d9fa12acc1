"""The plan of a migration names what the retirement of its user would stop."""

from collections.abc import Iterator

import pytest

from tests.integration.account import until
from tests.integration.rdsadmin import as_rdsadmin


@pytest.fixture(scope="module")
def arn(account) -> Iterator[str]:
    identifier = "background-work"
    account.declare(identifier, {"name": "app_iam", "replaces": "app"})
    made: str = account.create(identifier, "postgres")
    account.wait(made)
    with as_rdsadmin(account, made) as another:  # this table stands in for pg_cron's own
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
    assert account.onboard(made)["status"] in {"onboarded", "unchanged"}
    yield made
    account.declare(identifier)
    account.cloud.client("rds").delete_db_instance(DBInstanceIdentifier=identifier, SkipFinalSnapshot=True)
    until(lambda: account.record(made) is None, 60)


@pytest.mark.exhaustive
def test_a_plan_to_retire_a_user_names_its_scheduled_jobs(account, arn):
    plan = account.invoke("MigrateFunction", {"database": arn, "user": "app", "plan": True})
    assert plan["status"] == "planned", plan
    (part,) = [part for part in plan["incomplete"] if "cron" in part["what"]]
    assert "UPDATE cron.job SET username = 'app_iam' WHERE jobid = 1" in part["remedy"]
