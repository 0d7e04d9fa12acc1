"""A migration retires no user that has jobs of pg_cron: plan and refusal print the statement that moves them."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.integration.account import Account, until
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
        another.run("GRANT SELECT, UPDATE ON cron.job TO PUBLIC")
        another.run("ALTER TABLE cron.job ENABLE ROW LEVEL SECURITY")
        another.run("CREATE POLICY cron_job_policy ON cron.job USING (username = CURRENT_USER)")
        # RDS's administrators see and change all jobs, as superusers do.
        another.run("CREATE POLICY administrators ON cron.job TO rds_superuser USING (true)")
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


@pytest.mark.exhaustive
def test_a_user_with_scheduled_jobs_is_not_retired_until_the_printed_statement_has_moved_them(account, arn):
    request = {"database": arn, "user": "app", "watch": "1s"}
    refused = account.invoke("MigrateFunction", request)
    assert refused["status"] in {"refused", "incomplete"}, refused
    assert refused["code"] == "user-in-use"
    text = json.dumps(refused)
    assert "1 job or subscription runs as app and would stop" in text
    assert "move them to app_iam, then run the migration again" in text
    account.connect(arn, "app", "of-old-1").close()
    assert state(account, arn) == "watching"

    statement = re.search(r"as the master, in (\w+): (UPDATE .*? WHERE jobid = 1)", text)
    assert statement is not None, text
    with account.as_master(arn, statement[1]) as master:
        master.run(statement[2])
        assert master.run("SELECT username FROM cron.job") == [("app_iam",)]
    retired = account.invoke("MigrateFunction", request)
    assert retired["status"] == "retired", retired
    with pytest.raises(Exception, match="not permitted to log in"):
        account.connect(arn, "app", "of-old-1")


def state(account: Account, arn: str) -> str:
    (migration,) = account.invoke("MigrateFunction", {"status": True, "database": arn})["migrations"]
    return str(migration["state"])
