"""Requests to SecretsFunction; errors about hostile input name the field and show no value."""

import pytest

from rdsiam.errors import InvalidRequest
from rdsiam.events.secrets import SecretsRequest, secrets_request

ARN = "arn:aws:rds:eu-west-1:123456789012:db:orders"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:orders/etl-AbCdEf"


@pytest.mark.parametrize(
    ("event", "request_"),
    [
        ({"database": ARN}, SecretsRequest("apply", ARN)),
        (
            {"database": ARN, "user": "etl", "plan": True, "confirm": True},
            SecretsRequest("apply", ARN, "etl", plan=True, confirm=True),
        ),
        ({"database": ARN, "withdraw": True}, SecretsRequest("apply", ARN, withdraw=True)),
        ({"list": True}, SecretsRequest("list")),
        ({"list": True, "databases": [ARN + "2", ARN, ARN]}, SecretsRequest("list", databases=(ARN, ARN + "2"))),
        ({"show": SECRET}, SecretsRequest("show", secret=SECRET)),
        ({"rotate": SECRET, "reason": "TICKET-12"}, SecretsRequest("rotate", secret=SECRET, reason="TICKET-12")),
        ({"unstick": SECRET, "plan": True}, SecretsRequest("unstick", secret=SECRET, plan=True)),
        ({"sessions": SECRET}, SecretsRequest("sessions", secret=SECRET)),
    ],
    ids=str,
)
def test_good_requests_are_read(event, request_):
    assert secrets_request(event) == request_


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (None, "event"),
        ([], "event"),
        ({}, "database"),
        ({"database": "orders"}, "database"),
        ({"database": ARN, "confirm": "yes"}, "confirm"),
        ({"database": ARN, "user": ""}, "user"),
        ({"database": ARN, "user": "a\nb"}, "user"),
        ({"database": ARN, "user": 7}, "user"),
        ({"database": ARN, "reason": "x"}, "reason"),
        ({"database": ARN, "withdraw": False}, "withdraw"),
        ({"database": ARN, "withdraw": True, "confirm": True}, "confirm"),
        ({"list": False}, "list"),
        ({"list": True, "databases": []}, "databases"),
        ({"list": True, "databases": ["canary"]}, "databases"),
        ({"list": True, "plan": True}, "plan"),
        ({"show": ARN}, "show"),
        ({"rotate": SECRET, "reason": "a\x1b[2Jb"}, "reason"),
        ({"rotate": SECRET, "reason": "x" * 501}, "reason"),
        ({"rotate": SECRET, "plan": True}, "plan"),
        ({"unstick": None}, "unstick"),
        ({"sessions": SECRET, "show": SECRET}, "sessions"),
        ({"hunter2 secret": 1, "database": ARN}, "event"),
    ],
    ids=str,
)
def test_bad_requests_name_the_field_and_no_value(event, field):
    with pytest.raises(InvalidRequest) as caught:
        secrets_request(event)
    assert caught.value.field == field
    assert "canary" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
