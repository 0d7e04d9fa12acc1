"""Entries of Django's DATABASES: which are a login, and how the others are refused."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from rdsiam.django.settings import login_of
from rdsiam.signer import Credentials

HOST = "orders.x.eu-west-1.rds.amazonaws.com"
ENTRY = {"HOST": HOST, "PORT": 5432, "USER": "app", "PASSWORD": "", "NAME": "shop", "OPTIONS": {}}


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    keys = Credentials("AKIDEXAMPLE", "secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys.secret_key)
    login_of.__globals__["_login"].cache_clear()


@pytest.mark.parametrize(
    ("changed", "environment", "region"),
    [
        ({}, {}, "eu-west-1"),
        ({}, {"AWS_REGION": "us-east-1"}, "eu-west-1"),
        ({"OPTIONS": {"region": "eu-north-1"}}, {"AWS_REGION": "us-east-1"}, "eu-north-1"),
        ({"HOST": "localhost"}, {"AWS_REGION": "us-east-1"}, "us-east-1"),
        ({"HOST": "localhost"}, {"AWS_DEFAULT_REGION": "us-east-2"}, "us-east-2"),
        ({"HOST": "db.internal", "PORT": "5432", "OPTIONS": {"region": "eu-north-1"}}, {}, "eu-north-1"),
    ],
)
def test_the_region_is_the_options_or_the_endpoints_or_the_environments(monkeypatch, changed, environment, region):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert f"%2F{region}%2Frds-db%2F" in login_of(ENTRY | changed).token()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"PASSWORD": "secret"}, "PASSWORD"),
        ({"OPTIONS": {"password": "secret"}}, "PASSWORD"),
        ({"OPTIONS": {"passwd": "secret"}}, "PASSWORD"),
        ({"HOST": ""}, "HOST"),
        ({"PORT": ""}, "PORT"),
        ({"USER": ""}, "USER"),
        ({"PORT": "five"}, "PORT must be a number"),
        ({"HOST": "/run/postgresql"}, 'OPTIONS\\["region"\\]'),
        ({"HOST": "db.internal"}, 'OPTIONS\\["region"\\]'),
    ],
)
def test_an_entry_that_is_no_login_is_refused(changed, says):
    with pytest.raises(ImproperlyConfigured, match=says) as caught:
        login_of(ENTRY | changed)
    assert "secret" not in str(caught.value)


def test_connections_to_a_database_share_the_login():
    assert login_of(ENTRY) is login_of(dict(ENTRY))
    assert login_of(ENTRY) is not login_of(ENTRY | {"USER": "other"})
