"""A version of access.yaml that takes most callers' logins waits until it is confirmed, in vending and in the fleet."""

import json
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from rdsiam.access.store import CONFIRMED
from tests.integration.api_requests import get, post


@pytest.fixture
def published(account, place):
    """Return the current access.yaml, applied; it is put back afterwards."""
    bucket = account.cloud.outputs["AccessBucket"]
    text = account.cloud.client("s3").get_object(Bucket=bucket, Key="access.yaml")["Body"].read().decode()
    account.publish(text)
    account.reconcile()
    account.start_afresh("VendFunction")
    account.start_afresh("ReportsFunction")
    yield text
    account.publish(text)
    account.reconcile()


def without_callers(text: str) -> str:
    content: dict[str, Any] = yaml.safe_load(text)
    for entry in content["databases"]:
        for user in entry["users"]:
            user.pop("callers", None)
            user.setdefault("roles", [])
    return yaml.safe_dump(content)


def ask(account, place) -> int:
    answer = post(account, account.assume(place["vended"]), {"database": "tokens-postgres", "user": "app"})
    return int(answer.status_code)


def listed(account, place) -> bool:
    databases = get(account, account.assume(place["vended"]), "/databases").json()["databases"]
    return any(database["identifier"] == "tokens-postgres" for database in databases)


def test_a_version_without_callers_waits_until_it_is_confirmed(account, place, published):
    broken = without_callers(published)
    waiting = account.publish_unconfirmed(broken)
    for function in ("VendFunction", "ReportsFunction"):
        account.start_afresh(function)  # instead of waiting for a minute
    assert ask(account, place) == 200
    assert listed(account, place)
    refusal = json.dumps(account.reconcile())
    assert "NeedsConfirmation" in refusal
    assert f"version {waiting} of access.yaml waits" in refusal
    command = account.rdsiam("reconcile")
    assert (command.returncode, "rdsiam access publish FILE --confirm" in command.stderr) == (3, True), command.stderr
    assert command.stderr.endswith("[needs-confirmation]\n")

    account.publish_unconfirmed(broken, CONFIRMED)
    for function in ("VendFunction", "ReportsFunction"):
        account.start_afresh(function)
    assert ask(account, place) == 403
    assert not listed(account, place)


def test_revoking_passes_while_a_version_waits(account, place, published):
    account.publish_unconfirmed(without_callers(published))
    account.start_afresh("VendFunction")
    assert ask(account, place) == 200
    arn = place["arns"]["postgres"]
    revoked = account.invoke("OnboardFunction", {"database": arn, "revoke": ["app"], "reason": "leaked"})
    assert revoked["status"] == "revoked", revoked
    account.start_afresh("VendFunction")
    assert ask(account, place) == 403
    account.publish(published)
    assert account.invoke("OnboardFunction", {"database": arn, "lift": ["app"]})["status"] == "onboarded"


def test_a_version_that_waits_takes_effect_in_no_database(account, place, published):
    arn = place["arns"]["postgres"]
    assert account.invoke("OnboardFunction", {"database": arn})["status"] == "unchanged"
    waiting = account.publish_unconfirmed(without_callers(published))
    account.start_afresh("VendFunction")

    answer = account.invoke("OnboardFunction", {"database": arn})
    assert (answer["status"], answer["changes"]) == ("incomplete", []), answer
    [part] = answer["incomplete"]
    assert part["reason"].startswith(f"version {waiting} of access.yaml waits for confirmation")
    assert ask(account, place) == 200  # PolicyFunction has not taken the user from ConnectRole

    audit = account.invoke("AuditFunction", {"databases": [arn]})
    bucket, _, key = audit["reports"]["json"].removeprefix("s3://").partition("/")
    report = json.load(account.cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"])
    assert report["access_version"] not in (None, waiting)
    assert [finding for finding in report["findings"] if finding["user"] == "app"] == []

    assert account.invoke("SecretsFunction", {"database": arn, "plan": True})["status"] == "unchanged"
    migration = account.invoke("MigrateFunction", {"database": arn, "user": "app", "plan": True})
    assert migration["code"] == "successor-not-declared", migration


@pytest.mark.parametrize("function", ["VendFunction", "PolicyFunction"])
def test_no_other_function_chooses_the_applied_version(account, place, published, function):
    ask(account, place)  # so that VendFunction runs
    dynamodb = account.cloud.client("dynamodb", account.credentials_of(function))
    with pytest.raises(ClientError, match="AccessDenied"):
        dynamodb.update_item(
            TableName=account.cloud.outputs["InventoryTable"],
            Key={"database": {"S": "access.yaml"}},
            UpdateExpression="SET applied_version = :version",
            ExpressionAttributeValues={":version": {"S": "v0"}},
        )
