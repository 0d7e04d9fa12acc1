"""GET /databases: the endpoints of the databases that a caller may log in to."""

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from rdsiam.access.model import parse
from rdsiam.access.selection import SelectedDatabase, select
from rdsiam.access.store import Versioned
from rdsiam.api import databases
from rdsiam.api.databases import Allowed
from rdsiam.aws.rds_descriptions import from_cluster, from_instance, from_proxy
from rdsiam.tokens.database_endpoints import describe_all
from tests.unit.aws.test_rds import Rds, cluster, instance, member, proxy, proxy_endpoint
from tests.unit.vending.test_flow import ACCOUNT, CI, STRANGER

FLEET = (
    instance("orders"),
    cluster("shop", "shop-1", "shop-2"),
    member("shop-1", "shop"),
    member("shop-2", "shop"),
    cluster("secret", "secret-1"),
    member("secret-1", "secret"),
    proxy("front", endpoints=[proxy_endpoint("reports", "front", TargetRole="READ_ONLY")]),
)
RECORDED = [from_instance(FLEET[0]), from_cluster(FLEET[1]), from_cluster(FLEET[4]), from_proxy(FLEET[6], ())]


def allowed(identifiers: str, describe: Any) -> Allowed:
    """Return the listing for an access.yaml that lets CI log in to these databases."""
    file = parse(
        """
version: 1
databases:
"""
        + "".join(
            f"""
  - match: {{identifier: {identifier}}}
    users: [{{name: app, privileges: readonly, on: [shop], callers: [{{role: "arn:aws:iam::{ACCOUNT}:role/ci"}}]}}]
"""
            for identifier in identifiers.split(", ")
        )
    )
    access: Any = SimpleNamespace(current=lambda: Versioned(file, "v1"))
    records = [(each.arn, SimpleNamespace(database=_selected(each), revoked={})) for each in RECORDED]
    inventory: Any = SimpleNamespace(all=lambda: records)
    return Allowed(access, inventory, describe)


def _selected(database: Any) -> SelectedDatabase:
    return select(database, None)


def listed(listing: Allowed, caller: Any = CI) -> dict[str, list[str]]:
    return {
        database.identifier: [endpoint.name for endpoint in database.endpoints]
        for database in listing.of(caller).databases
    }


def test_all_endpoints_of_a_caller_s_databases_are_listed_and_no_others():
    assert listed(allowed("orders, shop, front", lambda: describe_all(Rds(*FLEET)))) == {
        "front": ["writer", "reader", "reports"],
        "orders": ["writer"],
        "shop": ["writer", "reader", "shop-1", "shop-2"],
    }


@pytest.mark.parametrize(("identifiers", "caller"), [("orders", CI), ("shop, front", STRANGER)])
def test_rds_is_asked_only_for_a_caller_of_a_cluster_or_proxy(identifiers, caller):
    listing = allowed(identifiers, lambda: pytest.fail("asked RDS"))
    assert listed(listing, caller) == ({"orders": ["writer"]} if caller is CI else {})


def test_endpoints_are_read_once_a_minute(monkeypatch):
    asked: list[None] = []

    def describe() -> Any:
        asked.append(None)
        return describe_all(Rds(*FLEET))

    listing = allowed("shop", describe)
    assert listed(listing) == listed(listing)
    assert len(asked) == 1
    monkeypatch.setattr(databases, "_SECONDS", 0)
    listed(listing)
    assert len(asked) == 2


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "Throttling"}}, "DescribeDBClusters"),
        ReadTimeoutError(endpoint_url="https://rds"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_without_an_answer_of_rds_the_last_known_endpoints_are_listed(monkeypatch, caplog, error):
    answers: list[Any] = [error, describe_all(Rds(*FLEET)), error]

    def describe() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(databases, "_SECONDS", 0)
    listing = allowed("shop", describe)
    assert listed(listing) == {"shop": ["writer"]}
    assert f"endpoints can't be read: {type(error).__name__}" in caplog.text
    assert listed(listing) == listed(listing) == {"shop": ["writer", "reader", "shop-1", "shop-2"]}
