"""Tables, buckets and key let only the functions write, and only administrators administer, whatever IAM allows.

The attackers here have all of DynamoDB, S3 and KMS, as AmazonDynamoDBFullAccess and AmazonS3FullAccess give it.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.iam.judge import Judge, Policy, Request
from tests.integration.account import Account

ACCOUNT = "123456789012"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
ADMINISTRATOR = f"arn:aws:iam::{ACCOUNT}:user/administrator"
PLANTED = "audits/index/99991231T235959Z-ffffffff.all.json"
NOBODY = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
OPEN = json.dumps({"Version": "2012-10-17", "Statement": [NOBODY]})


@pytest.fixture(scope="module")
def mallory(account: Account) -> dict[str, Any]:
    """Credentials of a role that has everything in DynamoDB, S3 and KMS."""
    arn = account.make_role("mallory-of-the-stores", managed=False)
    statement = {"Sid": "All", "Effect": "Allow", "Action": ["dynamodb:*", "s3:*", "kms:*"], "Resource": "*"}
    account.cloud.client("iam").put_role_policy(
        RoleName="mallory-of-the-stores",
        PolicyName="all",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    return account.assume(arn)


@pytest.fixture(scope="module")
def key(account: Account) -> str:
    return account.cloud.outputs["Key"]


def denied(action: str, call: Callable[..., Any], **arguments: Any) -> None:
    """Check that a policy of the resource denies the call."""
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    error = refused.value.response["Error"]
    assert error["Code"] in ("AccessDenied", "AccessDeniedException"), error
    assert f"is not authorized to perform: {action} on resource: " in error["Message"], error


def arn_of(account: Account, output: str) -> str:
    name = account.cloud.outputs[output]
    return f"arn:aws:dynamodb:{account.cloud.region}:{ACCOUNT}:table/{name}"


# --- The tables ---


def test_dynamodb_rights_write_nothing_into_the_inventory(account, mallory):
    dynamodb, table = account.cloud.client("dynamodb", mallory), account.cloud.outputs["InventoryTable"]
    at = {"TableName": table, "Key": {"database": {"S": "arn:of:prod"}}}
    dev = {"UpdateExpression": "SET described = :d", "ExpressionAttributeValues": {":d": {"M": {}}}}
    denied("dynamodb:UpdateItem", dynamodb.update_item, **at, **dev)
    denied("dynamodb:DeleteItem", dynamodb.delete_item, **at)
    item = {"database": {"S": "arn:of:prod"}}
    denied("dynamodb:PutItem", dynamodb.put_item, TableName=table, Item=item)
    denied("dynamodb:BatchWriteItem", dynamodb.batch_write_item, RequestItems={table: [{"PutRequest": {"Item": item}}]})
    denied("dynamodb:UpdateItem", dynamodb.transact_write_items, TransactItems=[{"Update": at | dev}])
    for verb, statement in (
        ("Insert", f"INSERT INTO \"{table}\" VALUE {{'database': 'x'}}"),
        ("Update", f"UPDATE \"{table}\" SET a = 1 WHERE database = 'x'"),
        ("Delete", f"DELETE FROM \"{table}\" WHERE database = 'x'"),
    ):
        denied(f"dynamodb:PartiQL{verb}", dynamodb.execute_statement, Statement=statement)


def test_dynamodb_rights_neither_forge_nor_clean_nor_read_decisions(account, mallory):
    dynamodb, table = account.cloud.client("dynamodb", mallory), account.cloud.outputs["DecisionsTable"]
    at = {"TableName": table, "Key": {"id": {"S": "x"}}}
    denied("dynamodb:PutItem", dynamodb.put_item, TableName=table, Item=at["Key"])
    denied("dynamodb:UpdateItem", dynamodb.update_item, **at)
    denied("dynamodb:DeleteItem", dynamodb.delete_item, **at)
    denied("dynamodb:GetItem", dynamodb.get_item, **at)
    denied("dynamodb:Scan", dynamodb.scan, TableName=table)
    by_day = {"IndexName": "by-day", "KeyConditionExpression": "#d = :d", "ExpressionAttributeNames": {"#d": "day"}}
    values = {":d": {"S": "2026-11-27"}}
    denied("dynamodb:Query", dynamodb.query, TableName=table, ExpressionAttributeValues=values, **by_day)
    denied("dynamodb:PartiQLDelete", dynamodb.execute_statement, Statement=f"DELETE FROM \"{table}\" WHERE id = 'x'")


def test_not_even_an_administrator_changes_decisions_or_the_inventory(account):
    dynamodb = account.cloud.client("dynamodb")
    at = {"TableName": account.cloud.outputs["DecisionsTable"], "Key": {"id": {"S": "x"}}}
    denied("dynamodb:DeleteItem", dynamodb.delete_item, **at)
    denied("dynamodb:UpdateItem", dynamodb.update_item, **at)
    inventory = {"TableName": account.cloud.outputs["InventoryTable"], "Key": {"database": {"S": "x"}}}
    denied("dynamodb:UpdateItem", dynamodb.update_item, **inventory)


@pytest.mark.parametrize("output", ["InventoryTable", "DecisionsTable"])
def test_dynamodb_rights_do_not_administer_the_tables(account, mallory, output):
    dynamodb, table, arn = (
        account.cloud.client("dynamodb", mallory),
        account.cloud.outputs[output],
        arn_of(account, output),
    )
    denied("dynamodb:PutResourcePolicy", dynamodb.put_resource_policy, ResourceArn=arn, Policy=OPEN)
    denied("dynamodb:DeleteResourcePolicy", dynamodb.delete_resource_policy, ResourceArn=arn)
    denied("dynamodb:UpdateTable", dynamodb.update_table, TableName=table, DeletionProtectionEnabled=False)
    denied("dynamodb:DeleteTable", dynamodb.delete_table, TableName=table)
    expiry = {"Enabled": True, "AttributeName": "id"}
    denied("dynamodb:UpdateTimeToLive", dynamodb.update_time_to_live, TableName=table, TimeToLiveSpecification=expiry)
    recovery = {"PointInTimeRecoveryEnabled": False}
    denied(
        "dynamodb:UpdateContinuousBackups",
        dynamodb.update_continuous_backups,
        TableName=table,
        PointInTimeRecoverySpecification=recovery,
    )
    copy = {"SourceTableName": table, "TargetTableName": "copy", "UseLatestRestorableTime": True}
    denied("dynamodb:RestoreTableToPointInTime", dynamodb.restore_table_to_point_in_time, **copy)
    denied("dynamodb:ExportTableToPointInTime", dynamodb.export_table_to_point_in_time, TableArn=arn, S3Bucket="b")
    denied("dynamodb:CreateBackup", dynamodb.create_backup, TableName=table, BackupName="copy")


# --- The buckets ---


def test_s3_rights_make_nobody_a_publisher(account, mallory):
    """Whoever could change policy, versioning or lifecycle could have access.yaml replaced or deleted."""
    s3, bucket = account.cloud.client("s3", mallory), {"Bucket": account.cloud.outputs["AccessBucket"]}
    denied("s3:PutObject", s3.put_object, Key="access.yaml", Body=b"version: 1", **bucket)
    denied("s3:DeleteObject", s3.delete_object, Key="access.yaml", **bucket)
    administration(s3, bucket)


@pytest.mark.parametrize("output", ["ReportBucket", "ResultBucket"])
def test_s3_rights_write_and_delete_no_report_and_no_result(account, mallory, output):
    s3, bucket = account.cloud.client("s3", mallory), {"Bucket": account.cloud.outputs[output]}
    for each in (s3, account.cloud.client("s3")):
        denied("s3:PutObject", each.put_object, Key=PLANTED, Body=b"{}", **bucket)
        denied("s3:DeleteObject", each.delete_object, Key=PLANTED, **bucket)
        denied("s3:DeleteObjectVersion", each.delete_object, Key=PLANTED, VersionId="v", **bucket)
    administration(s3, bucket)


def administration(s3: Any, bucket: dict[str, Any]) -> None:
    """Check that a bucket can't be administered."""
    rule = {"ID": "x", "Status": "Enabled", "Prefix": "", "Expiration": {"Days": 1}}
    denied("s3:PutLifecycleConfiguration", s3.put_bucket_lifecycle_configuration,
           LifecycleConfiguration={"Rules": [rule]}, **bucket)  # fmt: skip
    denied(
        "s3:PutBucketVersioning", s3.put_bucket_versioning, VersioningConfiguration={"Status": "Suspended"}, **bucket
    )
    denied("s3:PutBucketPolicy", s3.put_bucket_policy, Policy=OPEN, **bucket)
    denied("s3:DeleteBucketPolicy", s3.delete_bucket_policy, **bucket)
    denied("s3:DeleteBucket", s3.delete_bucket, **bucket)
    denied("s3:PutBucketPublicAccessBlock", s3.delete_public_access_block, **bucket)
    denied("s3:PutEncryptionConfiguration", s3.delete_bucket_encryption, **bucket)
    copied = {"Role": "arn:aws:iam::123456789012:role/r", "Rules": [
        {"Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "arn:aws:s3:::elsewhere"}}]}  # fmt: skip
    denied("s3:PutReplicationConfiguration", s3.put_bucket_replication, ReplicationConfiguration=copied, **bucket)


# --- The key ---


def test_kms_rights_neither_use_the_key_nor_administer_it(account, mallory, key):
    kms = account.cloud.client("kms", mallory)
    denied("kms:PutKeyPolicy", kms.put_key_policy, KeyId=key, PolicyName="default", Policy=OPEN)
    denied("kms:ScheduleKeyDeletion", kms.schedule_key_deletion, KeyId=key)
    denied("kms:DisableKey", kms.disable_key, KeyId=key)
    denied("kms:GenerateDataKey", kms.generate_data_key, KeyId=key, KeySpec="AES_256")
    grant = {"GranteePrincipal": ADMINISTRATOR, "Operations": ["Decrypt"]}
    denied("kms:CreateGrant", kms.create_grant, KeyId=key, **grant)
    inventory = {"TableName": account.cloud.outputs["InventoryTable"], "Key": {"database": {"S": "x"}}}
    denied("kms:Decrypt", account.cloud.client("dynamodb", mallory).get_item, **inventory)


# --- Those who may ---


def test_administrators_administer_tables_buckets_and_the_key(account, key):
    cloud = account.cloud
    for output in ("InventoryTable", "DecisionsTable"):
        arn, dynamodb = arn_of(account, output), cloud.client("dynamodb")
        policy = dynamodb.get_resource_policy(ResourceArn=arn)["Policy"]
        assert len(policy) < 20_000
        dynamodb.put_resource_policy(ResourceArn=arn, Policy=policy)
    for output in ("AccessBucket", "ReportBucket", "ResultBucket"):
        s3, bucket = cloud.client("s3"), cloud.outputs[output]
        s3.put_bucket_policy(Bucket=bucket, Policy=s3.get_bucket_policy(Bucket=bucket)["Policy"])
    kms = cloud.client("kms")
    policy = kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=policy)


@pytest.fixture(scope="module")
def policies(account: Account, key: str) -> dict[str, Any]:
    """Return the deployed policies by their resource, with an action that administers it and its ARN."""
    cloud = account.cloud
    found: dict[str, Any] = {}
    for output in ("InventoryTable", "DecisionsTable"):
        arn = arn_of(account, output)
        text = cloud.client("dynamodb").get_resource_policy(ResourceArn=arn)["Policy"]
        found[output] = ("dynamodb:PutResourcePolicy", arn, text)
    for output in ("AccessBucket", "ReportBucket", "ResultBucket"):
        text = cloud.client("s3").get_bucket_policy(Bucket=cloud.outputs[output])["Policy"]
        found[output] = ("s3:PutBucketPolicy", f"arn:aws:s3:::{cloud.outputs[output]}", text)
    text = cloud.client("kms").get_key_policy(KeyId=key, PolicyName="default")["Policy"]
    found["Key"] = ("kms:PutKeyPolicy", key, text)
    return found


@pytest.fixture(scope="module")
def judge() -> Any:
    judge = Judge()
    yield judge
    judge.close()


STORES = ["InventoryTable", "DecisionsTable", "AccessBucket", "ReportBucket", "ResultBucket", "Key"]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    ("principal", "context", "allowed"),
    [
        (f"arn:aws:iam::{ACCOUNT}:user/somebody", {}, False),
        (f"arn:aws:iam::{ACCOUNT}:user/somebody", {"aws:CalledVia": ["athena.amazonaws.com"]}, False),
        (f"arn:aws:iam::{ACCOUNT}:user/somebody", {"aws:CalledVia": ["cloudformation.amazonaws.com"]}, True),
        (ADMINISTRATOR, {}, True),
        (ROOT, {}, True),
    ],
    ids=["somebody", "through another service", "through CloudFormation", "an administrator", "the root user"],
)
def test_the_policy_is_changed_by_permitted_principals_only(policies, judge, store, principal, context, allowed):
    action, arn, document = policies[store]
    everything = {"Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*"}
    own = Policy("own", {"Version": "2012-10-17", "Statement": [everything]})
    keys = {"aws:PrincipalArn": principal, "aws:SecureTransport": "true", "aws:PrincipalAccount": ACCOUNT}
    request = Request(principal, action, arn, ACCOUNT, keys | context, [own], resource_policy=Policy(store, document))
    decision = judge.decide(request)
    assert decision.error is None
    assert decision.allowed is allowed


READS: dict[str, set[str]] = {
    "Audit": {"Audit", "Onboard"},
    "Migrate": {"Migrate", "Onboard"},
    "Onboard": {"Onboard", "Policy", "Secrets"},
    "Policy": set(),
    "Secrets": set(),
}


@pytest.mark.parametrize("function", sorted(READS))
def test_a_function_stores_its_own_results_and_reads_those_of_functions_that_it_invokes(
    account, policies, judge, function
):
    role = f"rdsiam-{function}FunctionRole-{account.cloud.region}"
    document = account.cloud.client("iam").get_role_policy(RoleName=role, PolicyName="own")["PolicyDocument"]
    _, bucket, bucket_policy = policies["ResultBucket"]
    principal = f"arn:aws:iam::{ACCOUNT}:role/{role}"
    keys = {"aws:PrincipalArn": principal, "aws:SecureTransport": "true", "aws:PrincipalAccount": ACCOUNT}

    def allowed(action: str) -> set[str]:
        own, of_bucket = Policy("own", document), Policy("ResultBucket", bucket_policy)
        requests = {
            folder: Request(
                principal, action, f"{bucket}/{folder}/step-0.json", ACCOUNT, keys, [own], resource_policy=of_bucket
            )
            for folder in READS
        }
        return {folder for folder, request in requests.items() if judge.decide(request).allowed}

    assert allowed("s3:PutObject") == {function}
    assert allowed("s3:GetObject") == READS[function]
    assert allowed("s3:DeleteObject") == set()
