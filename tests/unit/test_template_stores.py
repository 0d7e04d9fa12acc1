"""Rules for the tables, buckets and the key of template.yaml: they outlive the stack, and few may write them."""

from typing import Any

import pytest

from rdsiam.state import applied_access
from tests.unit.template import BUCKETS, FUNCTIONS, RESOURCES, STATEMENTS, TABLES, of_type, strings


@pytest.mark.parametrize("name", [*TABLES, *BUCKETS, *of_type("AWS::KMS::Key")])
def test_tables_buckets_and_keys_outlive_the_stack(name):
    assert RESOURCES[name]["DeletionPolicy"] == RESOURCES[name]["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_encrypted_and_can_be_restored(name):
    properties = TABLES[name]["Properties"]
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["DeletionProtectionEnabled"] is True
    assert properties["SSESpecification"]["SSEType"] == "KMS"


@pytest.mark.parametrize("name", BUCKETS)
def test_buckets_are_private_versioned_and_reached_over_tls_only(name):
    properties = BUCKETS[name]["Properties"]
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["LifecycleConfiguration"]["Rules"][0]["NoncurrentVersionExpiration"]
    statements = [
        statement
        for policy in of_type("AWS::S3::BucketPolicy").values()
        if policy["Properties"]["Bucket"] == {"Ref": name}
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    ]
    assert any(each.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}} for each in statements)


#: All that changes items of a table.
ITEM_WRITES = {
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "BatchWriteItem",
    "PartiQLInsert",
    "PartiQLUpdate",
    "PartiQLDelete",
}
#: Who administers what is kept: nobody but administrators, the account's root user and CloudFormation.
BUT_ADMINISTRATORS = {
    "ArnNotLike": {"aws:PrincipalArn": {"Fn::If": ["HasAdministrators", {"Ref": "Administrators"}, {
        "Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}]}},
    "ArnNotEquals": {"aws:PrincipalArn": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}},
    "ForAllValues:StringNotEquals": {"aws:CalledVia": "cloudformation.amazonaws.com"},
}  # fmt: skip


def policy_of(name: str) -> list[dict[str, Any]]:
    """Return the statements of the policy of a table, a bucket or the key."""
    own = RESOURCES[name]["Properties"]
    if "ResourcePolicy" in own:
        document = own["ResourcePolicy"]["PolicyDocument"]
    elif "KeyPolicy" in own:
        document = own["KeyPolicy"]
    else:
        policies = of_type("AWS::S3::BucketPolicy").values()
        (document,) = (
            each["Properties"]["PolicyDocument"] for each in policies if each["Properties"]["Bucket"] == {"Ref": name}
        )
    statements: list[dict[str, Any]] = document["Statement"]
    return statements


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def functions_named(condition: Any) -> set[str]:
    """Return the logical ids of the roles that a condition names."""
    names = {f"{name}Role" for name in FUNCTIONS}
    return {name for name in names for text in strings(condition) if f"-{name}-" in text}


def spared(name: str, action: str) -> set[str] | None:
    """Return the roles that no statement of a policy denies an action; None if nothing denies it.

    A statement about some attributes of items denies no action as such.
    """
    denials = [
        each
        for each in policy_of(name)
        if each["Effect"] == "Deny" and action in listed(each["Action"]) and not attributes_of(each)
    ]
    if not denials:
        return None
    assert all(each["Principal"] == "*" for each in denials)
    return set.intersection(*(functions_named(each.get("Condition", {})) for each in denials))


def attributes_of(statement: dict[str, Any]) -> list[str]:
    """Return the attributes of a table's items that a statement is about; none if it is about whole items."""
    condition = statement.get("Condition", {}).get("ForAnyValue:StringEquals", {})
    return listed(condition.get("dynamodb:Attributes", []))


def test_secrets_are_recorded_by_secrets_function_and_moved_with_the_record_by_onboard_function():
    (statement,) = [each for each in policy_of("InventoryTable") if attributes_of(each) == ["secrets"]]
    assert (statement["Effect"], statement["Action"]) == ("Deny", ["dynamodb:UpdateItem"])
    assert functions_named(statement["Condition"]) == {"OnboardFunctionRole", "SecretsFunctionRole"}


def test_the_applied_version_is_recorded_by_onboard_function_alone():
    (statement,) = [
        each
        for each in policy_of("InventoryTable")
        if attributes_of(each) == [applied_access.PUBLISHED, applied_access.VERSION]
    ]
    assert (statement["Effect"], statement["Action"]) == ("Deny", ["dynamodb:UpdateItem"])
    assert functions_named(statement["Condition"]) == {"OnboardFunctionRole"}


def allowed_to(resource: str, action: str) -> set[str]:
    """Return the roles that the template allows an action on a table or bucket."""
    return {
        one.role
        for one in STATEMENTS
        if one.effect == "Allow" and action in one.actions and any(resource in each for each in one.resources)
    }


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("action", sorted(ITEM_WRITES))
def test_a_table_is_written_by_the_functions_that_need_it_and_by_nobody_else(name, action):
    assert spared(name, f"dynamodb:{action}") == allowed_to(f"{name}.Arn", f"dynamodb:{action}")


@pytest.mark.parametrize("action", ["GetItem", "BatchGetItem", "Query", "Scan", "PartiQLSelect"])
def test_decisions_are_read_by_the_reports_function_and_operators_alone(action):
    assert spared("DecisionsTable", f"dynamodb:{action}") == allowed_to("DecisionsTable.Arn", f"dynamodb:{action}")


@pytest.mark.parametrize("bucket", ["ReportBucket", "ResultBucket"])
def test_reports_and_results_are_written_by_their_functions_and_deleted_by_nobody(bucket):
    writers = allowed_to(f"{bucket}.Arn", "s3:PutObject")
    assert writers
    for action in ("PutObject", "ReplicateObject", "ReplicateDelete"):
        assert spared(bucket, f"s3:{action}") == writers
    for action in ("DeleteObject", "DeleteObjectVersion"):
        assert spared(bucket, f"s3:{action}") == set()


def test_each_function_stores_results_in_a_folder_of_its_own():
    stored = [one for one in STATEMENTS if one.sid == "KeepLargeResults"]
    assert len(stored) == 5
    for one in stored:
        folder = one.role.removesuffix("FunctionRole")
        (resource,) = one.resources
        assert resource.endswith(f"{{ResultBucket.Arn}}/{folder}/*"), one


@pytest.mark.parametrize("action", ["PutObject", "DeleteObject", "DeleteObjectVersion", "ReplicateObject"])
def test_access_yaml_is_written_by_publishers_alone(action):
    (denial,) = (each for each in policy_of("AccessBucket") if f"s3:{action}" in each["Action"])
    assert denial["Condition"] == {"ArnNotLike": {"aws:PrincipalArn": {"Ref": "Publishers"}}}


@pytest.mark.parametrize("name", [*TABLES, *BUCKETS])
def test_tables_and_buckets_are_administered_by_administrators_alone(name):
    (denial,) = (each for each in policy_of(name) if each["Sid"].startswith("OnlyAdministratorsAdminister"))
    assert (denial["Effect"], denial["Principal"], denial["Condition"]) == ("Deny", "*", BUT_ADMINISTRATORS)
    wanted = {"dynamodb:PutResourcePolicy", "dynamodb:DeleteResourcePolicy", "dynamodb:UpdateTable"}
    wanted |= {"dynamodb:RestoreTableToPointInTime", "dynamodb:ExportTableToPointInTime"}
    assert set(denial["Action"]) >= (wanted if name in TABLES else {"s3:PutBucket*", "s3:Put*Configuration"})


def test_the_key_is_used_by_functions_through_services_and_by_nobody_directly():
    statements = {each["Sid"]: each for each in policy_of("Key")}
    everything = {sid for sid, each in statements.items() if each["Action"] == "kms:*"}
    assert everything == {"AdministratorsHaveTheKey", "RootHasTheKey", "CloudFormationHasTheKey"}
    assert all(each.get("Condition") for each in statements.values())
    functions = statements["FunctionsUseTheKey"]["Condition"]
    assert functions_named(functions) == {f"{name}Role" for name in FUNCTIONS}
    assert "kms:ViaService" in functions["StringEquals"]
    of_iam = RESOURCES["FunctionsUseKey"]["Properties"]
    assert {role["Ref"] for role in of_iam["Roles"]} == functions_named(functions)
    assert of_iam["PolicyDocument"]["Statement"][0]["Action"] == statements["FunctionsUseTheKey"]["Action"]
