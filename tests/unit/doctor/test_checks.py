"""The doctor's checks without a database, and the content of tokens."""

import json
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.aws.rds import Database
from rdsiam.command.app import app
from rdsiam.doctor.caller import covers
from rdsiam.doctor.case import LoginCase, Verdict
from rdsiam.doctor.checks import CHECKS, diagnose
from rdsiam.errors import InvalidRequest
from rdsiam.signer import Credentials, TokenSigner
from rdsiam.tokens.parser import read_token
from tests.unit.databases import ORDERS

KEYS = Credentials("AKIDEXAMPLE", "the-secret-key", "the-session-token")
NOW = datetime.now(UTC)
DATABASE = replace(ORDERS, resource_id="db-ABC", host="localhost", port=1)
ROLE = "arn:aws:sts::123456789012:assumed-role/app/session"


class Aws:
    """AWS with these answers, by operation; every other operation is denied."""

    def __init__(self, **answers: Any) -> None:
        self._answers = {"get_caller_identity": identity(ROLE)} | answers

    def __call__(self, _: str) -> "Aws":
        return self

    def __getattr__(self, operation: str) -> Any:
        def call(*_: Any, **__: Any) -> Any:
            if operation not in self._answers:
                raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)
            return self._answers[operation]

        return call


def identity(arn: str, at: datetime = NOW) -> dict[str, Any]:
    return {"Arn": arn, "ResponseMetadata": {"HTTPHeaders": {"date": format_datetime(at, usegmt=True)}}}


def verdict(check: str, database: Database = DATABASE, expiry: datetime | None = None, region="eu-west-1", **answers):
    """Return the state that a check finds; every state but OK must come with a fix."""
    found = CHECKS[check](LoginCase(database, "app", Aws(**answers), KEYS, expiry, region))
    assert found.state == "OK" or found.fix
    return found.state


def test_name_and_port_of_the_endpoint_are_checked():
    assert verdict("name") == "OK"
    assert verdict("name", replace(DATABASE, host="no-such-host.invalid")) == "FAIL"
    with socket.create_server(("localhost", 0)) as listener:
        assert verdict("port", replace(DATABASE, port=listener.getsockname()[1])) == "OK"
    assert verdict("port", replace(DATABASE, port=1)) == "FAIL"


class Offers:
    """RDS, which offers this engine version without IAM authentication."""

    def __call__(self, _: str) -> "Offers":
        return self

    def get_paginator(self, _: str) -> Any:
        def paginate(**query: str) -> list[Any]:
            iam = query["EngineVersion"] != "10.6.24"
            return [{"OrderableDBInstanceOptions": [{"SupportsIAMDatabaseAuthentication": iam}]}]

        return type("Paginator", (), {"paginate": staticmethod(paginate)})

    def describe_db_engine_versions(self, **_: Any) -> Any:
        return {"DBEngineVersions": [{"ValidUpgradeTarget": [{"EngineVersion": "10.11.4"}]}]}


def test_a_version_without_iam_authentication_is_to_be_upgraded_not_switched():
    old = replace(DATABASE, engine="mariadb", engine_version="10.6.24", iam_enabled=False)
    found = CHECKS["IAM authentication"](LoginCase(old, "app", Offers(), KEYS, None, "eu-west-1"))
    assert found == Verdict("FAIL", "mariadb 10.6.24 has none here", "upgrade it to 10.11.4 or later")


def test_iam_authentication_must_be_on_and_not_pending():
    assert verdict("IAM authentication") == "OK"
    assert verdict("IAM authentication", replace(DATABASE, iam_enabled=False)) == "FAIL"
    assert verdict("pending changes") == "OK"
    assert verdict("pending changes", replace(DATABASE, pending=("EngineVersion",))) == "OK"
    assert verdict("pending changes", replace(DATABASE, pending=("IAMDatabaseAuthenticationEnabled",))) == "FAIL"


def test_the_caller_must_be_of_the_databases_account():
    assert verdict("identity") == "OK"
    assert verdict("identity", get_caller_identity=identity("arn:aws:sts::999999999999:assumed-role/app/s")) == "FAIL"


def attached(resource: Any, effect: str = "Allow", action: Any = "rds-db:connect", *more: Any) -> dict[str, Any]:
    statement = {"Effect": effect, "Action": action, "Resource": resource}
    document = {"Statement": [statement, *more] if more else statement}
    return {
        "list_role_policies": {"PolicyNames": ["p"]},
        "get_role_policy": {"PolicyDocument": document},
        "list_attached_role_policies": {"AttachedPolicies": []},
    }


CONNECT = "arn:aws:rds-db:eu-west-1:123456789012:dbuser:"
DENIAL = {"Effect": "Deny", "Action": "rds-db:*", "Resource": [f"{CONNECT}db-ABC/a*"]}


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        (attached(f"{CONNECT}db-ABC/app"), "OK"),
        (attached([f"{CONNECT}db-OTHER/app", f"{CONNECT}db-ABC/*"]), "OK"),
        (attached("*"), "OK"),
        (attached(f"{CONNECT}db-OLD/app"), "FAIL"),
        (attached(f"{CONNECT}db-ABC/other"), "FAIL"),
        (attached(f"{CONNECT}db-ABC/app", "Deny"), "FAIL"),
        (attached(f"{CONNECT}db-ABC/app", "Allow", ["rds-db:Conn*"]), "OK"),
        (attached(f"{CONNECT}db-ABC/app", "Allow", "rds:*"), "FAIL"),
        (attached("*", "Allow", "*", DENIAL), "FAIL"),
        (attached("*", "Allow", "*", DENIAL | {"Resource": f"{CONNECT}db-ABC/other"}), "OK"),
        (attached("*", "Allow", "*", DENIAL | {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}), "UNKNOWN"),
        ({"get_caller_identity": identity("arn:aws:iam::123456789012:user/me")}, "UNKNOWN"),
    ],
)
def test_policies_must_name_the_databases_resource_id(answers, state):
    assert verdict("resource id", **answers) == state


def test_an_iam_pattern_is_no_regular_expression():
    assert covers("arn:*:db-?BC/a", "arn:x:db-ABC/a")
    assert not covers("arn:[a]", "arn:a")


@pytest.mark.parametrize(("decision", "state"), [("allowed", "OK"), ("implicitDeny", "UNKNOWN")])
def test_a_denial_of_the_simulator_is_never_a_failure(decision, state):
    answer = {"EvaluationResults": [{"EvalDecision": decision}]}
    role = {"Role": {"Arn": "arn:aws:iam::123456789012:role/app"}}
    assert verdict("policy decision", simulate_principal_policy=answer, get_role=role) == state


CLUSTER = replace(
    DATABASE, arn="arn:aws:rds:eu-west-1:123456789012:cluster:shop", identifier="shop", engine="aurora-postgresql",
    resource_id="cluster-ABC", kind="cluster", iam_enabled=False, host="no-such-host.invalid",
)  # fmt: skip
MEMBER = replace(
    CLUSTER, arn="arn:aws:rds:eu-west-1:123456789012:db:shop-2", identifier="shop-2", kind="instance", replica_of="shop"
)
PROXY = replace(
    DATABASE, arn="arn:aws:rds:eu-west-1:123456789012:db-proxy:prx-1", identifier="front", resource_id="prx-1",
    kind="proxy", iam_enabled=False,
)  # fmt: skip
REPLICA = replace(DATABASE, identifier="orders-copy", replica_of="orders", iam_enabled=False)


def fixes(database: Database, **answers: Any) -> dict[str, str]:
    """Return the advice of all checks, by check."""
    return {row.check: row.fix for row in diagnose(LoginCase(database, "app", Aws(**answers), KEYS, None, "eu-west-1"))}


@pytest.mark.parametrize(
    ("database", "enable", "owner"),
    [
        (DATABASE, "modify-db-instance --db-instance-identifier orders ", "orders"),
        (REPLICA, "modify-db-instance --db-instance-identifier orders-copy ", "orders-copy"),
        (CLUSTER, "modify-db-cluster --db-cluster-identifier shop ", "shop"),
        (replace(CLUSTER, engine="mysql"), "modify-db-cluster --db-cluster-identifier shop ", "shop"),
        (MEMBER, "modify-db-cluster --db-cluster-identifier shop ", "shop"),
        (PROXY, "modify-db-proxy --db-proxy-name front --default-auth-scheme IAM_AUTH", "front"),
    ],
    ids=["instance", "replica", "Aurora", "Multi-AZ cluster", "member of a cluster", "proxy"],
)
def test_advice_is_for_the_kind_of_the_database(database, enable, owner):
    advice = fixes(replace(database, iam_enabled=False), **attached("arn:aws:rds-db:::dbuser:x/other"))
    assert enable in advice["IAM authentication"]
    assert f"rdsiam onboard {owner}:" in advice["resource id"]
    assert advice["role or plugin"] == f"rdsiam audit --database {owner}"


def test_the_advice_for_a_cluster_names_no_call_for_instances():
    pending = replace(CLUSTER, pending=("IAMDatabaseAuthenticationEnabled",))
    text = " ".join(fixes(pending, **attached("*")).values())
    assert "db-instance" not in text
    assert "describe-db-clusters --db-cluster-identifier shop" in text


def test_advice_warns_of_pending_changes_that_it_would_apply():
    advice = fixes(replace(CLUSTER, pending=("EngineVersion",)))["IAM authentication"]
    assert "also applies the pending changes (EngineVersion)" in advice


@pytest.mark.parametrize(("database", "name"), [(CLUSTER, "DBClusterIdentifier"), (MEMBER, "DBInstanceIdentifier")])
def test_the_metrics_of_a_cluster_are_read_as_the_clusters(database, name):
    requests: list[dict[str, Any]] = []

    def statistics(**request: Any) -> dict[str, Any]:
        requests.append(request)
        return {"Datapoints": [{"Sum": 1.0}]}

    cloudwatch = SimpleNamespace(get_metric_statistics=statistics)
    case = LoginCase(database, "app", lambda _: cloudwatch, KEYS, None, "eu-west-1")
    assert CHECKS["rate"](case).state == "FAIL"
    assert requests[0]["Dimensions"] == [{"Name": name, "Value": database.identifier}]


@pytest.mark.parametrize("target", [{"RdsResourceId": "shop-2"}, {"TrackedClusterId": "shop"}])
def test_a_proxy_in_front_of_a_cluster_is_in_front_of_its_members(target):
    proxies = {"DBProxies": [{"DBProxyName": "front"}]}
    rows = diagnose(
        LoginCase(
            MEMBER, "app", Aws(describe_db_proxies=proxies, describe_db_proxy_targets={"Targets": [target]}), KEYS,
            None, "eu-west-1",
        )
    )  # fmt: skip
    assert "behind front" in {row.check: row.detail for row in rows}["proxy"]


def test_a_database_without_an_endpoint_is_unknown():
    states = {
        row.check: row.state for row in diagnose(LoginCase(replace(CLUSTER, host=None), "app", Aws(), KEYS, None, "x"))
    }
    assert states["name"] == states["login"] == "UNKNOWN"


@pytest.mark.parametrize(("minutes", "state"), [(0, "OK"), (10, "FAIL"), (-10, "FAIL")])
def test_a_clock_that_is_minutes_off_fails(minutes, state):
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    assert verdict("clock", get_caller_identity=identity(ROLE, at)) == state


@pytest.mark.parametrize(("minutes", "state"), [(60, "OK"), (10, "FAIL"), (-1, "FAIL"), (None, "UNKNOWN")])
def test_credentials_must_outlive_a_token(minutes, state):
    expiry = None if minutes is None else datetime.now(UTC) + timedelta(minutes=minutes)
    assert verdict("credentials", expiry=expiry) == state


def test_the_callers_region_must_be_the_databases():
    assert verdict("region") == "OK"
    assert verdict("region", region="eu-central-1") == "FAIL"


def test_throttled_logins_fail():
    assert verdict("rate", get_metric_statistics={"Datapoints": []}) == "OK"
    assert verdict("rate", get_metric_statistics={"Datapoints": [{"Sum": 3.0}]}) == "FAIL"


def test_a_check_that_is_not_permitted_is_unknown_and_never_ok():
    case = LoginCase(replace(DATABASE, port=1), "app", Aws(), KEYS, None, "eu-west-1")
    states = {row.check: row.state for row in diagnose(case)}
    assert list(states)[:5] == ["database", "name", "port", "TLS", "IAM authentication"]
    assert {check for check, state in states.items() if state == "UNKNOWN"} >= {"resource id", "proxy", "rate"}
    assert states["port"] == "FAIL"
    assert len(states) == 19


# --- tokens ---


def token(at: datetime = NOW, keys: Credentials = KEYS) -> str:
    return TokenSigner(keys, "eu-west-1").token("db.x.eu-west-1.rds.amazonaws.com", 5432, "my app", at)


def test_a_tokens_user_endpoint_and_expiry_are_read():
    facts = read_token(token())
    assert (facts.user, facts.host, facts.port) == ("my app", "db.x.eu-west-1.rds.amazonaws.com", 5432)
    assert (facts.region, facts.access_key, facts.temporary) == ("eu-west-1", "AKIDEXAMPLE", True)
    assert facts.expires - facts.signed == timedelta(minutes=15)
    assert facts.length == len(token())


def test_the_command_reads_a_token_and_never_shows_it():
    text = token(datetime.now(UTC))  # the tests may have been read long ago
    done = CliRunner().invoke(app, ["doctor", "--token", "-"], input=text + "\n")
    assert done.exit_code == 0
    assert "my app" in done.output
    assert "pgbouncer (160)" in done.output
    signature = text.rpartition("=")[2]
    assert signature not in done.output
    assert "the-session-token" not in done.output
    old = CliRunner().invoke(app, ["doctor", "--token", "-"], input=token(NOW - timedelta(minutes=16)))
    assert old.exit_code == 3
    assert "has expired" in old.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no login token"),
        ("hunter2", "no login token"),
        (token()[:256], "cut off"),
        (token()[:-1], "cut off"),
        (token().replace("%", "%25"), "twice"),
        (token().replace("rds-db", "s3"), "rds-db"),
        (token().replace("connect", "drop"), "not connect"),
    ],
)
def test_a_wrong_token_is_explained_without_showing_it(text, says):
    with pytest.raises(InvalidRequest, match=says) as caught:
        read_token(text)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text())
def test_no_text_breaks_the_reader(text):
    with pytest.raises(InvalidRequest) as caught:
        read_token(text + "/?Action=connect&X-Amz-Signature=" + "0" * 64)
    assert len(text) < 4 or text not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [[], ["orders"], ["orders", "app", "--token", "-"], ["--error", "x", "--token", "-"]]
)
def test_two_questions_at_once_are_wrong_usage(arguments):
    assert CliRunner().invoke(app, ["doctor", *arguments]).exit_code == 2


def test_an_explanation_can_be_json():
    done = CliRunner().invoke(app, ["doctor", "--error", "1524", "--output", "json"])
    assert json.loads(done.stdout)[0]["fixes"]
