"""template.yaml as written, and as AWS's translator expands it, for tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3

from localcloud.aws.expand import expand, read
from localcloud.aws.statements import statements

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "template.yaml").read_text()
SAM = read(ROOT / "template.yaml")
STATEMENTS = statements(ROOT / "template.yaml")
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()


def expanded(sam: dict[str, Any]) -> dict[str, Any]:
    """Return the resources of a template as AWS's translator expands it."""
    return expand(sam, boto3.Session(region_name="eu-west-1"), {})["Resources"]


RESOURCES = expanded(SAM)


def of_type(*kinds: str) -> dict[str, dict[str, Any]]:
    """Return the resources of these types, by logical id."""
    return {key: each for key, each in RESOURCES.items() if each["Type"] in kinds}


FUNCTIONS = of_type("AWS::Lambda::Function")
ALARMS = of_type("AWS::CloudWatch::Alarm")
TABLES = of_type("AWS::DynamoDB::Table")
BUCKETS = of_type("AWS::S3::Bucket")


def routes_without_authorizer(resources: dict[str, Any]) -> list[str]:
    """Return the routes of APIs that have no authorizer."""
    return [
        f"{method} {path}"
        for api in resources.values()
        if api["Type"] == "AWS::ApiGatewayV2::Api"
        for path, item in api["Properties"]["Body"]["paths"].items()
        for method, operation in (item["Fn::If"][1] if "Fn::If" in item else item).items()
        if not operation.get("security")
    ]


def strings(value: Any) -> Iterator[str]:
    """Yield all texts in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from strings(key)
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
