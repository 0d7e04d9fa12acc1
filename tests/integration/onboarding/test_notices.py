"""Events of RDS that no onboarding resolves: an event for others at once, and a finding in the next audit."""

import json
import shlex
from typing import Any

import pytest

from tests.integration.account import Account, until


@pytest.fixture
def arn(account) -> str:
    """Return a database of which rdsiam knows, and whose master's password its owner sets."""
    made: str = account.create("notices", ManageMasterUserPassword=False, MasterUserPassword="first-password")
    account.wait(made)
    account.onboard(made)
    return made


def findings(account: Account, arn: str) -> list[dict[str, Any]]:
    """Audit the database, and return the findings about its master's password."""
    bucket = account.cloud.outputs["ReportBucket"]
    uri = account.invoke("AuditFunction", {"databases": [arn]})["reports"]["json"]
    body = account.cloud.client("s3").get_object(Bucket=bucket, Key=uri.partition(f"{bucket}/")[2])["Body"].read()
    return [one for one in json.loads(body)["findings"] if one["kind"] == "master-password-reset"]


def test_a_reset_of_the_masters_password_is_published_and_reported_until_it_is_accepted(account, arn):
    rds, logs = account.cloud.client("rds"), account.cloud.logs / "OnboardFunction.log"
    assert findings(account, arn) == []
    rds.modify_db_instance(DBInstanceIdentifier="notices", MasterUserPassword="second-password")
    until(lambda: "notices" in (account.record(arn) or {}), 60)
    until(lambda: "RDS reported RDS-EVENT-0016" in logs.read_text(), 30)
    (found,) = findings(account, arn)
    assert (found["severity"], found["evidence"]["managed"]) == ("medium", False)
    by_way = {step["way"]: step["text"] for step in found["remediation"] if step["language"] == "cli"}
    words = shlex.split(by_way[2])
    assert words[:3] == ["aws", "rds", "modify-db-instance"]
    assert "--manage-master-user-password" in words
    rds.modify_db_instance(DBInstanceIdentifier="notices", ManageMasterUserPassword=True, ApplyImmediately=True)
    until(lambda: "MasterUserSecret" in account.describe(arn), 30)
    (found,) = findings(account, arn)
    assert (found["severity"], found["evidence"]["managed"]) == ("low", True)
    accept = next(step["text"] for step in found["remediation"] if step["language"] == "access")
    kind, reason = "master-password-reset", "reset on purpose"
    assert kind in accept
    until_then = accept.partition("until: ")[2].rstrip("}")
    account.entries["notices/accepted"] = {
        "match": {"identifier": "notices"},
        "suppress": [{"finding": kind, "reason": reason, "until": until_then}],
    }
    account.publish_entries()
    assert [one["suppressed"]["reason"] for one in findings(account, arn)] == [reason]
