"""Databases that exchange names, as blue/green deployments have them do, and events of RDS that only AWS can cause."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.account import Account, until
from tests.integration.api_requests import post


def logins_of(account: Account, role: str) -> set[str]:
    """Return resource id and user of the logins that a role's policies allow."""
    iam, found = account.cloud.client("iam"), set()
    for policy in iam.list_attached_role_policies(RoleName=role.rpartition("/")[2])["AttachedPolicies"]:
        version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)["PolicyVersion"]["Document"]
        found |= {resource.rpartition(":dbuser:")[2] for resource in document["Statement"][0]["Resource"]}
    return found


def vended(account: Account, arn: str, role: str) -> str:
    """Return a token for `app` that VendFunction gives, once it has read the inventory."""
    answer = post(account, account.assume(role), {"database": arn, "user": "app"})
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["token"]
    return token


def test_after_a_switchover_the_logins_are_those_of_the_databases_that_have_the_names(account, databases):
    """Green is a copy of blue with its users; both are renamed, and RDS reports it with the deployment's ARN.

    What access.yaml gives by blue's name counts for its copy, since its source's attributes do.
    """
    role = account.make_role("switchover")
    account.let_call_the_api(role)
    user = {"name": "app", "privileges": "readonly", "on": ["shop"], "roles": [role], "callers": [{"role": role}]}
    account.declare("shop", user)
    arn = account.create("shop")
    account.wait_onboarded(arn)
    account.connect(arn, "app", account.token(arn, "app", account.assume(role))).close()
    rds = databases.rds
    rds.create_db_snapshot(DBSnapshotIdentifier="shop-blue", DBInstanceIdentifier="shop")
    snapshots = lambda: rds.describe_db_snapshots(DBSnapshotIdentifier="shop-blue")["DBSnapshots"]  # noqa: E731
    until(lambda: snapshots()[0]["Status"] == "available", 60)
    rds.restore_db_instance_from_db_snapshot(
        DBInstanceIdentifier="shop-green-a1b2c3", DBSnapshotIdentifier="shop-blue", EnableIAMDatabaseAuthentication=True
    )
    databases.available("shop-green-a1b2c3", "shop")
    green = databases.instance("shop-green-a1b2c3")
    # Its name is not the declared one: until the switchover nobody may log in to it.
    until(lambda: account.record(green["DBInstanceArn"]) is not None, 120)
    assert account.onboard(green["DBInstanceArn"])["status"] == "ignored"
    blue = databases.instance("shop")
    assert green["DbiResourceId"] != blue["DbiResourceId"]

    for former, name in (("shop", "shop-old1"), ("shop-green-a1b2c3", "shop")):
        rds.modify_db_instance(DBInstanceIdentifier=former, NewDBInstanceIdentifier=name, ApplyImmediately=True)
        databases.eventually(lambda former=former: databases.gone(former))
        databases.available(name)
    deployment = f"arn:aws:rds:{account.cloud.region}:{account.cloud.account}:deployment:bgd-a1b2c3"
    account.cloud.send_as_rds("RDS Blue Green Deployment Event", deployment, "0251")

    old = databases.instance("shop-old1")["DBInstanceArn"]
    until(lambda: account.record(arn)["resource_id"] == {"S": green["DbiResourceId"]}, 120)
    assert account.describe(old)["DbiResourceId"] == blue["DbiResourceId"]
    until(lambda: account.onboard(arn)["status"] == "unchanged", 120)
    assert account.record(green["DBInstanceArn"]) is None
    account.start_afresh("VendFunction")
    account.connect(arn, "app", account.token(arn, "app", account.assume(role))).close()
    account.connect(arn, "app", vended(account, arn, role)).close()

    # The old database has another name by now, so that all of its users leave: an operator confirms it.
    assert account.onboard(old)["code"] == "needs-confirmation"
    assert account.onboard(old, confirm=True)["status"] == "onboarded"
    assert logins_of(account, role) == {f"{green['DbiResourceId']}/app"}
    databases.drop("shop-old1")
    until(lambda: account.record(old) is None, 120)
    account.connect(arn, "app", vended(account, arn, role)).close()
    account.declare("shop")
    databases.drop("shop")


@pytest.fixture(scope="module")
def reported(account) -> Iterator[tuple[str, Callable[[], list[Any]]]]:
    """Return a database, and a function that returns the details of all notices since."""
    sqs, bridge = account.cloud.client("sqs"), account.cloud.client("events")
    queue = sqs.create_queue(QueueName="notices-of-rdsiam")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["rdsiam"], "detail-type": ["rdsiam.database.notice"]}
    bridge.put_rule(Name="notices-of-rdsiam", EventPattern=json.dumps(pattern))
    bridge.put_targets(Rule="notices-of-rdsiam", Targets=[{"Id": "queue", "Arn": arn}])
    seen: list[Any] = []

    def details() -> list[Any]:
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                seen.append(json.loads(message["Body"])["detail"])
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return seen

    database = account.create("reported")
    account.wait(database)
    account.onboard(database)
    yield database, details
    bridge.remove_targets(Rule="notices-of-rdsiam", Ids=["queue"])
    bridge.delete_rule(Name="notices-of-rdsiam")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        ("0327", "secret-not-found"),
        ("0403", "memory-critically-low"),
        pytest.param("0404", "memory-critically-low", marks=pytest.mark.exhaustive),
    ],
)
def test_what_only_rds_notices_is_published_and_in_the_next_report(account, reported, number, kind):
    arn, published = reported
    account.cloud.send_as_rds("RDS DB Instance Event", arn, number)
    event = f"RDS-EVENT-{number}"
    until(lambda: event in (account.record(arn) or {}).get("notices", {}).get("M", {}), 60)
    until(lambda: {"database": arn, "event": event} in published(), 30)
    uri = account.invoke("AuditFunction", {"databases": [arn]})["reports"]["json"]
    bucket = account.cloud.outputs["ReportBucket"]
    body = account.cloud.client("s3").get_object(Bucket=bucket, Key=uri.partition(f"{bucket}/")[2])["Body"].read()
    found = [one for one in json.loads(body)["findings"] if one["kind"] == kind]
    assert [one["evidence"]["event"] for one in found] == [event]
