"""Vending: deny by default, a record before every answer, and no token without one."""

import hashlib
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
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
from rdsiam.access.selection import Attributes, SelectedDatabase
from rdsiam.access.store import Versioned
from rdsiam.errors import AccessFileInvalid, AccessFileUnavailable, NotAllowed
from rdsiam.state.decisions import Decisions, id_at, source_identity, time_ordered_id
from rdsiam.state.inventory import Inventory
from rdsiam.state.record import Applied
from rdsiam.vending.flow import CaUrls, NotSigned, Stores, Vending
from tests.examples import at_most

ACCOUNT = "123456789012"
ARN = f"arn:aws:rds:eu-west-1:{ACCOUNT}:db:orders"
CI = Caller(role=f"arn:aws:iam::{ACCOUNT}:role/ci", account=ACCOUNT, session="build-1", claims={})
STRANGER = Caller(role=f"arn:aws:iam::{ACCOUNT}:role/stranger", account=ACCOUNT, session="s-1", claims={})
USER = Caller(role=None, account="", session=f"arn:aws:iam::{ACCOUNT}:user/ann", claims={})
NOBODY = Caller(role=None, account="", session=None, claims={})
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FILE = parse(f"""
version: 1
databases:
  - match: {{identifier: orders}}
    users:
      - name: app
        privileges: readonly
        on: [shop]
        callers: [{{role: "arn:aws:iam::{ACCOUNT}:role/ci"}}]
""")
DATABASE = SelectedDatabase(
    arn=ARN,
    identifier="orders",
    engine="postgres",
    engine_version="18",
    resource_id="db-ONE",
    status="available",
    host="orders.example.eu-west-1.rds.amazonaws.com",
    port=5432,
    iam_enabled=True,
    master_user="boss",
    tags={"env": "prod"},
)


class Sts:
    """Counts what it is asked, and answers as STS does."""

    meta = SimpleNamespace(region_name="eu-west-1")

    def __init__(self, expires):
        self.asked = []
        self.expires = expires

    def assume_role(self, **request):
        self.asked.append(request)
        return {
            "Credentials": {
                "AccessKeyId": "ASIA1",
                "SecretAccessKey": "canary-secret",
                "SessionToken": "canary-session",
                "Expiration": self.expires,
            }
        }


@pytest.fixture
def place():
    with mock_aws():
        keys: dict[str, Any] = {"region_name": "eu-west-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
        dynamodb = boto3.client("dynamodb", **keys)
        for table, key in (("inventory", "database"), ("decisions", "id")):
            dynamodb.create_table(
                TableName=table,
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        inventory = Inventory(dynamodb, "inventory")
        inventory.select(DATABASE, Attributes.of(DATABASE))
        inventory.record_ownership(DATABASE, {"app": "created"})
        inventory.onboarded(DATABASE, Applied("v1", "declared", 1, ("app",)), "f", "2026-11-24T11:00:00Z")
        sts = Sts(NOW + timedelta(hours=1))
        clock = SimpleNamespace(now=NOW)
        rds = SimpleNamespace(endpoints=lambda _: pytest.fail("asked RDS for the writer"))
        store: Any = SimpleNamespace(current=lambda: Versioned(FILE, "v1"))
        vending = Vending(
            Stores(store, inventory, Decisions(dynamodb, "decisions"), lambda database: rds.endpoints(database)),
            sts,
            [f"arn:aws:iam::{ACCOUNT}:role/connect", f"arn:aws:iam::{ACCOUNT}:role/connect2"],
            CaUrls("https://ca", "https://ca-of-proxies"),
            now=lambda: clock.now,
        )
        yield SimpleNamespace(
            vending=vending, dynamodb=dynamodb, inventory=inventory, sts=sts, clock=clock, access=store, rds=rds
        )


def records(place):
    items = place.dynamodb.scan(TableName="decisions")["Items"]
    return sorted(({k: v["S"] for k, v in item.items()} for item in items), key=lambda item: item["id"])


def vend(place, caller=CI, database="orders", user="app"):
    return place.vending.vend(caller, database, user, "", "request-1")


@pytest.mark.parametrize("name", ["orders", ARN])
def test_a_declared_caller_gets_a_token_for_the_endpoint_of_the_inventory(place, name):
    answer = vend(place, database=name)
    assert answer.token.startswith("orders.example.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=app&")
    assert (answer.host, answer.port, answer.engine, answer.database) == (DATABASE.host, 5432, "postgres", ARN)
    assert (answer.issued_at, answer.expires_at) == ("2026-11-24T12:00:00Z", "2026-11-24T12:15:00Z")
    assert answer.ca_url == "https://ca"


def test_a_proxy_s_certificate_is_of_another_authority(place):
    proxy = SelectedDatabase(**{**DATABASE.__dict__, "kind": "proxy"})
    place.inventory.onboarded(proxy, Applied("v1", "declared", 1, ("app",)), "f", "2026-11-24T11:00:00Z")
    assert vend(place).ca_url == "https://ca-of-proxies"


def test_the_session_is_narrowed_to_one_user_and_says_for_whom(place):
    vend(place)
    asked = place.sts.asked[0]
    statement = json.loads(asked["Policy"])["Statement"]
    assert statement == [
        {
            "Effect": "Allow",
            "Action": "rds-db:connect",
            "Resource": f"arn:aws:rds-db:eu-west-1:{ACCOUNT}:dbuser:db-ONE/app",
        }
    ]
    assert asked["SourceIdentity"].startswith("ci-")


def shards(place, **users):
    place.inventory.set_roles(ARN, DATABASE.resource_id, (), users)


@pytest.mark.parametrize(("recorded", "role"), [({}, "connect"), ({"app": 1}, "connect"), ({"app": 2}, "connect2")])
def test_the_user_s_shard_of_connect_role_is_assumed_as_the_inventory_records_it(place, recorded, role):
    shards(place, other=2, **recorded)
    vend(place)
    assert [asked["RoleArn"] for asked in place.sts.asked] == [f"arn:aws:iam::{ACCOUNT}:role/{role}"]


@pytest.mark.parametrize("shard", [0, 3, 99])
def test_a_shard_that_the_stack_no_longer_has_gives_no_token_and_says_so(place, shard):
    shards(place, app=shard)
    with pytest.raises(NotSigned, match=f"shard {shard} of ConnectRole, which the stack no longer has"):
        vend(place)
    assert (place.sts.asked, [record["outcome"] for record in records(place)]) == ([], ["failed"])


def test_credentials_of_another_shard_are_not_used_again(place, monkeypatch):
    vend(place)
    shards(place, app=2)
    monkeypatch.setattr("rdsiam.vending.flow._RECORD_SECONDS", 0)
    vend(place)
    assert [asked["RoleArn"][-8:] for asked in place.sts.asked] == ["/connect", "connect2"]


def test_a_warm_request_calls_neither_sts_nor_the_inventory(place, monkeypatch):
    vend(place)
    monkeypatch.setattr(place.inventory, "get", lambda _: pytest.fail("asked the inventory again"))
    vend(place)
    assert len(place.sts.asked) == 1


def test_credentials_that_would_expire_before_the_token_are_renewed(place):
    vend(place)
    place.clock.now += timedelta(minutes=46)
    place.sts.expires = place.clock.now + timedelta(hours=1)
    vend(place)
    assert len(place.sts.asked) == 2


def test_concurrent_requests_call_sts_once(place):
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: vend(place), range(20)))
    assert len(place.sts.asked) == 1
    assert len(records(place)) == len(answers) == 20


def test_credentials_are_cached_per_decision_and_version_of_access_yaml(place):
    vend(place)
    vend(place, Caller(role=CI.role, account=ACCOUNT, session="build-2", claims={}))
    assert len(place.sts.asked) == 2
    place.access.current = lambda: Versioned(FILE, "v2")
    vend(place)
    assert len(place.sts.asked) == 3


def test_a_token_expires_no_later_than_the_credentials_that_signed_it(place):
    place.sts.expires = NOW + timedelta(minutes=5)
    assert vend(place).expires_at == "2026-11-24T12:05:00Z"


@pytest.mark.parametrize(
    ("caller", "database", "user"),
    [
        (STRANGER, "orders", "app"),
        (USER, "orders", "app"),
        (NOBODY, "orders", "app"),
        (CI, "orders", "rdsiam_manager"),
        (CI, "orders", "boss"),
        (CI, "orders", "APP"),
        (CI, "unknown", "app"),
        (CI, ARN.replace("eu-west-1", "us-east-1"), "app"),
        (CI, ARN.replace(ACCOUNT, "999999999999"), "app"),
    ],
    ids=["stranger", "a user", "nobody", "manager", "master", "case", "unknown", "region", "account"],
)
def test_everything_else_is_denied_alike_and_recorded(place, caller, database, user):
    with pytest.raises(NotAllowed) as denied:
        vend(place, caller, database, user)
    assert str(denied.value) == ""
    assert place.sts.asked == []
    (record,) = records(place)
    assert (record["outcome"], record["user"], record["caller"]) == (
        "denied",
        user,
        caller.role or caller.session or "nobody",
    )
    assert "fingerprint" not in record


def test_every_token_has_its_record_with_a_fingerprint_and_nothing_secret(place):
    answer = vend(place)
    (record,) = records(place)
    assert record["outcome"] == "allowed"
    assert record["rule"] == "databases[0].users[0].callers[0]"
    assert record["access_version"] == "v1"
    assert len(record["fingerprint"]) == 64
    text = json.dumps(record) + repr(answer)
    assert answer.token not in text
    assert "canary" not in text


def test_without_a_record_there_is_no_token(place):
    place.dynamodb.delete_table(TableName="decisions")
    with pytest.raises(place.dynamodb.exceptions.ResourceNotFoundException):
        vend(place)


def test_a_failed_assume_role_is_recorded_and_its_error_holds_no_secret(place, monkeypatch):
    def refuse(**_):
        raise RuntimeError("canary-secret")

    monkeypatch.setattr(place.sts, "assume_role", refuse)
    with pytest.raises(NotSigned) as failed:
        vend(place)
    assert "canary" not in str(failed.value)
    assert records(place)[0]["outcome"] == "failed"


def test_tokens_are_vended_while_a_database_is_onboarded(place):
    place.inventory.record_ownership(DATABASE, {"app": "created", "new": "created"})
    assert vend(place).user == "app"


def test_a_copy_of_the_same_name_is_another_database(place):
    other = SelectedDatabase(**{**DATABASE.__dict__, "resource_id": "db-TWO"})
    place.inventory.record_ownership(other, {})
    record = place.inventory.get(ARN)
    assert record is not None
    assert record.database is None
    assert record.accounts == {}


def test_source_identities_tell_callers_apart_and_fit_sts():
    other = Caller(role=CI.role, account=ACCOUNT, session="build-2", claims={})
    long = Caller(role=f"arn:aws:iam::{ACCOUNT}:role/{'r' * 64}", account=ACCOUNT, session="x" * 64, claims={})
    assert source_identity(CI) != source_identity(other)
    assert len(source_identity(long)) <= 64


def test_ids_are_ordered_by_time_and_unguessable():
    ids = [time_ordered_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)
    assert all(i[14] == "7" and i[19] in "89ab" for i in ids)


def test_ids_of_a_time_bound_the_ids_made_at_that_time():
    low, high = id_at(time.time_ns() // 1_000_000 - 1, 0), id_at(time.time_ns() // 1_000_000 + 1000, 2**80 - 1)
    assert low < time_ordered_id() < high
    assert id_at(-5, 0) < id_at(0, 1) < id_at(2**60, 0)


@pytest.fixture
def ending(place):
    """Rules that end: `app` in ten minutes, `long` in an hour; both of them with a caller's claim as well."""
    until = NOW + timedelta(minutes=10)
    users = [("app", until), ("long", NOW + timedelta(hours=1))]
    text = "version: 1\ndatabases:\n  - match: {identifier: orders}\n    users:\n"
    for name, at in users:
        text += (
            f"      - {{name: {name}, privileges: readonly, on: [shop], callers: [{{role: "
            f"'arn:aws:iam::{ACCOUNT}:role/ci', until: {at:%Y-%m-%dT%H:%M:%SZ}}}]}}\n"
        )
    place.access.current = lambda: Versioned(parse(text), "v2")
    return until


def test_no_token_lives_longer_than_its_permission(place, ending):
    answer = vend(place)
    assert answer.expires_at == "2026-11-24T12:10:00Z"
    # RDS counts 15 minutes from the time of signing, whatever else the token says.
    assert "X-Amz-Date=20261124T115500Z" in answer.token
    assert answer.issued_at == "2026-11-24T12:00:00Z"
    assert vend(place, user="long").expires_at == "2026-11-24T12:15:00Z"


@given(seconds=st.integers(0, 4000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=at_most(30))
def test_a_token_requested_at_any_time_expires_with_its_permission(place, ending, seconds):
    place.clock.now = NOW + timedelta(seconds=seconds)
    place.sts.expires = place.clock.now + timedelta(hours=1)
    if place.clock.now >= ending:
        with pytest.raises(NotAllowed):
            vend(place)
        return
    answer = vend(place)
    signed = datetime.strptime(re.findall(r"X-Amz-Date=(\w+)", answer.token)[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert signed + timedelta(seconds=900) == datetime.fromisoformat(answer.expires_at) <= ending


def test_a_revoked_user_gets_no_token(place):
    place.inventory.revoke(ARN, {"app": "left the company"}, ())
    with pytest.raises(NotAllowed):
        vend(place)
    assert records(place)[0]["rule"] == "revoked"
    place.inventory.revoke(ARN, {}, ("app",))


def entries(*callers: str, roles: str = "") -> Versioned:
    """Return an access.yaml that declares these rules for `app` on databases named orders…"""
    return Versioned(
        parse(
            "version: 1\ndatabases:\n  - match: {identifier: 'orders*'}\n    users:\n"
            f"      - {{name: app, privileges: readonly, on: [shop], roles: [{roles}], "
            f"callers: [{', '.join(callers)}]}}\n"
        ),
        "v2",
    )


WITH_REASON = f'{{role: "arn:aws:iam::{ACCOUNT}:role/ci", reason: required}}'
ENDED = f'{{role: "arn:aws:iam::{ACCOUNT}:role/ci", until: 2026-01-01T00:00:00Z}}'


@pytest.mark.parametrize(
    ("access", "revoked", "code"),
    [
        (entries(WITH_REASON), False, "reason-required"),
        (entries(ENDED, WITH_REASON), False, "reason-required"),
        (entries(roles=f'"{CI.role}"'), False, "signs-itself"),
        (entries(WITH_REASON), True, "user-revoked"),
        (Versioned(FILE, "v1"), True, "user-revoked"),
        (entries(roles=f'"{CI.role}"'), True, "user-revoked"),
        (entries(ENDED), False, "not-allowed"),
        (entries(ENDED), True, "not-allowed"),
        (entries(), True, "not-allowed"),
    ],
)
def test_a_caller_whom_an_entry_names_is_told_what_to_do(place, access, revoked, code):
    place.access.current = lambda: access
    if revoked:
        place.inventory.revoke(ARN, {"app": "canary-reason"}, ())
    with pytest.raises(NotAllowed) as denied:
        vend(place)
    assert denied.value.code == code
    assert "canary" not in str(denied.value)
    assert bool(str(denied.value)) == (code != "not-allowed")
    assert place.sts.asked == []
    assert [record["outcome"] for record in records(place)] == ["denied"]


@pytest.mark.parametrize("access", [entries(WITH_REASON), entries(roles=f'"{CI.role}"')], ids=["reason", "signs"])
def test_a_named_caller_is_not_told_which_databases_exist(place, access):
    place.access.current = lambda: access
    for database in ("orders-none", "other", ARN.replace("eu-west-1", "us-east-1")):
        with pytest.raises(NotAllowed) as denied:
            vend(place, database=database)
        assert (denied.value.code, str(denied.value)) == ("not-allowed", "")
    for caller, user in ((STRANGER, "app"), (USER, "app"), (NOBODY, "app"), (CI, "boss")):
        with pytest.raises(NotAllowed) as denied:
            vend(place, caller, user=user)
        assert (denied.value.code, str(denied.value)) == ("not-allowed", "")


def test_no_database_is_looked_up_for_a_caller_without_an_entry(place, monkeypatch):
    monkeypatch.setattr(place.inventory, "get", lambda _: pytest.fail("looked it up"))
    for caller, database, user in [(STRANGER, "orders", "app"), (CI, "unknown", "app"), (CI, "orders", "boss")]:
        with pytest.raises(NotAllowed):
            vend(place, caller, database, user)
    assert {one["rule"] for one in records(place)} == {"no entry lets this caller log in as this user here"}


def test_no_database_is_looked_up_for_a_caller_whose_permission_has_ended(place, monkeypatch):
    """A database that is known answers sooner than one that has to be read, or that doesn't exist."""
    caller = {"role": CI.role, "until": "2026-11-24T12:00:00Z"}
    user = {"name": "app", "privileges": "readonly", "on": ["shop"], "callers": [caller]}
    ended = parse(json.dumps({"version": 1, "databases": [{"match": {"identifier": "order*"}, "users": [user]}]}))
    place.access.current = lambda: Versioned(ended, "v1")
    monkeypatch.setattr(place.inventory, "get", lambda _: pytest.fail("looked it up"))
    for database in ("orders", "orders-2"):
        with pytest.raises(NotAllowed):
            vend(place, database=database)
    assert {one["rule"] for one in records(place)} == {"databases[0].users[0].callers[0]: has ended"}


def test_an_unreadable_access_yaml_is_recorded_as_failure(place):
    def fail():
        raise AccessFileUnavailable("canary")

    place.access.current = fail
    with pytest.raises(AccessFileUnavailable):
        vend(place)
    (record,) = records(place)
    assert (record["outcome"], record["caller"], "access_version" in record) == ("failed", CI.role, False)


def test_a_request_under_an_invalid_access_yaml_is_denied_on_record(place):
    def fail():
        raise AccessFileInvalid(["line 1: version: must be 1"], "v2")

    place.access.current = fail
    for _ in range(2):
        with pytest.raises(AccessFileInvalid):
            vend(place)
    assert [(one["outcome"], one["rule"], one["access_version"]) for one in records(place)] == [
        ("denied", "access.yaml is invalid", "v2")
    ] * 2


def test_a_malformed_request_is_recorded_without_its_content(place):
    place.vending.refuse(CI, "malformed", "user: must be a name", "request-9")
    (record,) = records(place)
    assert (record["outcome"], record["rule"]) == ("malformed", "user: must be a name")
    assert not {"database", "user", "fingerprint"} & set(record)


def test_the_fingerprint_is_of_the_signature_wherever_it_stands(place):
    token = vend(place).token
    signature = re.findall(r"X-Amz-Signature=([0-9a-f]{64})", token)[0]
    assert records(place)[0]["fingerprint"] == hashlib.sha256(signature.encode()).hexdigest()


def test_a_new_jwt_of_the_same_subject_has_the_same_source_identity(place):
    one, two = (Caller(role=None, account="", session="https://issuer#ann", claims={"jti": number}) for number in "12")
    assert source_identity(one) == source_identity(two)
    assert source_identity(one).startswith("ann-")
