"""localcloud judges policies of tables, keys and functions beside the caller's; AWS alone sends AWS's events."""

import json
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

ACCOUNT = "123456789012"
EVERYBODY = {"Sid": "S", "Effect": "Deny", "Principal": "*", "Resource": "*"}


@pytest.fixture(scope="module")
def key(account: Any) -> str:
    """Return a key that whoever may use it can use through DynamoDB only."""
    own = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Resource": "*"}
    via = {"StringEquals": {"kms:ViaService": f"dynamodb.{account.cloud.region}.amazonaws.com"}}
    statements = [
        own | {"Action": ["kms:DescribeKey", "kms:CreateGrant", "kms:PutKeyPolicy"]},
        own | {"Action": ["kms:Decrypt"], "Condition": via},
    ]
    made = account.cloud.client("kms").create_key(Policy=document(*statements))
    return str(made["KeyMetadata"]["Arn"])


@pytest.fixture(scope="module")
def table(account: Any, key: str) -> str:
    """Return a table under that key; its ARN."""
    made = account.cloud.client("dynamodb").create_table(
        TableName="policies",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key},
    )
    return str(made["TableDescription"]["TableArn"])


@pytest.fixture
def policy(account: Any, table: str) -> Iterator[Any]:
    """Attach a policy to the table; gone after the test."""
    client = account.cloud.client("dynamodb")

    def attach(*statements: dict[str, Any]) -> None:
        client.put_resource_policy(ResourceArn=table, Policy=document(*statements))

    yield attach
    client.delete_resource_policy(ResourceArn=table)


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def role(account: Any, name: str, *actions: str) -> dict[str, Any]:
    """Return credentials of a new role that may do these actions on everything."""
    arn = account.make_role(name, managed=False)
    if actions:
        statement = {"Sid": "Own", "Effect": "Allow", "Action": list(actions), "Resource": "*"}
        account.cloud.client("iam").put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(statement))
    credentials: dict[str, Any] = account.assume(arn)
    return credentials


def put(account: Any, credentials: dict[str, Any], table: str) -> None:
    account.cloud.client("dynamodb", credentials).put_item(TableName=table, Item={"id": {"S": "1"}})


def test_a_table_s_policy_denies_what_the_caller_s_own_policy_allows(account, table, policy):
    writer = role(account, "policies-writer", "dynamodb:*", "kms:Decrypt")
    put(account, writer, table)
    policy(EVERYBODY | {"Action": ["dynamodb:PutItem", "dynamodb:PartiQLDelete"]})
    with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
        put(account, writer, table)
    client = account.cloud.client("dynamodb", writer)
    with pytest.raises(ClientError, match="PartiQLDelete"):
        client.execute_statement(Statement="DELETE FROM \"policies\" WHERE id = '1'")
    assert client.get_item(TableName=table, Key={"id": {"S": "1"}})["Item"]


def test_a_table_s_policy_allows_a_role_that_has_no_policy_of_its_own(account, table, policy):
    named = role(account, "policies-named", "kms:Decrypt")
    with pytest.raises(ClientError, match="dynamodb:PutItem"):
        put(account, named, table)
    policy({
        "Sid": "One", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/policies-named"},
        "Action": "dynamodb:PutItem", "Resource": table,
    })  # fmt: skip
    put(account, named, table)


def test_items_of_a_table_under_a_customer_s_key_need_the_key_in_the_caller_s_name(account, table, key):
    without = role(account, "policies-keyless", "dynamodb:*")
    with pytest.raises(ClientError, match="kms:Decrypt"):
        put(account, without, table)
    assert account.cloud.client("dynamodb", without).describe_table(TableName="policies")["Table"]
    user = role(account, "policies-key-user", "dynamodb:*", "kms:*")
    put(account, user, table)
    # Its own policy allows all of KMS, but the key's lets nobody use it but through DynamoDB.
    with pytest.raises(ClientError, match="kms:Decrypt"):
        account.cloud.client("kms", user).decrypt(CiphertextBlob=b"x", KeyId=key)


def test_nobody_but_aws_sends_events_of_aws(account):
    detail = {"DetailType": "RDS DB Instance Event", "Detail": "{}"}
    answer = account.cloud.client("events").put_events(
        Entries=[detail | {"Source": "aws.rds"}, detail | {"Source": "test"}]
    )
    assert answer["FailedEntryCount"] == 1
    assert answer["Entries"][0]["ErrorCode"] == "NotAuthorizedForSourceException"
    assert answer["Entries"][1]["EventId"]


def test_a_schedule_that_does_not_exist_does_not_fire(account):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        account.cloud.fire_schedule("no-such-rule")


def test_a_permission_is_added_to_a_function_s_policy_and_taken_away_again(account):
    client, invoker = account.cloud.client("lambda"), role(account, "policies-invoker")
    function = account.cloud.functions["PolicyFunction"]
    permission = {"FunctionName": function, "StatementId": "added"}
    before = sids(client, function)
    added = client.add_permission(
        Action="lambda:InvokeFunction", Principal=f"arn:aws:iam::{ACCOUNT}:role/policies-invoker", **permission
    )
    try:
        assert json.loads(added["Statement"])["Sid"] == "added"
        assert sids(client, function) == [*before, "added"]
        with pytest.raises(client.exceptions.ResourceConflictException):
            client.add_permission(Action="lambda:InvokeFunction", Principal="events.amazonaws.com", **permission)
        # The function's policy denies everybody but OnboardFunction, whatever is added to it.
        with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
            account.cloud.client("lambda", invoker).invoke(FunctionName=function, Payload=b"{}")
    finally:
        client.remove_permission(**permission)
    assert sids(client, function) == before
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.remove_permission(**permission)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_policy(FunctionName="no-such-function")


def sids(client: Any, function: str) -> list[str]:
    return [each["Sid"] for each in json.loads(client.get_policy(FunctionName=function)["Policy"])["Statement"]]
