"""Writes under a condition are atomic: of many threads that take the same lease, one gets it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.table import Table

from localcloud.moto_patches.dynamodb import Writes
from localcloud.moto_patches.patch import apply_patches

WRITERS = 6


@pytest.fixture
def table(monkeypatch):
    """Yield a client with an empty table, whose every lookup of an item gives way to another thread."""
    for name in ("put_item", "update_item", "delete_item", "transact_write_items"):
        monkeypatch.setattr(DynamoDBBackend, name, getattr(DynamoDBBackend, name))
    apply_patches([Writes()])
    get_item = Table.get_item

    def slow(*arguments, **named):
        found = get_item(*arguments, **named)
        time.sleep(0.01)
        return found

    monkeypatch.setattr(Table, "get_item", slow)
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-central-1")
        client.create_table(
            TableName="t",
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


def update(client):
    client.update_item(
        TableName="t",
        Key={"k": {"S": "lease"}},
        UpdateExpression="SET #e = :one",
        ConditionExpression="attribute_not_exists(#e)",
        ExpressionAttributeNames={"#e": "e"},
        ExpressionAttributeValues={":one": {"N": "1"}},
    )


def put(client):
    client.put_item(TableName="t", Item={"k": {"S": "lease"}}, ConditionExpression="attribute_not_exists(k)")


def transact(client):
    item = {"TableName": "t", "Item": {"k": {"S": "lease"}}, "ConditionExpression": "attribute_not_exists(k)"}
    client.transact_write_items(TransactItems=[{"Put": item}])


@pytest.mark.parametrize("write", [update, put, transact])
def test_one_of_many_writers_has_its_condition_met(table, write):
    together = threading.Barrier(WRITERS)

    def attempt(_: int) -> str:
        together.wait()
        try:
            write(table)
        except ClientError as error:
            return error.response["Error"]["Code"]
        return ""

    with ThreadPoolExecutor(WRITERS) as pool:
        answers = sorted(pool.map(attempt, range(WRITERS)))
    assert answers[0] == ""
    assert set(answers[1:]) <= {"ConditionalCheckFailedException", "TransactionCanceledException"}
