"""Past decisions: pages that miss nothing and repeat nothing, whatever the order and the gaps."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from rdsiam.access.callers import Caller
from rdsiam.access.model import parse
from rdsiam.access.store import Versioned
from rdsiam.api import decisions
from rdsiam.api.decisions import DecisionsReader, Search
from rdsiam.errors import NotAllowed
from rdsiam.state.decisions import id_at, source_identity
from tests.examples import at_most

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ROLE = "arn:aws:iam::123456789012:role/{}"
AUDITOR, CI, OTHER = (
    Caller(role=ROLE.format(name), account="123456789012", session="s-1") for name in ("audit", "ci", "other")
)
FILE = parse(f"""
version: 1
auditors: [{{role: "{AUDITOR.role}"}}]
databases: [{{match: {{identifier: x}}}}]
""")
KEYS = {"by-day": "day", "by-caller": "caller", "by-database": "database"}


@pytest.fixture
def table():
    with mock_aws():
        keys: dict[str, Any] = {"region_name": "eu-west-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
        dynamodb = boto3.client("dynamodb", **keys)
        dynamodb.create_table(
            TableName="decisions",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("id", *KEYS.values())],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": index,
                    "KeySchema": [
                        {"AttributeName": key, "KeyType": "HASH"},
                        {"AttributeName": "id", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
                for index, key in KEYS.items()
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        store: Any = SimpleNamespace(current=lambda: Versioned(FILE, "v1"))
        reader = DecisionsReader(store, dynamodb, "decisions", now=lambda: NOW)
        yield SimpleNamespace(dynamodb=dynamodb, reader=reader)


def put(table, hours_ago, caller=CI, database="arn:d", number=0, **attributes):
    at = NOW - timedelta(hours=hours_ago)
    item = {
        "id": id_at(int(at.timestamp() * 1000), number << 8),
        "day": f"{at:%Y-%m-%d}",
        "at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "caller": caller.name,
        "source_identity": source_identity(caller),
        "database": database,
        "outcome": "allowed",
        **attributes,
    }
    table.dynamodb.put_item(TableName="decisions", Item={name: {"S": value} for name, value in item.items()})
    return item["id"]


def all_pages(table, who, limit, **search):
    found, before = [], None
    for _ in range(200):
        page = table.reader.page(who, Search(limit, before=before, **search))
        assert len(page.decisions) <= limit
        found += [one.id for one in page.decisions]
        if page.next is None:
            return found
        before = page.next
    raise AssertionError("the pages have no end")


@given(
    hours=st.lists(st.integers(0, 24 * 12), max_size=12),
    limit=st.integers(1, 7),
    examined=st.integers(1, 4),
    queries=st.integers(1, 5),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=at_most(20))
def test_pages_miss_nothing_and_repeat_nothing(table, hours, limit, examined, queries):
    for item in table.dynamodb.scan(TableName="decisions")["Items"]:
        table.dynamodb.delete_item(TableName="decisions", Key={"id": item["id"]})
    callers = [CI, OTHER]
    made = {
        put(table, ago, callers[number % 2], f"arn:{number % 3}", number): (ago, number)
        for number, ago in enumerate(hours)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions, "_EXAMINED", examined)
        patch.setattr(decisions, "_MAX_QUERIES", queries)
        earliest = (NOW - timedelta(days=13)).timestamp()
        week = {one: number for one, (ago, number) in made.items() if ago <= 24 * 7}
        assert all_pages(table, AUDITOR, limit) == sorted(week, reverse=True)
        assert all_pages(table, AUDITOR, limit, since=earliest) == sorted(made, reverse=True)
        of_one = sorted((one for one, number in week.items() if number % 3 == 1), reverse=True)
        assert all_pages(table, AUDITOR, limit, database="arn:1") == of_one
        both = sorted((one for one, number in week.items() if number % 6 == 4), reverse=True)
        assert all_pages(table, AUDITOR, limit, database="arn:1", caller=CI.name) == both
        own = sorted((one for one, number in week.items() if number % 2 == 1), reverse=True)
        assert all_pages(table, OTHER, limit) == own


def test_other_callers_see_only_decisions_of_their_session(table):
    put(table, 1)
    put(table, 2, Caller(role=CI.role, account=CI.account, session="s-2"), number=1)
    assert len(table.reader.page(CI, Search(10)).decisions) == 1
    assert table.reader.page(OTHER, Search(10)).decisions == []
    assert len(table.reader.page(AUDITOR, Search(10)).decisions) == 2


@pytest.mark.parametrize(
    "rule",
    [
        "databases[0].users[0].callers[0]: has ended",
        "databases[0].users[0].callers[0]: needs confirmation, since identifier or tags changed",
        "databases[0].users[0].callers[0]: a reason is required",
        "access.yaml is invalid for this database",
        "revoked",
    ],
)
def test_the_rule_of_a_denial_tells_its_caller_nothing_about_the_database(table, rule):
    """Of a database that doesn't exist, or that isn't onboarded, it would be another one."""
    put(table, 1, database="arn:exists", number=1, outcome="denied", rule=rule)
    put(table, 2, database="arn:unknown", number=2, outcome="denied", rule="no entry lets this caller log in")
    put(table, 3, number=3, outcome="allowed", rule="databases[0].users[0].callers[0]")
    own = table.reader.page(CI, Search(10)).decisions
    assert [one.rule for one in own] == ["", "", "databases[0].users[0].callers[0]"]
    assert table.reader.page(AUDITOR, Search(10)).decisions[0].rule == rule


@pytest.mark.parametrize("database", [None, "arn:d"])
def test_decisions_of_other_callers_are_for_auditors_only(table, database):
    with pytest.raises(NotAllowed):
        table.reader.page(CI, Search(10, database, caller=OTHER.name))


def test_the_position_of_another_caller_reveals_nothing(table):
    theirs = put(table, 1, OTHER)
    mine = put(table, 2, CI, number=1)
    assert [one.id for one in table.reader.page(CI, Search(10, before=theirs)).decisions] == [mine]


def test_an_unidentified_caller_sees_no_decisions(table):
    with pytest.raises(NotAllowed):
        table.reader.page(Caller(role=None, account="", session=None), Search(10))


def test_a_span_that_ends_before_it_begins_is_empty(table):
    put(table, 1)
    assert table.reader.page(AUDITOR, Search(10, since=NOW.timestamp(), until=0)).decisions == []
