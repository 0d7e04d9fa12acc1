"""Receivers of the audit's results: Security Hub, topics and metrics take what AWS takes, and show it to the tests."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

PRODUCT = "arn:aws:securityhub:eu-central-1:123456789012:product/123456789012/default"
FINDING = {
    "SchemaVersion": "2018-10-08", "Id": "rdsiam/1", "ProductArn": PRODUCT, "GeneratorId": "rdsiam/user-without-iam",
    "AwsAccountId": "123456789012", "Types": ["Software and Configuration Checks/AWS Security Best Practices"],
    "CreatedAt": "2026-11-01T00:00:00Z", "UpdatedAt": "2026-11-01T00:00:00Z", "Severity": {"Label": "HIGH"},
    "Title": "A user has a password", "Description": "It could be stolen.",
    "Resources": [{"Type": "AwsRdsDbInstance", "Id": "arn:aws:rds:eu-central-1:123456789012:db:orders"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def hub(cloud) -> Any:
    """Security Hub, with no findings: disabling it has forgotten them."""
    client = cloud.client("securityhub")
    client.disable_security_hub()  # the cloud that all tests share has it on
    with pytest.raises(ClientError, match="InvalidAccessException"):
        client.batch_import_findings(Findings=[FINDING])
    client.enable_security_hub()
    return client


def test_findings_are_imported_updated_and_found_by_what_they_say(hub):
    assert hub.batch_import_findings(Findings=[FINDING, FINDING | {"Id": "rdsiam/2"}])["SuccessCount"] == 2
    key = {"Id": "rdsiam/1", "ProductArn": PRODUCT}
    note = {"Text": "looked at", "UpdatedBy": "security"}
    updated = hub.batch_update_findings(
        FindingIdentifiers=[key, key | {"Id": "none"}], Workflow={"Status": "SUPPRESSED"}, Note=note
    )
    assert updated["ProcessedFindings"] == [key]
    assert [each["ErrorCode"] for each in updated["UnprocessedFindings"]] == ["FindingNotFound"]
    again = FINDING | {"RecordState": "ARCHIVED", "Title": "It has none", "Workflow": {"Status": "NEW"}}
    hub.batch_import_findings(Findings=[again])
    archived = _find(hub, RecordState=("ARCHIVED", "EQUALS"))
    assert [(each["Id"], each["Title"]) for each in archived] == [("rdsiam/1", "It has none")]
    assert archived[0]["Workflow"]["Status"] == "SUPPRESSED", "an import does not undo what the customer decided"
    assert [each["Id"] for each in _find(hub, RecordState=("ARCHIVED", "NOT_EQUALS"))] == ["rdsiam/2"]
    assert len(_find(hub, GeneratorId=("rdsiam/", "PREFIX"), SeverityLabel=("HIGH", "EQUALS"))) == 2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"Title": "x" * 257}, "Title"),
        ({"Description": "x" * 1025}, "Description"),
        ({"ProductArn": PRODUCT.replace("default", "other")}, "ProductArn"),
        ({"AwsAccountId": "210987654321"}, "AwsAccountId"),
        ({"CreatedAt": "yesterday"}, "CreatedAt"),
        ({"Severity": {"Label": "URGENT"}}, "Severity.Label"),
        ({"Severity": {"Original": "urgent"}}, "Severity"),
        ({"Types": ["Password"]}, "namespace"),
        ({"Resources": []}, "Resources"),
        ({"Resources": [{"Type": "Other", "Id": "x" * 513}]}, "512"),
        ({"RecordState": "GONE"}, "RecordState"),
        ({"Remediation": {"Recommendation": {"Text": "x" * 513}}}, "Recommendation.Text"),
        ({"Remediation": {"Recommendation": {"Url": "javascript:alert(1)"}}}, "Url"),
        ({"ProductFields": {f"k{n}": "v" for n in range(51)}}, "ProductFields"),
        ({"Resources": [{"Type": "Other", "Id": "x", "Details": {"Other": {"k": "x" * 1025}}}]}, "Details.Other"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_finding_that_is_not_as_it_should_be_fails_alone(hub, change, why):
    answer = hub.batch_import_findings(Findings=[FINDING | {"Id": "bad"} | change, FINDING | {"Id": "good"}])
    assert (answer["FailedCount"], answer["SuccessCount"]) == (1, 1)
    assert why in answer["FailedFindings"][0]["ErrorMessage"]
    assert _find(hub, Id=("bad", "EQUALS")) == []


def test_a_call_takes_a_hundred_findings(hub):
    many = [FINDING | {"Id": f"many/{number}"} for number in range(101)]
    with pytest.raises(ClientError, match="InvalidInputException"):
        hub.batch_import_findings(Findings=many)
    assert hub.batch_import_findings(Findings=many[:100])["SuccessCount"] == 100
    pages = hub.get_paginator("get_findings").paginate(
        Filters={"Id": [{"Value": "many/", "Comparison": "PREFIX"}]}, PaginationConfig={"PageSize": 30}
    )
    assert [len(page["Findings"]) for page in pages] == [30, 30, 30, 10]


def test_a_topic_s_messages_can_be_read_from_a_queue(cloud):
    sns, sqs = cloud.client("sns"), cloud.client("sqs")
    topic, queue = sns.create_topic(Name="digest")["TopicArn"], sqs.create_queue(QueueName="digest")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    sns.publish(TopicArn=topic, Subject="3 new findings", Message="user-without-iam: 3")
    received = json.loads(sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"])
    assert (received["Subject"], received["Message"]) == ("3 new findings", "user-without-iam: 3")


def test_authorization_details_come_in_pages_with_inline_policies_as_documents(cloud):
    kinds = ["User", "Role", "Group", "LocalManagedPolicy"]
    pages = list(
        cloud.client("iam").get_paginator("get_account_authorization_details").paginate(
            Filter=kinds, PaginationConfig={"PageSize": 4}
        )
    )  # fmt: skip
    roles = {role["RoleName"]: role for page in pages for role in page["RoleDetailList"]}
    listed = {role["RoleName"] for role in cloud.client("iam").list_roles(MaxItems=1000)["Roles"]}
    assert len(pages) > 1
    assert roles.keys() == listed
    documents = [policy["PolicyDocument"] for role in roles.values() for policy in role["RolePolicyList"]]
    assert documents
    assert all("Statement" in document for document in documents)


def _find(hub: Any, **filters: tuple[str, str]) -> list[dict[str, Any]]:
    asked = {name: [{"Value": value, "Comparison": how}] for name, (value, how) in filters.items()}
    return list(hub.get_findings(Filters=asked)["Findings"])
