"""Fixtures of tests whose runs need no server."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from rdsiam.onboarding.convergence import Convergence
from rdsiam.onboarding.database_users import Users
from rdsiam.onboarding.removal import DatabaseRemoval
from rdsiam.onboarding.server_removal import Removal
from rdsiam.state.record import Applied
from tests.unit.databases import ORDERS
from tests.unit.onboarding.world import TABLE, World


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    """Return a client of DynamoDB with an empty inventory."""
    with mock_aws():
        client = boto3.client("dynamodb", "eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
        client.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "database", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "database", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


@pytest.fixture
def world(dynamodb, monkeypatch) -> Iterator[World]:
    """Return a database that is onboarded for six users."""
    onboarded = World(dynamodb)

    def remove(_: DatabaseRemoval, names: Any, apply: bool) -> Removal:
        assert set(names) <= set(onboarded.record.leaving) or not apply, "users that leave are recorded before"
        if onboarded.meanwhile:
            onboarded.meanwhile.pop(0)()
        onboarded.done.append(f"remove {','.join(sorted(names))}")
        return onboarded.removals.pop(0) if onboarded.removals else Removal()

    def converge(_: Users, apply: bool, just_switched: bool = False) -> Convergence:
        onboarded.done.append("converge")
        result = onboarded.converged.pop(0) if onboarded.converged else Convergence()
        if isinstance(result, Exception):
            raise result
        users = tuple(user.name for user in onboarded.file.declared(ORDERS))
        applied = None if result.refusal else Applied(f"v{onboarded.version}", "now", 2, users)
        return replace(result, applied=applied)

    monkeypatch.setattr(DatabaseRemoval, "remove", remove)
    monkeypatch.setattr(Users, "converge", converge)
    monkeypatch.setattr(Users, "prove", lambda _: ())
    monkeypatch.setattr(Users, "enabled", lambda _: onboarded.enabled)
    yield onboarded
    onboarded.inventory.forget(ORDERS.arn)
    onboarded.leases.forget(ORDERS.resource_id)
