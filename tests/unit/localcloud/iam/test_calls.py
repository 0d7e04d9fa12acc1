"""Permissions that calls need, read from requests of clients; an ambiguous request is no known call."""

import json

import pytest

from localcloud.core.web import Request
from localcloud.iam.calls import Place, UnknownCall, needs
from localcloud.iam.calls_dynamodb import dynamodb_needs
from localcloud.iam.calls_rds import rds_needs
from localcloud.iam.calls_rest import function_arn, lambda_needs, metrics_needs, s3_needs, securityhub_needs

PLACE = Place("eu-west-1", "123456789012")
METRICS = "/service/GraniteServiceVersion20100801/operation/"
CBOR = ("Content-Type", "application/cbor")
FORM = ("Content-Type", "application/x-www-form-urlencoded")


def of_query(service: str, body: str, query: str = "") -> list[tuple[str, str]]:
    found = needs(service, Request("POST", "/", query, (FORM,), body.encode()), PLACE)
    return [(need.action, need.resource) for need in found]


def of_json(service: str, operation: str, query: str = "", **parameters: object) -> list[tuple[str, str]]:
    headers = (("X-Amz-Target", f"Service.{operation}"),)
    request = Request("POST", "/", query, headers, json.dumps(parameters).encode())
    found = dynamodb_needs(request, PLACE) if service == "dynamodb" else needs(service, request, PLACE)
    return [(need.action, need.resource) for need in found]


def of_rds(body: str) -> list[tuple[str, str]]:
    prefix = "arn:aws:rds:eu-west-1:123456789012:"
    found = rds_needs(Request("POST", "/", "", (FORM,), body.encode()), PLACE)
    return [(need.action.removeprefix("rds:"), need.resource.removeprefix(prefix)) for need in found]


def of_s3(
    method: str, path: str, query: str = "", *headers: tuple[str, str], body: bytes = b""
) -> list[tuple[str, str]]:
    return [(need.action, need.resource) for need in s3_needs(Request(method, path, query, headers, body), PLACE)]


def of_lambda(method: str, path: str, body: object = None) -> list[tuple[str, str]]:
    request = Request(method, path, "", (), json.dumps(body or {}).encode())
    known = {"name/id": "arn:aws:lambda:eu-west-1:123456789012:function:f:1/durable-execution/name/id"}
    return [(need.action, need.resource) for need in lambda_needs(request, PLACE, lambda _: None, known.get)]


def test_queries_name_action_and_resource():
    role = "arn:aws:iam::123456789012:role/app"
    assert of_query("iam", "Action=AttachRolePolicy&RoleName=app&PolicyArn=p") == [("iam:AttachRolePolicy", role)]
    policy = "arn:aws:iam::123456789012:policy/a/b/p"
    assert of_query("iam", "Action=CreatePolicy&PolicyName=p&Path=/a/b/") == [("iam:CreatePolicy", policy)]
    assert of_query("sts", "Action=GetCallerIdentity") == []


def test_a_role_that_is_assumed_with_a_source_identity_and_tags_needs_three_permissions():
    body = "Action=AssumeRole&RoleArn=r&SourceIdentity=me&Tags.member.1.Key=k&Tags.member.1.Value=v"
    assert [action for action, _ in of_query("sts", body)] == [
        "sts:AssumeRole",
        "sts:SetSourceIdentity",
        "sts:TagSession",
    ]


def test_an_index_is_a_resource_and_a_transaction_needs_what_its_parts_need():
    table = "arn:aws:dynamodb:eu-west-1:123456789012:table/t"
    assert of_json("dynamodb", "Query", TableName="t", IndexName="i") == [("dynamodb:Query", f"{table}/index/i")]
    parts = [{"Put": {"TableName": "t"}}, {"Delete": {"TableName": "t"}}]
    wanted = [("dynamodb:PutItem", table), ("dynamodb:DeleteItem", table)]
    assert of_json("dynamodb", "TransactWriteItems", TransactItems=parts) == wanted


@pytest.mark.parametrize(
    ("statement", "action", "resource"),
    [
        ("INSERT INTO \"t\" VALUE {'id': '1'}", "PartiQLInsert", "t"),
        ("update t set a = 1 where id = 'FROM x'", "PartiQLUpdate", "t"),
        ("DELETE FROM t WHERE id = '1'", "PartiQLDelete", "t"),
        ('SELECT "id", a FROM "t"."by-day" WHERE day = ?', "PartiQLSelect", "t/index/by-day"),
    ],
)
def test_a_partiql_statement_needs_the_action_of_its_verb_on_its_table(statement, action, resource):
    wanted = [(f"dynamodb:{action}", f"arn:aws:dynamodb:eu-west-1:123456789012:table/{resource}")]
    assert of_json("dynamodb", "ExecuteStatement", Statement=statement) == wanted
    assert of_json("dynamodb", "BatchExecuteStatement", Statements=[{"Statement": statement}]) == wanted


def test_restoring_and_exporting_need_permission_on_the_source_table():
    table = "arn:aws:dynamodb:eu-west-1:123456789012:table/t"
    restored = of_json("dynamodb", "RestoreTableToPointInTime", SourceTableName="t", TargetTableName="u")
    assert restored == [("dynamodb:RestoreTableToPointInTime", table)]
    exported = of_json("dynamodb", "ExportTableToPointInTime", TableArn=table, S3Bucket="b")
    assert exported == [("dynamodb:ExportTableToPointInTime", table)]


@pytest.mark.parametrize(
    ("body", "resources"),
    [
        ("Action=DescribeDBClusters", ["cluster:*"]),
        ("Action=DescribeDBClusters&DBClusterIdentifier=c", ["cluster:c"]),
        ("Action=CreateDBInstance&DBInstanceIdentifier=d&DBClusterIdentifier=c", ["db:d", "cluster:c"]),
        ("Action=CreateDBInstanceReadReplica&DBInstanceIdentifier=r&SourceDBInstanceIdentifier=d", ["db:r", "db:d"]),
        ("Action=CreateDBSnapshot&DBInstanceIdentifier=d&DBSnapshotIdentifier=s", ["db:d", "snapshot:s"]),
        ("Action=ModifyDBInstance&DBInstanceIdentifier=d&DBParameterGroupName=g", ["db:d", "pg:g"]),
        ("Action=CreateDBCluster&DBClusterIdentifier=c&DBClusterParameterGroupName=g", ["cluster:c", "cluster-pg:g"]),
        ("Action=DescribeDBProxies", ["db-proxy:*"]),
        ("Action=ListTagsForResource&ResourceName=arn:aws:rds:eu-west-1:123456789012:cluster:c", ["cluster:c"]),
        ("Action=CreateDBProxy&DBProxyName=p", ["*"]),
    ],
)
def test_a_call_of_rds_needs_its_action_on_each_resource_that_it_names(body, resources):
    action = body.partition("&")[0].removeprefix("Action=")
    assert of_rds(body) == [(action, resource) for resource in resources]


def test_findings_are_imported_for_a_product_and_metrics_put_into_a_namespace():
    body = json.dumps({"Findings": [{"ProductArn": "arn:p", "AwsAccountId": "1"}, {"ProductArn": "arn:q"}]}).encode()
    imported = securityhub_needs(Request("POST", "/findings/import", "", (), body), PLACE)
    assert [(need.action, need.resource) for need in imported] == [
        ("securityhub:BatchImportFindings", "arn:p"),
        ("securityhub:BatchImportFindings", "arn:q"),
    ]
    put = metrics_needs(Request("POST", "/", "", (FORM,), b"Action=PutMetricData&Namespace=n"))
    assert [(need.action, need.context) for need in put] == [
        ("cloudwatch:PutMetricData", {"cloudwatch:namespace": "n"})
    ]


@pytest.mark.parametrize(
    ("method", "path", "query", "wanted"),
    [
        ("GET", "/b/access.yaml", "", "s3:GetObject"),
        ("GET", "/b/access.yaml", "versionId=1", "s3:GetObjectVersion"),
        ("DELETE", "/b/access.yaml", "versionId=1", "s3:DeleteObjectVersion"),
        ("PUT", "/b/access.yaml", "partNumber=1&uploadId=2", "s3:PutObject"),
        ("PUT", "/b/access.yaml", "acl", "s3:PutObjectAcl"),
    ],
)
def test_paths_and_queries_of_s3_name_the_action(method, path, query, wanted):
    assert of_s3(method, path, query) == [(wanted, "arn:aws:s3:::b/access.yaml")]


def test_a_copy_reads_and_many_deletions_are_deletions():
    copied = of_s3("PUT", "/b/k", "", ("x-amz-copy-source", "/a/secret%20k"))
    assert copied == [("s3:PutObject", "arn:aws:s3:::b/k"), ("s3:GetObject", "arn:aws:s3:::a/secret k")]
    body = b"<Delete><Object><Key>k</Key></Object><Object><Key>l</Key><VersionId>1</VersionId></Object></Delete>"
    wanted = [("s3:DeleteObject", "arn:aws:s3:::b/k"), ("s3:DeleteObjectVersion", "arn:aws:s3:::b/l")]
    assert of_s3("POST", "/b", "delete", body=body) == wanted


@pytest.mark.parametrize("name", ["f:live", "arn:aws:lambda:eu-west-1:123456789012:function:f:live", "function:f:live",
                                  "123456789012:function:f:live"])  # fmt: skip
def test_a_function_has_one_arn_however_it_is_named(name):
    assert function_arn(name, None, PLACE) == "arn:aws:lambda:eu-west-1:123456789012:function:f:live"


def test_a_permission_of_a_function_is_added_and_removed_by_actions_of_its_own():
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:f"
    assert of_lambda("POST", "/2015-03-31/functions/f/policy") == [("lambda:AddPermission", arn)]
    assert of_lambda("DELETE", "/2015-03-31/functions/f/policy/sid") == [("lambda:RemovePermission", arn)]
    with pytest.raises(UnknownCall):
        of_lambda("DELETE", "/2015-03-31/functions/f/code/sid")


def test_a_checkpoint_that_invokes_needs_that_permission_too():
    update = {"Type": "CHAINED_INVOKE", "ChainedInvokeOptions": {"FunctionName": "g"}}
    path = "/2025-12-01/durable-executions/name%2Fid/checkpoint"
    actions = of_lambda("POST", path, {"Updates": [update]})
    assert [action for action, _ in actions] == ["lambda:CheckpointDurableExecution", "lambda:InvokeFunction"]
    assert actions[0][1].endswith(":function:f:1/durable-execution/name/id")


@pytest.mark.parametrize(
    "call",
    [
        lambda: of_query("iam", "Action=GetRole&RoleName=a", "Action=DeleteRole"),
        lambda: of_query("iam", "Action=GetRole&RoleName=a&RoleName=b"),
        lambda: of_json("dynamodb", "GetItem", query="Action=DeleteItem", TableName="t"),
        lambda: of_json("dynamodb", "ExecuteStatement", Statement="DELETE"),
        lambda: of_query("iam", "Action=NoSuchCall"),
        lambda: of_s3("GET", "/b/k", "versionId=1&acl"),
        lambda: of_s3("POST", "/b", "delete", body=b"<"),
        lambda: of_lambda("POST", "/2025-12-01/durable-executions/unknown%2Fid/checkpoint"),
        lambda: of_lambda("PATCH", "/2015-03-31/functions/f"),
        lambda: of_rds("Action=DeleteDBCluster&Action=DescribeDBClusters"),
        lambda: of_rds("Action=ModifyGlobalCluster"),
        lambda: metrics_needs(Request("POST", "/", "Action=ListMetrics", (FORM,), b"Action=PutMetricData")),
        lambda: metrics_needs(Request("POST", METRICS + "DeleteAlarms", "", (), b"")),
        lambda: metrics_needs(Request("POST", METRICS + "PutMetricData", "", (CBOR,), b"\x1c")),
        lambda: securityhub_needs(Request("POST", "/insights", "", (), b"{}"), PLACE),
    ],
    ids=["two actions", "two roles", "an action beside the target", "PartiQL", "unknown", "two operations of S3",
         "no XML", "an execution nobody began", "an unknown method", "two actions of RDS", "unknown to RDS",
         "two actions of CloudWatch", "unknown to CloudWatch", "no CBOR", "unknown to Security Hub"],
)  # fmt: skip
def test_what_is_not_known_is_no_call(call):
    with pytest.raises(UnknownCall):
        call()


@pytest.mark.parametrize(
    ("key", "context"),
    [
        ({"database": {"S": "access.yaml"}}, {"dynamodb:LeadingKeys": ["access.yaml"]}),
        ({"database": {"S": "arn:aws:rds"}}, {"dynamodb:LeadingKeys": ["arn:aws:rds"]}),
        ({"a": {"S": "1"}, "b": {"S": "2"}}, {}),
    ],
)
def test_a_read_of_dynamodb_says_which_item_it_reads(key, context):
    headers = (("X-Amz-Target", "DynamoDB_20120810.GetItem"),)
    request = Request("POST", "/", "", headers, json.dumps({"TableName": "t", "Key": key}).encode())
    (need,) = dynamodb_needs(request, PLACE)
    assert need.context == context


def test_a_write_of_dynamodb_says_which_top_level_attributes_it_names():
    body = {
        "TableName": "t",
        "Key": {"database": {"S": "d"}},
        "UpdateExpression": "SET #s.#u = :value, plain = if_not_exists(other, :none)",
        "ConditionExpression": "attribute_not_exists(#s.#u)",
        "ExpressionAttributeNames": {"#s": "secrets", "#u": "app"},
    }
    headers = (("X-Amz-Target", "DynamoDB_20120810.UpdateItem"),)
    request = Request("POST", "/", "", headers, json.dumps(body).encode())
    (need,) = dynamodb_needs(request, PLACE)
    assert need.context == {"dynamodb:Attributes": ["database", "other", "plain", "secrets"]}
