"""A role without rights is denied each call that the layer and the tests make; with one right it can make that call."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

ACCOUNT = "arn:aws:{}:eu-central-1:123456789012:{}"
FINDING = ACCOUNT.format("securityhub", "product/123456789012/default")
KEY = {"Id": "i", "ProductArn": FINDING}
SUBNETS = ["subnet-1", "subnet-2"]
SNAPSHOT = {"DBSnapshotIdentifier": "s", "DBInstanceIdentifier": "d"}

#: Service, operation, parameters, the action that it needs.
CALLS: list[tuple[str, str, dict[str, Any], str]] = [
    ("rds", "describe_db_instances", {}, "rds:DescribeDBInstances"),
    ("rds", "describe_db_clusters", {}, "rds:DescribeDBClusters"),
    ("rds", "describe_db_proxies", {}, "rds:DescribeDBProxies"),
    ("rds", "describe_db_proxy_targets", {"DBProxyName": "p"}, "rds:DescribeDBProxyTargets"),
    ("rds", "modify_db_cluster", {"DBClusterIdentifier": "c"}, "rds:ModifyDBCluster"),
    ("rds", "list_tags_for_resource", {"ResourceName": ACCOUNT.format("rds", "cluster:c")}, "rds:ListTagsForResource"),
    ("rds", "create_db_cluster", {"DBClusterIdentifier": "c", "Engine": "aurora-mysql"}, "rds:CreateDBCluster"),
    ("rds", "delete_db_cluster", {"DBClusterIdentifier": "c"}, "rds:DeleteDBCluster"),
    ("rds", "stop_db_cluster", {"DBClusterIdentifier": "c"}, "rds:StopDBCluster"),
    ("rds", "start_db_cluster", {"DBClusterIdentifier": "c"}, "rds:StartDBCluster"),
    ("rds", "reboot_db_cluster", {"DBClusterIdentifier": "c"}, "rds:RebootDBCluster"),
    ("rds", "stop_db_instance", {"DBInstanceIdentifier": "d"}, "rds:StopDBInstance"),
    ("rds", "start_db_instance", {"DBInstanceIdentifier": "d"}, "rds:StartDBInstance"),
    ("rds", "reboot_db_instance", {"DBInstanceIdentifier": "d"}, "rds:RebootDBInstance"),
    ("rds", "promote_read_replica", {"DBInstanceIdentifier": "d"}, "rds:PromoteReadReplica"),
    ("rds", "create_db_instance_read_replica", {"DBInstanceIdentifier": "r", "SourceDBInstanceIdentifier": "d"},
     "rds:CreateDBInstanceReadReplica"),
    ("rds", "create_db_snapshot", SNAPSHOT, "rds:CreateDBSnapshot"),
    ("rds", "restore_db_instance_from_db_snapshot", SNAPSHOT, "rds:RestoreDBInstanceFromDBSnapshot"),
    ("rds", "restore_db_instance_to_point_in_time",
     {"SourceDBInstanceIdentifier": "d", "TargetDBInstanceIdentifier": "t"}, "rds:RestoreDBInstanceToPointInTime"),
    ("rds", "create_db_proxy", {"DBProxyName": "p", "EngineFamily": "MYSQL", "RoleArn": "r" * 20,
                                "VpcSubnetIds": SUBNETS}, "rds:CreateDBProxy"),
    ("rds", "register_db_proxy_targets", {"DBProxyName": "p"}, "rds:RegisterDBProxyTargets"),
    ("rds", "delete_db_proxy", {"DBProxyName": "p"}, "rds:DeleteDBProxy"),
    ("rds", "modify_db_parameter_group", {"DBParameterGroupName": "g", "Parameters": []}, "rds:ModifyDBParameterGroup"),
    ("iam", "get_account_authorization_details", {}, "iam:GetAccountAuthorizationDetails"),
    ("secretsmanager", "list_secrets", {}, "secretsmanager:ListSecrets"),
    ("secretsmanager", "describe_secret", {"SecretId": "s"}, "secretsmanager:DescribeSecret"),
    ("secretsmanager", "get_secret_value", {"SecretId": "s"}, "secretsmanager:GetSecretValue"),
    ("secretsmanager", "batch_get_secret_value", {"SecretIdList": ["s"]}, "secretsmanager:BatchGetSecretValue"),
    ("s3", "put_object", {"Bucket": "b", "Key": "k", "Body": b""}, "AccessDenied"),
    ("s3", "get_object", {"Bucket": "b", "Key": "k"}, "AccessDenied"),
    ("s3", "list_objects_v2", {"Bucket": "b"}, "AccessDenied"),
    ("s3", "head_object", {"Bucket": "b", "Key": "k"}, "403"),
    ("sns", "publish", {"TopicArn": ACCOUNT.format("sns", "t"), "Message": "m"}, "sns:Publish"),
    ("securityhub", "batch_import_findings", {"Findings": [{
        "SchemaVersion": "2018-10-08", "GeneratorId": "g", "AwsAccountId": "123456789012", "Title": "t",
        "CreatedAt": "c", "UpdatedAt": "u", "Description": "d", "Resources": [{"Type": "Other", "Id": "x"}], **KEY}]},
     "securityhub:BatchImportFindings"),
    ("securityhub", "batch_update_findings", {"FindingIdentifiers": [KEY]}, "securityhub:BatchUpdateFindings"),
    ("securityhub", "get_findings", {}, "securityhub:GetFindings"),
    ("lambda", "invoke", {"FunctionName": "f"}, "lambda:InvokeFunction"),
    ("dynamodb", "query", {"TableName": "t", "KeyConditionExpression": "k = v"}, "dynamodb:Query"),
    ("dynamodb", "scan", {"TableName": "t"}, "dynamodb:Scan"),
    ("dynamodb", "batch_get_item", {"RequestItems": {"t": {"Keys": [{"k": {"S": "v"}}]}}}, "dynamodb:BatchGetItem"),
    ("cloudwatch", "put_metric_data", {"Namespace": "n", "MetricData": [{"MetricName": "m", "Value": 1}]},
     "cloudwatch:PutMetricData"),
]  # fmt: skip


@pytest.fixture(scope="module")
def nobody(databases) -> Callable[[str], Any]:
    """Make clients of a role that may do nothing."""
    credentials = databases.role()
    return lambda service: databases.cloud.client(service, credentials)


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "said"), CALLS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_principal_without_permissions_is_denied(nobody, service, operation, parameters, said):
    with pytest.raises(ClientError) as denied:
        getattr(nobody(service), operation)(**parameters)
    assert denied.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)
    assert said in str(denied.value)
    assert "localcloud does not know" not in str(denied.value)


def test_a_resource_s_tags_and_kind_decide(databases):
    databases.make_cluster("tagged", "aurora-postgresql", members=0, Tags=[{"Key": "team", "Value": "a"}])
    databases.make_cluster("untagged", "aurora-postgresql", members=0)
    everything = ACCOUNT.format("rds", "cluster:*")
    allow = {"Effect": "Allow", "Action": "rds:ModifyDBCluster", "Resource": everything,
             "Condition": {"StringEquals": {"aws:ResourceTag/team": "a"}}}  # fmt: skip
    rds = databases.cloud.client("rds", databases.role(allow))
    databases.eventually(lambda: databases.cluster("tagged")["Status"] == "available")
    rds.modify_db_cluster(DBClusterIdentifier="tagged", BackupRetentionPeriod=2)
    with pytest.raises(ClientError, match="rds:ModifyDBCluster"):
        rds.modify_db_cluster(DBClusterIdentifier="untagged", BackupRetentionPeriod=2)
    for name in ("tagged", "untagged"):
        databases.rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)


def test_many_secrets_need_the_right_to_each(databases):
    manager = databases.cloud.client("secretsmanager")
    for name in ("many-1", "many-2"):
        manager.create_secret(Name=name, SecretString="canary")
    statements = [
        {"Effect": "Allow", "Action": "secretsmanager:BatchGetSecretValue", "Resource": "*"},
        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue",
         "Resource": ACCOUNT.format("secretsmanager", "secret:many-1-*")},
    ]  # fmt: skip
    client = databases.cloud.client("secretsmanager", databases.role(*statements))
    assert len(client.batch_get_secret_value(SecretIdList=["many-1"])["SecretValues"]) == 1
    with pytest.raises(ClientError, match="secretsmanager:GetSecretValue"):
        client.batch_get_secret_value(SecretIdList=["many-1", "many-2"])
    for name in ("many-1", "many-2"):
        manager.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def test_metrics_are_bound_to_a_namespace(databases):
    allow = {"Effect": "Allow", "Action": "cloudwatch:PutMetricData", "Resource": "*",
             "Condition": {"StringEquals": {"cloudwatch:namespace": "rdsiam"}}}  # fmt: skip
    client = databases.cloud.client("cloudwatch", databases.role(allow))
    data = [{"MetricName": "m", "Value": 1.0}]
    client.put_metric_data(Namespace="rdsiam", MetricData=data)
    with pytest.raises(ClientError, match="cloudwatch:PutMetricData"):
        client.put_metric_data(Namespace="other", MetricData=data)
