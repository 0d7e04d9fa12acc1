"""Secrets are read for whose they are, and never for what they hold."""

import json
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from rdsiam.aws.secrets.client import SecretsManager, Value
from rdsiam.aws.secrets.errors import SecretsManagerFailed
from rdsiam.aws.secrets.metadata import Secrets, _login

AT = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
CANARY = "canary-0f9d3c"


class Manager:
    """Secrets Manager, with answers as given."""

    def __init__(self, listed, values):
        self._listed, self._values = listed, values

    def get_paginator(self, name):
        assert name == "list_secrets"
        return self

    def paginate(self):
        return [{"SecretList": [one]} for one in self._listed]

    def get_secret_value(self, SecretId):  # noqa: N803
        value = self._values[SecretId]
        if isinstance(value, str):
            return {"SecretString": value}
        raise value


def secrets_of(client):
    return Secrets(SecretsManager(client), {"batch user"}.__contains__)


def refused(code):
    return ClientError({"Error": {"Code": code, "Message": CANARY}}, "GetSecretValue")


def listed(name, **more):
    return {"ARN": name, "Name": name, **more}


def login(**more):
    return json.dumps({"username": "app", "host": "h.example", "engine": "mysql", "password": CANARY} | more)


def test_user_and_database_of_a_secret_are_read_and_its_password_is_not():
    manager = Manager([listed("a")], {"a": login(dbInstanceIdentifier="carts")})
    (one,) = secrets_of(manager).list(AT)
    assert (one.username, one.host, one.engine, one.instance) == ("app", "h.example", "mysql", "carts")
    assert CANARY not in json.dumps(one.to_json())


def test_a_name_with_spaces_is_read_if_it_is_known():
    values = {name: login(username=name) for name in ("batch user", "tr0ub4dor and 3")}
    found = secrets_of(Manager([listed(name) for name in values], values)).list(AT)
    assert [one.username for one in found] == ["batch user", None]


KEYS = st.sampled_from(["username", "password", "host", "x"])
LEAVES = st.text() | st.none() | st.integers() | st.just(CANARY + " secret")


@given(st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=4)))
def test_only_known_keys_of_a_value_are_read(content):
    names = _login(Value("arn", None, json.dumps(content)), {"batch user"}.__contains__)
    assert set(names) <= {"username", "host"}
    assert CANARY not in json.dumps(names)


@pytest.mark.parametrize("text", ["", "no JSON " + CANARY, "[1]", '"x"', "[" * 100_000, '{"password": "x"}', "{}"])
def test_secrets_without_a_login_are_left_out_and_their_text_is_not_logged(text, caplog):
    secrets = secrets_of(Manager([listed("a")], {"a": text}))
    assert list(secrets.list(AT)) == []
    assert secrets.skipped == 0
    assert CANARY not in caplog.text


def test_secrets_of_services_are_not_read():
    assert list(secrets_of(Manager([listed("a", OwningService="rds")], {})).list(AT)) == []


@pytest.mark.parametrize("code", ["AccessDeniedException", "DecryptionFailure", "ResourceNotFoundException"])
def test_unreadable_secrets_are_counted_and_the_others_are_read(code):
    secrets = secrets_of(Manager([listed("a"), listed("b")], {"a": refused(code), "b": login()}))
    assert [one.arn for one in secrets.list(AT)] == ["b"]
    assert secrets.skipped == 1


def test_a_failure_of_secrets_manager_is_raised():
    with pytest.raises(SecretsManagerFailed, match="InternalServiceError"):
        list(secrets_of(Manager([listed("a")], {"a": refused("InternalServiceError")})).list(AT))


@pytest.mark.parametrize(
    ("stages", "age", "stuck", "pending"),
    [
        ({"1": ["AWSCURRENT"], "2": ["AWSPENDING"]}, timedelta(hours=2), True, "2"),
        ({"1": ["AWSCURRENT"], "2": ["AWSPENDING"]}, timedelta(minutes=2), False, "2"),
        ({"1": ["AWSCURRENT", "AWSPENDING"]}, timedelta(hours=2), False, None),
        ({"1": ["AWSCURRENT"], "2": ["AWSPREVIOUS"]}, timedelta(hours=2), False, None),
        (None, timedelta(hours=2), False, None),
    ],
)
def test_a_rotation_whose_label_stays_is_stuck(stages, age, stuck, pending):
    about = listed("a", SecretVersionsToStages=stages, LastChangedDate=AT - age, RotationEnabled=True)
    (one,) = secrets_of(Manager([about], {"a": login()})).list(AT)
    assert (one.pending_stuck, one.pending_version) == (stuck, pending)


def test_answers_of_secrets_manager_are_read():
    with mock_aws():
        client = boto3.client("secretsmanager", region_name="eu-central-1", aws_access_key_id="a",
                              aws_secret_access_key="b")  # fmt: skip
        client.create_secret(Name="app", SecretString=login(), Tags=[{"Key": "team", "Value": "shop"}])
        (one,) = secrets_of(client).list(AT)
    assert (one.name, one.username, one.tags, one.pending_stuck) == ("app", "app", {"team": "shop"}, False)
    assert one.current_version


@pytest.mark.parametrize(
    ("host", "port", "instance", "matches"),
    [
        ("CARTS.example", None, None, True),
        ("carts.example.", None, None, True),
        ("carts.example", 3306, None, True),
        ("carts.example", "3306", None, True),
        ("carts.example", 3307, None, False),
        ("carts.example", "nonsense", None, True),
        ("carts.example.evil", None, None, False),
        ("cname.internal", 6033, "carts", True),
        (None, None, "arn:x:carts", True),
        (None, None, "other", False),
        (None, None, None, False),
    ],
)
def test_a_secret_belongs_to_the_database_that_it_names(host, port, instance, matches):
    named = {"host": host, "port": port, "dbInstanceIdentifier": instance}
    values = {key: value for key, value in named.items() if value}
    (one,) = secrets_of(Manager([listed("a")], {"a": json.dumps({"username": "app"} | values)})).list(AT)
    assert one.is_of("arn:x:carts", "carts", "carts.example", 3306) == matches
