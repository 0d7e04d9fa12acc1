"""Answers of Secrets Manager, read as rotation needs them: two secrets in one request."""

import json
from typing import Any

import pytest

from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.aws.secrets.errors import SecretDenied
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.errors import InvalidRequest, Refused

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"
MASTER = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:boss-AbCdEf"
CURRENT = {"engine": "postgres", "host": "one.example", "username": "app", "password": "canary-of-app"}
BOSS = {"username": "boss", "password": "canary-of-boss"}


class Client:
    """Answers one request, in the order that it likes."""

    def __init__(self, values: dict[str, Any], errors: dict[str, str] | None = None) -> None:
        self._values = values
        self._errors = errors or {}

    def batch_get_secret_value(self, **asked: Any) -> dict[str, Any]:
        assert set(asked) == {"SecretIdList"}
        values = [{"ARN": arn, "SecretString": json.dumps(value)} for arn, value in self._values.items()]
        errors = [{"SecretId": arn, "ErrorCode": code, "Message": "no"} for arn, code in self._errors.items()]
        return {"SecretValues": values[::-1], "Errors": errors}


def store(client: Client) -> SecretStore:
    return SecretStore(SecretsManager(client))


def test_a_secret_and_its_administrators_secret_are_read_in_one_request():
    current, master = store(Client({ARN: CURRENT, MASTER: BOSS})).current_and_master(ARN, MASTER)
    assert (current.user, current.password) == ("app", "canary-of-app")
    assert (master.user, master.password) == ("boss", "canary-of-boss")


def test_the_administrator_is_the_secret_of_just_that_arn():
    another = Client({ARN: CURRENT, MASTER[:-6] + "GhIjKl": BOSS})
    with pytest.raises(Refused, match="does not exist or has no value"):
        store(another).current_and_master(ARN, MASTER)


def test_a_secret_without_a_current_value_is_refused():
    client = Client({MASTER: BOSS}, {ARN: "ResourceNotFoundException"})
    with pytest.raises(Refused, match="no AWSCURRENT version"):
        store(client).current_and_master(ARN, MASTER)


@pytest.mark.parametrize(
    ("client", "error", "cause"),
    [
        (Client({ARN: CURRENT}, {MASTER: "ResourceNotFoundException"}), Refused, "does not exist or has no value"),
        (Client({ARN: CURRENT}, {MASTER: "InvalidRequestException"}), Refused, "does not exist or has no value"),
        (Client({ARN: CURRENT}, {MASTER: "AccessDeniedException"}), SecretDenied, f"{MASTER}.*AccessDenied"),
        (Client({ARN: CURRENT, MASTER: {"username": "boss"}}), InvalidRequest, f"{MASTER}: password"),
        (Client({ARN: {}, MASTER: BOSS}), InvalidRequest, f"{ARN} AWSCURRENT: engine"),
    ],
    ids=["missing", "deleted", "denied", "not an administrator's", "not a user's"],
)
def test_errors_name_the_right_secret_and_no_value(client, error, cause):
    with pytest.raises(error, match=cause) as raised:
        store(client).current_and_master(ARN, MASTER)
    assert "canary" not in str(raised.value)
