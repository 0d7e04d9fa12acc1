"""Tokens for the endpoint that was requested: for callers who may log in, recorded, and without a further warm call."""

from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from rdsiam.access.selection import SelectedDatabase
from rdsiam.errors import EndpointUnreachable, NoSuchEndpoint, NotAllowed
from rdsiam.state.record import Applied
from rdsiam.tokens.database_endpoints import describe
from rdsiam.vending import flow
from rdsiam.vending.flow import NotSigned, TokenAnswer
from tests.unit.aws.test_rds import Rds, cluster, custom, member
from tests.unit.vending.test_flow import ARN, CI, DATABASE, STRANGER, place, records

__all__ = ["place"]

X = "x.eu-west-1.rds.amazonaws.com"
SHOP = (
    cluster("orders", "orders-1", "orders-2", custom=[custom("reports", "orders")], DbClusterResourceId="db-ONE"),
    member("orders-1", "orders"),
    member("orders-2", "orders"),
)


@pytest.fixture
def asked(place) -> list[SelectedDatabase]:
    """Record the database as a cluster; return the databases whose endpoints RDS is asked for."""
    asked: list[SelectedDatabase] = []

    def endpoints(database: SelectedDatabase) -> Any:
        asked.append(database)
        return describe(Rds(*SHOP), database)

    place.rds.endpoints = endpoints
    recorded = SelectedDatabase(**{**DATABASE.__dict__, "kind": "cluster", "engine": "aurora-postgresql"})
    place.inventory.onboarded(recorded, Applied("v1", "declared", 1, ("app",)), "f", "2026-11-24T11:00:00Z")
    return asked


def vend(place: Any, endpoint: str, caller: Any = CI, **requested: str) -> TokenAnswer:
    request = {"database": ARN, "user": "app"} | requested
    answer: TokenAnswer = place.vending.vend(
        caller, request["database"], request["user"], "", "request-1", endpoint=endpoint
    )
    return answer


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("reader", f"orders.cluster-ro-{X}"),
        ("reports", f"reports.cluster-custom-{X}"),
        ("orders-2", f"orders-2.{X}"),
        (f"orders.cluster-ro-{X}", f"orders.cluster-ro-{X}"),
        (f"orders.cluster-{X}", f"orders.cluster-{X}"),
    ],
)
def test_the_token_is_signed_for_the_requested_endpoint_and_the_record_names_it(place, asked, endpoint, host):
    answer = vend(place, endpoint)
    assert (answer.host, answer.port, answer.database) == (host, 5432, ARN)
    assert answer.token.startswith(f"{host}:5432/?")
    assert [(record["outcome"], record["endpoint"]) for record in records(place)] == [("allowed", endpoint)]


def test_an_endpoint_gives_no_other_rights_than_the_writer_s(place, asked):
    vend(place, "writer")
    vend(place, "reader")
    assert len(place.sts.asked) == 1  # the same session, narrowed to one user of the cluster's resource id


def test_rds_is_not_asked_for_the_writer(place, asked):
    assert vend(place, "writer").host == DATABASE.host
    assert asked == []
    assert records(place)[0]["endpoint"] == "writer"


def test_a_warm_request_for_a_reader_asks_rds_no_more_than_one_for_the_writer(place, asked, monkeypatch):
    vend(place, "reader")
    vend(place, "orders-2")
    monkeypatch.setattr(place.inventory, "get", lambda _: pytest.fail("asked the inventory again"))
    vend(place, "reader")
    assert len(asked) == len(place.sts.asked) == 1


def test_an_endpoint_that_was_made_later_is_found_within_a_minute(place, asked, monkeypatch):
    with pytest.raises(NoSuchEndpoint):
        vend(place, "later")
    monkeypatch.setitem(SHOP[0], "custom", [custom("later", "orders")])
    with pytest.raises(NoSuchEndpoint):
        vend(place, "later")
    monkeypatch.setattr(flow, "_RECORD_SECONDS", 0)
    assert vend(place, "later").host == f"later.cluster-custom-{X}"


@pytest.mark.parametrize("endpoint", ["reporting", "orders-3", f"orders.cluster-y.{X}"])
def test_a_caller_who_may_log_in_learns_which_endpoints_there_are(place, asked, endpoint):
    with pytest.raises(NoSuchEndpoint, match="it has writer, reader, reports, orders-1 and orders-2") as caught:
        vend(place, endpoint)
    assert endpoint not in str(caught.value)
    assert [(record["outcome"], record["endpoint"]) for record in records(place)] == [("failed", endpoint)]
    assert place.sts.asked == []


@pytest.mark.parametrize(
    ("caller", "requested"),
    [
        (STRANGER, {}),
        (CI, {"user": "boss"}),
        (CI, {"database": ARN.replace("orders", "payroll")}),
        (STRANGER, {"database": ARN.replace("orders", "nothing")}),
    ],
    ids=["another caller", "another user", "another database", "no database"],
)
@pytest.mark.parametrize("endpoint", ["reader", "nothing"])
def test_nobody_else_learns_anything_and_rds_is_not_asked(place, asked, caller, requested, endpoint):
    with pytest.raises(NotAllowed) as caught:
        vend(place, endpoint, caller, **requested)
    assert (str(caught.value), caught.value.code) == ("", "not-allowed")
    assert asked == []
    assert [(record["outcome"], record["endpoint"]) for record in records(place)] == [("denied", endpoint)]


def test_a_revoked_user_s_caller_learns_of_the_revocation_only(place, asked):
    place.inventory.revoke(ARN, {"app": "left"}, ())
    with pytest.raises(NotAllowed) as caught:
        vend(place, "nothing")
    assert (caught.value.code, asked) == ("user-revoked", [])


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "Throttling"}}, "DescribeDBClusters"),
        ClientError({"Error": {"Code": "DBClusterNotFoundFault"}}, "DescribeDBClusters"),
        ReadTimeoutError(endpoint_url="https://rds"),
        EndpointUnreachable("rds", "https://rds"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_without_an_answer_of_rds_there_is_no_token_and_the_next_request_asks_again(place, asked, error):
    answering = place.rds.endpoints

    def failing(_: Any) -> Any:
        raise error

    place.rds.endpoints = failing
    with pytest.raises(NotSigned, match=f"could not read the endpoints of {ARN}: {type(error).__name__}"):
        vend(place, "reader")
    assert [record["outcome"] for record in records(place)] == ["failed"]
    place.rds.endpoints = answering
    assert vend(place, "reader").host == f"orders.cluster-ro-{X}"
