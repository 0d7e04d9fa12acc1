"""Attacks with the functions' own credentials: what they could do to an account if somebody took over their code.

What succeeds has a test as well, and stands in docs/threat-model.md with what limits it.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.account import until
from tests.integration.api_requests import get, post

FUNCTIONS = ("OnboardFunction", "PolicyFunction", "VendFunction", "EventsFunction")
EVERYTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"


@pytest.fixture(scope="module")
def stolen(account, place) -> dict[str, dict[str, Any]]:
    """Return the credentials of each function; `place` has had them all run."""
    post(account, account.assume(place["stranger"]), {"database": "tokens-postgres", "user": "app"})
    return {function: account.credentials_of(function) for function in FUNCTIONS}


@pytest.fixture(scope="module")
def roles(account, place) -> dict[str, str]:
    """Role names: rdsiam's own by their logical id, one that rdsiam manages, one that it doesn't."""
    pages = account.cloud.client("iam").get_paginator("list_roles").paginate()
    own = [role["RoleName"] for page in pages for role in page["Roles"]]
    found = {name.split("-")[1]: name for name in own if name.startswith("rdsiam-")}
    account.make_role("untagged", managed=False)
    return found | {"managed": "tokens-signing", "untagged": "untagged"}


@pytest.fixture(scope="module")
def foreign_policy(account) -> str:
    """Return a policy of somebody else."""
    arn: str = account.cloud.client("iam").create_policy(PolicyName="foreign", PolicyDocument=EVERYTHING)["Policy"][
        "Arn"
    ]
    return arn


def denied(action: str, call: Any, **arguments: Any) -> None:
    """Check that policies, and nothing else, deny the call."""
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    error = refused.value.response["Error"]
    assert error["Code"] in ("AccessDenied", "AccessDeniedException"), error
    assert f"is not authorized to perform: {action} on resource: " in error["Message"], error


@pytest.mark.parametrize("role", ["managed", "untagged", "ConnectRole", "ProofRole", "PolicyFunctionRole"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_nobody_makes_a_role_an_administrator(account, stolen, roles, function, role):
    iam = account.cloud.client("iam", stolen[function])
    denied("iam:AttachRolePolicy", iam.attach_role_policy, RoleName=roles[role], PolicyArn=ADMINISTRATOR)
    denied("iam:PutRolePolicy", iam.put_role_policy, RoleName=roles[role], PolicyName="x", PolicyDocument=EVERYTHING)
    trust = {"RoleName": roles[role], "PolicyDocument": EVERYTHING}
    denied("iam:UpdateAssumeRolePolicy", iam.update_assume_role_policy, **trust)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nobody_edits_a_foreign_policy(account, stolen, foreign_policy, function):
    iam = account.cloud.client("iam", stolen[function])
    new = {"PolicyArn": foreign_policy, "PolicyDocument": EVERYTHING, "SetAsDefault": True}
    denied("iam:CreatePolicyVersion", iam.create_policy_version, **new)
    denied("iam:DeletePolicy", iam.delete_policy, PolicyArn=foreign_policy)
    denied("iam:CreatePolicy", iam.create_policy, PolicyName="mine", PolicyDocument=EVERYTHING)
    denied("iam:CreateUser", iam.create_user, UserName="mallory")


@pytest.mark.parametrize("function", ["OnboardFunction", "VendFunction"])
def test_only_policy_function_writes_policies(account, stolen, function):
    iam = account.cloud.client("iam", stolen[function])
    new = {"Path": "/rdsiam/connect/", "PolicyName": "mine", "PolicyDocument": EVERYTHING}
    denied("iam:CreatePolicy", iam.create_policy, **new)


def test_policy_function_writes_what_it_likes_under_its_path_but_can_not_give_it_to_itself(account, stolen, roles):
    """This succeeds, for IAM can't judge a policy's content; see docs/threat-model.md for what limits it."""
    iam = account.cloud.client("iam", stolen["PolicyFunction"])
    new = {"PolicyName": "mine", "PolicyDocument": EVERYTHING}
    region = account.cloud.region
    for path in ("", "us-gov-west-1/rdsiam/", f"{region}/", f"{region}/rdsiam-2/", f"{region}/other/"):
        denied("iam:CreatePolicy", iam.create_policy, Path=f"/rdsiam/connect/{path}", **new)
    arn = iam.create_policy(Path=f"/rdsiam/connect/{region}/rdsiam/", **new)["Policy"]["Arn"]
    for role in ("untagged", "PolicyFunctionRole", "OnboardFunctionRole", "VendFunctionRole", "ProofRole"):
        denied("iam:AttachRolePolicy", iam.attach_role_policy, RoleName=roles[role], PolicyArn=arn)
    iam.attach_role_policy(RoleName=roles["managed"], PolicyArn=arn)
    session = account.assume(f"arn:aws:iam::{account.cloud.account}:role/{roles['managed']}")
    account.cloud.client("s3", session).list_buckets()
    # A boundary on the role, which its owner sets, ends this.
    admin = account.cloud.client("iam")
    connect = {"Effect": "Allow", "Action": ["rds-db:connect", "execute-api:Invoke"], "Resource": "*"}
    bound = admin.create_policy(
        PolicyName="bound", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [connect]})
    )["Policy"]["Arn"]
    admin.put_role_permissions_boundary(RoleName=roles["managed"], PermissionsBoundary=bound)
    denied("s3:ListAllMyBuckets", account.cloud.client("s3", session).list_buckets)
    admin.delete_role_permissions_boundary(RoleName=roles["managed"])
    iam.detach_role_policy(RoleName=roles["managed"], PolicyArn=arn)
    iam.delete_policy(PolicyArn=arn)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nobody_updates_or_deletes_a_decision(account, stolen, function):
    dynamodb = account.cloud.client("dynamodb", stolen[function])
    table = account.cloud.outputs["DecisionsTable"]
    known = account.cloud.client("dynamodb").scan(TableName=table, Limit=1)["Items"][0]
    key = {"TableName": table, "Key": {"id": known["id"]}}
    denied("dynamodb:UpdateItem", dynamodb.update_item, **key)
    denied("dynamodb:DeleteItem", dynamodb.delete_item, **key)
    denied("dynamodb:Scan", dynamodb.scan, TableName=table)
    denied("dynamodb:DeleteTable", dynamodb.delete_table, TableName=table)
    many = {"RequestItems": {table: [{"DeleteRequest": {"Key": {"id": known["id"]}}}]}}
    denied("dynamodb:BatchWriteItem", dynamodb.batch_write_item, **many)


def test_the_reading_function_writes_nothing_and_reads_decisions_by_its_indexes_only(account, place):
    get(account, account.assume(place["stranger"]), "/databases")
    keys = account.credentials_of("ReportsFunction")
    dynamodb, table = account.cloud.client("dynamodb", keys), account.cloud.outputs["DecisionsTable"]
    denied("dynamodb:PutItem", dynamodb.put_item, TableName=table, Item={"id": {"S": "attack"}})
    denied("dynamodb:Scan", dynamodb.scan, TableName=table)
    inventory = {"TableName": account.cloud.outputs["InventoryTable"], "Key": {"database": {"S": "x"}}}
    denied("dynamodb:UpdateItem", dynamodb.update_item, **inventory)
    denied("dynamodb:DeleteItem", dynamodb.delete_item, **inventory)
    sts = account.cloud.client("sts", keys)
    role = account.cloud.outputs["ConnectRole"]
    denied("sts:AssumeRole", sts.assume_role, RoleArn=role, RoleSessionName="attack")


def test_vend_function_can_replace_a_decision_whose_id_it_knows(account, stolen):
    """This succeeds, for no condition of IAM asks for attribute_not_exists; see docs/threat-model.md."""
    table = account.cloud.outputs["DecisionsTable"]
    item = account.cloud.client("dynamodb").scan(TableName=table, Limit=1)["Items"][0]
    vend = account.cloud.client("dynamodb", stolen["VendFunction"])
    changed = item | {"outcome": {"S": "denied" if item["outcome"]["S"] == "allowed" else "allowed"}}
    vend.put_item(TableName=table, Item=changed)
    key = {"id": item["id"]}
    assert account.cloud.client("dynamodb").get_item(TableName=table, Key=key)["Item"] == changed
    vend.put_item(TableName=table, Item=item)
    for other in ("OnboardFunction", "PolicyFunction"):
        dynamodb = account.cloud.client("dynamodb", stolen[other])
        denied("dynamodb:PutItem", dynamodb.put_item, TableName=table, Item=changed)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nobody_but_publishers_writes_access_yaml(account, stolen, function):
    s3, bucket = account.cloud.client("s3", stolen[function]), account.cloud.outputs["AccessBucket"]
    denied("s3:PutObject", s3.put_object, Bucket=bucket, Key="access.yaml", Body=b"version: 1")
    denied("s3:DeleteObject", s3.delete_object, Bucket=bucket, Key="access.yaml")
    denied("s3:PutBucketPolicy", s3.put_bucket_policy, Bucket=bucket, Policy=EVERYTHING)


def test_an_administrator_who_is_no_publisher_writes_it_only_after_changing_the_buckets_policy(account):
    iam, bucket = account.cloud.client("iam"), account.cloud.outputs["AccessBucket"]
    role = account.make_role("other-administrator")
    iam.attach_role_policy(RoleName="other-administrator", PolicyArn=ADMINISTRATOR)
    s3 = account.cloud.client("s3", account.assume(role))
    s3.get_object(Bucket=bucket, Key="access.yaml")
    with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
        s3.put_object(Bucket=bucket, Key="access.yaml", Body=b"version: 1")


@pytest.mark.parametrize(
    ("function", "role"),
    [
        ("OnboardFunction", "ConnectRole"),
        ("PolicyFunction", "ConnectRole"),
        ("OnboardFunction", "ConnectRole2"),
        ("PolicyFunction", "ProofRole"),
        ("VendFunction", "ProofRole"),
        ("VendFunction", "managed"),
        ("OnboardFunction", "OnboardFunctionRole"),
    ],
)
def test_nobody_assumes_a_role_that_is_not_for_it(account, stolen, roles, function, role):
    sts = account.cloud.client("sts", stolen[function])
    arn = f"arn:aws:iam::{account.cloud.account}:role/{roles[role]}"
    denied("sts:AssumeRole", sts.assume_role, RoleArn=arn, RoleSessionName="attack")


@pytest.mark.parametrize("role", ["ConnectRole", "ConnectRole4", "ProofRole"])
@pytest.mark.parametrize("user", ["rdsiam_manager", "rdsiam_auditor"])
def test_no_session_of_connect_role_or_proof_role_logs_in_as_an_administrator(
    account, stolen, roles, place, role, user
):
    function = "VendFunction" if role.startswith("ConnectRole") else "OnboardFunction"
    arn = f"arn:aws:iam::{account.cloud.account}:role/{roles[role]}"
    session = account.cloud.client("sts", stolen[function]).assume_role(RoleArn=arn, RoleSessionName="attack")
    database = place["arns"]["postgres"]
    assert account.refused(database, user, account.token(database, user, session["Credentials"]))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nobody_reads_a_secret_that_rds_does_not_own(account, stolen, function):
    admin = account.cloud.client("secretsmanager")
    for name in ("rds!db-lookalike", "somebody-elses"):
        arn = admin.create_secret(Name=f"{name}-{function}", SecretString="x")["ARN"]
        client = account.cloud.client("secretsmanager", stolen[function])
        denied("secretsmanager:GetSecretValue", client.get_secret_value, SecretId=arn)
        denied("secretsmanager:PutSecretValue", client.put_secret_value, SecretId=arn, SecretString="y")


@pytest.mark.parametrize("function", ["PolicyFunction", "VendFunction"])
def test_only_onboarding_reads_master_secrets(account, stolen, place, function):
    secret = account.describe(place["arns"]["postgres"])["MasterUserSecret"]["SecretArn"]
    client = account.cloud.client("secretsmanager", stolen[function])
    denied("secretsmanager:GetSecretValue", client.get_secret_value, SecretId=secret)


def test_a_master_secret_with_a_key_of_the_customers_is_read_through_secrets_manager_only(account, stolen):
    key = account.cloud.client("kms").create_key()["KeyMetadata"]["KeyId"]
    arn = account.create("own-key", MasterUserSecretKmsKeyId=key)
    secret = account.wait(arn)["MasterUserSecret"]["SecretArn"]
    account.cloud.client("secretsmanager", stolen["OnboardFunction"]).get_secret_value(SecretId=secret)
    kms = account.cloud.client("kms", stolen["OnboardFunction"])
    denied("kms:Decrypt", kms.decrypt, KeyId=key, CiphertextBlob=b"x")


#: The one function that may invoke each alias; None for aliases and functions that no function may invoke.
INVOKERS = {
    ("EventsFunction", ""): None,
    ("OnboardFunction", "live"): None,
    ("OnboardFunction", "events"): "EventsFunction",
    ("OnboardFunction", "reconcile"): "OnboardFunction",
    ("OnboardFunction", "audit"): "AuditFunction",
    ("OnboardFunction", "migrate"): "MigrateFunction",
    ("OnboardFunction", "$LATEST"): None,
    ("PolicyFunction", ""): "OnboardFunction",
    ("VendFunction", "live"): None,
    ("VendFunction", "$LATEST"): None,
    ("AuditFunction", "live"): None,
    ("AuditFunction", "events"): "EventsFunction",
    ("AuditFunction", "$LATEST"): None,
    ("AuditBatchFunction", ""): "AuditFunction",
    ("ReportsFunction", ""): None,
    ("RotateFunction", ""): None,
    ("SecretsFunction", "live"): None,
    ("SecretsFunction", "onboard"): "OnboardFunction",
    ("SecretsFunction", "$LATEST"): None,
    ("MigrateFunction", "live"): None,
    ("MigrateFunction", "continue"): "MigrateFunction",
    ("MigrateFunction", "$LATEST"): None,
}
INVOKING = ("AuditFunction", "EventsFunction", "MigrateFunction", "OnboardFunction", "PolicyFunction", "VendFunction")


@pytest.fixture(scope="module")
def invoking(account, stolen) -> dict[str, dict[str, Any]]:
    """Return the credentials of the functions that invoke others, and of some that do not."""
    for function in ("AuditFunction", "MigrateFunction"):
        account.invoke(function, {"unknown": True})  # it has to run for its credentials to be found
    return {function: stolen.get(function) or account.credentials_of(function) for function in INVOKING}


def qualified(account, function: str, qualifier: str) -> str:
    name: str = account.cloud.functions[function].partition(":")[0]
    return f"{name}:{qualifier}" if qualifier else name


@pytest.mark.parametrize("function", INVOKING)
def test_a_function_invokes_by_its_own_alias_only_and_changes_no_function(account, invoking, function):
    client = account.cloud.client("lambda", invoking[function])
    for (other, qualifier), invoker in INVOKERS.items():
        bare = qualified(account, other, "")
        denied("lambda:UpdateFunctionConfiguration", client.update_function_configuration, FunctionName=bare)
        if invoker != function:
            name = qualified(account, other, qualifier)
            denied("lambda:InvokeFunction", client.invoke, FunctionName=name, Payload=b"{}")


@pytest.mark.parametrize(("function", "qualifier"), [key for key in INVOKERS if key[1] != "live"])
def test_an_operator_and_administrator_invokes_by_the_alias_for_people_only(account, function, qualifier):
    client, name = account.cloud.client("lambda"), qualified(account, function, qualifier)
    denied("lambda:InvokeFunction", client.invoke, FunctionName=name, Payload=b"{}")


@pytest.mark.parametrize("function", [key[0] for key in INVOKERS if key[1] == "live"])
def test_by_the_number_of_a_version_nothing_is_accepted(account, function):
    """No policy of a function binds its versions."""
    answer = account.invoke(function, {"database": "x", "version": "2.0"}, alias="1")
    assert answer["errorType"].endswith("InvalidRequest")


#: Requests that a function may not make though it may invoke OnboardFunction, SecretsFunction or AuditFunction.
MORE: list[tuple[str, str, str, dict[str, Any]]] = [
    (caller, "OnboardFunction", alias, request)
    for caller, alias in (
        ("EventsFunction", "events"),
        ("OnboardFunction", "reconcile"),
        ("AuditFunction", "audit"),
        ("MigrateFunction", "migrate"),
    )
    for request in ({"revoke": ["app"], "reason": "attack"}, {"lift": ["app"]})
]
MORE += [
    ("AuditFunction", "OnboardFunction", "audit", {"reconcile": True}),
    ("MigrateFunction", "OnboardFunction", "migrate", {"reconcile": True, "confirm": True}),
    ("MigrateFunction", "OnboardFunction", "migrate", {"confirm": True}),
    ("AuditFunction", "OnboardFunction", "audit", {"confirm": True}),
    ("EventsFunction", "OnboardFunction", "events", {"reconcile": True, "confirm": True}),
    ("EventsFunction", "OnboardFunction", "events", {"confirm": True}),
    ("EventsFunction", "AuditFunction", "events", {"remediate": ["0" * 20], "confirm": True}),
    ("OnboardFunction", "SecretsFunction", "onboard", {"list": True}),
    ("MigrateFunction", "MigrateFunction", "continue", {"user": "app", "undo": True}),
]


@pytest.mark.parametrize(("caller", "function", "alias", "request_"), MORE)
def test_a_function_has_another_do_nothing_but_what_it_needs(
    account, invoking, place, caller, function, alias, request_
):
    arn = place["arns"]["postgres"]
    named = request_ if {"reconcile", "remediate", "list"} & set(request_) else {"database": arn} | request_
    before = account.record(arn)
    answer = account.invoke(function, named, invoking[caller], alias)
    assert answer["errorType"].endswith("InvalidRequest")
    assert f"the alias {alias} does not accept" in answer["errorMessage"]
    assert account.record(arn) == before


def test_not_even_an_administrator_hands_vend_function_a_forged_identity(account):
    forged = {"routeKey": "POST /tokens", "requestContext": {"authorizer": {"iam": {"userArn": "arn:aws:iam::1:x"}}}}
    client = account.cloud.client("lambda")
    name = account.cloud.functions["VendFunction"].partition(":")[0]
    for qualifier in ({}, {"Qualifier": "$LATEST"}, {"Qualifier": "live"}):
        denied("lambda:InvokeFunction", client.invoke, FunctionName=name, Payload=json.dumps(forged), **qualifier)
    assert account.invoke("VendFunction", forged, alias="1")["errorType"].endswith("InvalidRequest")


def test_an_administrator_who_is_no_operator_can_not_confirm(account):
    role = account.make_role("no-operator")
    account.cloud.client("iam").attach_role_policy(RoleName="no-operator", PolicyArn=ADMINISTRATOR)
    client = account.cloud.client("lambda", account.assume(role))
    for function in ("OnboardFunction", "AuditFunction", "SecretsFunction", "MigrateFunction"):
        name = account.cloud.functions[function]
        denied("lambda:InvokeFunction", client.invoke, FunctionName=name, Payload=b'{"reconcile": true}')


def test_a_caller_without_execute_api_invoke_is_forbidden(account, place):
    role = account.make_role("not-allowed-to-ask")
    answer = post(account, account.assume(role), {"database": "tokens-postgres", "user": "app"})
    assert (answer.status_code, answer.json()) == (403, {"message": "Forbidden"})


def test_what_nobody_has_described_is_refused_to_everybody(account):
    with pytest.raises(ClientError, match="localcloud does not know what dynamodb:DescribeLimits needs"):
        account.cloud.client("dynamodb").describe_limits()


# --- EventBridge -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rule_writer(account) -> dict[str, Any]:
    """Credentials of a role with AmazonEventBridgeFullAccess, and with no right to invoke a function."""
    role = account.make_role("rule-writer")
    statement = {"Effect": "Allow", "Action": "events:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    account.cloud.client("iam").put_role_policy(RoleName="rule-writer", PolicyName="events", PolicyDocument=document)
    return account.assume(role)


@pytest.fixture
def send(account, rule_writer) -> Iterator[Callable[[Any], None]]:
    """Send any payload to a target of rdsiam's rule, whose pattern and target the writer of rules has changed."""
    events = account.cloud.client("events", rule_writer)
    rule = next(each for each in events.list_rules()["Rules"] if "DatabaseChanged" in each["Name"])
    target = events.list_targets_by_rule(Rule=rule["Name"])["Targets"][0]
    events.put_rule(Name=rule["Name"], EventPattern=json.dumps({"source": ["mallory"]}))

    def put(payload: Any) -> None:
        events.put_targets(Rule=rule["Name"], Targets=[target | {"Input": json.dumps(payload)}])
        events.put_events(Entries=[{"Source": "mallory", "DetailType": "x", "Detail": "{}"}])

    yield put
    events.put_targets(Rule=rule["Name"], Targets=[target])
    events.put_rule(Name=rule["Name"], EventPattern=rule["EventPattern"])


def refusals(account) -> int:
    """Return how often EventsFunction has refused what it got."""
    return (account.cloud.logs / "EventsFunction.log").read_text().count("[ERROR] InvalidRequest")


def test_a_rewritten_rule_neither_lifts_nor_revokes_nor_confirms(account, place, send):
    arn = place["arns"]["postgres"]
    revoke = {"database": arn, "revoke": ["app2"], "reason": "stolen laptop"}
    assert account.invoke("OnboardFunction", revoke)["status"] == "revoked"
    payloads = (
        {"database": arn, "lift": ["app2"]},
        {"database": arn, "revoke": ["app"], "reason": "mallory"},
        {"reconcile": True, "confirm": True},
        {"remediate": ["0" * 20], "confirm": True},
    )
    for payload in payloads:
        refused = refusals(account)
        send(payload)
        until(lambda refused=refused: refusals(account) > refused + 2, 30)  # Lambda tries three times
    assert set(account.record(arn)["revoked"]["M"]) == {"app2"}
    assert account.invoke("OnboardFunction", {"database": arn, "lift": ["app2"]})["status"] == "onboarded"


# --- Logs and secrets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", INVOKING)
def test_no_function_writes_into_the_log_of_another(account, invoking, function):
    logs = account.cloud.client("logs", invoking[function])
    for group in account.cloud.client("logs").describe_log_groups()["logGroups"]:
        if f"-{function.removesuffix('Function')}Log-" not in group["logGroupName"]:
            denied(
                "logs:CreateLogStream", logs.create_log_stream, logGroupName=group["logGroupName"], logStreamName="x"
            )


def test_migrations_delete_no_secret_at_once_or_soon_and_let_nothing_else_rotate_it(account, invoking):
    admin = account.cloud.client("secretsmanager")
    secret = admin.create_secret(Name="attacked", SecretString="x", Tags=[{"Key": "rdsiam:managed", "Value": "true"}])[
        "ARN"
    ]
    manager = account.cloud.client("secretsmanager", invoking["MigrateFunction"])
    delete = {"SecretId": secret}
    denied("secretsmanager:DeleteSecret", manager.delete_secret, **delete, ForceDeleteWithoutRecovery=True)
    denied("secretsmanager:DeleteSecret", manager.delete_secret, **delete, RecoveryWindowInDays=7)
    rotate = {"SecretId": secret, "RotationRules": {"AutomaticallyAfterDays": 30}}
    for name in ("OnboardFunction", "RotateFunction"):
        arn = account.cloud.client("lambda").get_function_configuration(FunctionName=qualified(account, name, ""))
        function = arn["FunctionArn"]
        denied("secretsmanager:RotateSecret", manager.rotate_secret, **rotate, RotationLambdaARN=function)
    admin.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)
