"""Logins: the master's secret is parsed as hostile input, and never shown."""

import traceback
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rdsiam.engines.logins import Logins
from rdsiam.errors import Refused
from tests.unit.databases import ORDERS

DATABASE = replace(ORDERS, master_secret_arn="arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-1")


def logins(content: object) -> Logins:
    secrets_manager = SimpleNamespace(get_secret_value=lambda **_: {"SecretString": content})
    return Logins(secrets_manager, sts=None, proof_role="")


def test_the_masters_login_has_what_rds_wrote_and_hides_its_password():
    login = logins('{"username": "boss", "password": "canary"}').master(DATABASE)
    assert (login.user, login.secret) == ("boss", "canary")
    assert "canary" not in repr(login)
    assert login.method == "scram-sha-256,md5", "never in clear text"


@pytest.mark.parametrize(
    "content",
    ["canary", '"canary"', "[]", "{}", '{"password": "canary"}', '{"username": "canary"}', "null", None],
    ids=str,
)
def test_a_secret_of_another_shape_is_refused_and_not_shown(content):
    with pytest.raises(Refused, match="is not JSON with username and password") as refused:
        logins(content).master(DATABASE)
    error = refused.value
    assert error.__suppress_context__
    shown = str(error) + repr(error) + "".join(traceback.format_exception(error))
    assert "canary" not in shown


def test_a_master_password_that_rds_does_not_manage_is_refused_with_the_command():
    with pytest.raises(Refused, match="--manage-master-user-password"):
        logins("").master(replace(DATABASE, master_secret_arn=None))
