"""Logins: the master's secret is parsed as hostile input, and never shown."""

import json
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.engines.authorities import connect_as
from rdsiam.engines.connection import ASKS_FOR_PASSWORD
from rdsiam.engines.logins import Logins, Token
from rdsiam.errors import ConnectionFailed, Refused, Stage
from tests.unit.databases import ORDERS

DATABASE = replace(ORDERS, master_secret_arn="arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-1")


def logins(content: object) -> Logins:
    secrets_manager = SimpleNamespace(get_secret_value=lambda **_: {"SecretString": content})
    return Logins(SecretsManager(secrets_manager), sts=None, proof_role="")


def test_the_masters_login_has_what_rds_wrote_and_hides_its_password():
    login = logins('{"username": "boss", "password": "canary"}').master(DATABASE)
    assert (login.user, login.secret) == ("boss", "canary")
    assert "canary" not in repr(login)
    assert login.method == "scram-sha-256,md5", "never in clear text"


@pytest.mark.parametrize(
    "content",
    [
        "canary",
        '"canary"',
        "[]",
        "{}",
        '{"password": "canary"}',
        '{"username": "canary"}',
        '{"username": "boss", "password": ["canary"]}',
        '{"username": "boss", "username": "other", "password": "canary"}',
        "null",
        None,
    ],
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
        logins("").master(replace(DATABASE, master_secret_arn=None, iam_enabled=False))


@pytest.mark.parametrize(
    "database",
    [
        ORDERS,
        replace(ORDERS, master_user="ops admin", resource_id="db-TWO"),
        replace(
            ORDERS,
            kind="cluster",
            resource_id="cluster-X",
            master_secret_arn=None,
            iam_enabled=True,
            master_user="postgres",
            express=True,
        ),
    ],
    ids=["instance", "another name", "express cluster"],
)
def test_without_a_secret_the_master_gets_a_token_that_is_signed_for_nobody_else(database):
    asked = []
    credentials = {"AccessKeyId": "ASIA", "SecretAccessKey": "k", "SessionToken": "s"}

    def assume_role(**request: str) -> dict[str, object]:
        asked.append(request)
        return {"Credentials": {**credentials, "Expiration": datetime.now(UTC)}}

    login = Logins(None, SimpleNamespace(assume_role=assume_role), "arn:aws:iam::123456789012:role/Proof").master(
        database
    )
    assert isinstance(login, Token)
    assert login.user == database.master_user
    assert f"DBUser={quote(database.master_user)}" in login.secret
    (request,) = asked
    statement = {"Effect": "Allow", "Action": "rds-db:connect", "Resource": database.connect_arn(database.master_user)}
    assert json.loads(request["Policy"])["Statement"] == [statement]


class Server:
    """An engine whose server answers a login as master with one error; the manager can't log in."""

    def __init__(self, problem: str, code: str | None = None, stage: Stage = "login") -> None:
        self.error = ConnectionFailed("h", 5432, stage, problem, code)
        self.secrets: list[str] = []

    def connect(self, _: object, login: Token, __: object) -> None:
        self.secrets.append(login.secret)
        raise self.error


def refusing(problem: str, code: str | None = None, stage: Stage = "login") -> Any:
    return Server(problem, code, stage)


class OnlyTokens(Logins):
    def __init__(self) -> None:
        self.databases: list[Database] = []

    def proof(self, database, user):
        self.databases.append(database)
        return Token(user, "canary")


IAM_DATABASE = replace(ORDERS, master_secret_arn=None, iam_enabled=True)
SASL = 'authentication method requirement "password" failed: server requested SASL authentication'
PAM = 'FATAL: PAM authentication failed for user "boss"'


@pytest.mark.parametrize("database", [IAM_DATABASE, replace(IAM_DATABASE, kind="cluster")], ids=["instance", "cluster"])
def test_a_server_that_asks_for_the_masters_password_is_refused_with_the_command(database):
    with pytest.raises(
        Refused, match=f"run: aws rds modify-db-{database.kind} .* --manage-master-user-password"
    ) as error:
        connect_as("master", refusing(SASL, ASKS_FOR_PASSWORD), OnlyTokens(), database, None)
    assert error.value.code == "master-secret"
    assert "canary" not in str(error.value)


def test_no_advice_makes_an_iam_master_a_user_with_a_password():
    with pytest.raises(Refused, match="ProofRole") as error:
        connect_as("master", refusing(PAM), OnlyTokens(), IAM_DATABASE, None)
    assert error.value.code == "master-token"
    assert IAM_DATABASE.connect_arn(IAM_DATABASE.master_user) in error.value.remedy
    assert "manage-master-user-password" not in str(error.value)


def test_an_answer_that_does_not_tell_which_master_it_is_gives_advice_for_both():
    with pytest.raises(Refused, match=r"only if it has a password, run: .*--manage-master-user-password") as error:
        connect_as("master", refusing("Access denied for user 'boss'", "1045"), OnlyTokens(), IAM_DATABASE, None)
    assert error.value.code == "master-token"


@pytest.mark.parametrize(
    ("problem", "code", "stage"),
    [
        ("connection refused", None, "port"),
        ("certificate verify failed", None, "tls"),
        ("sorry, too many clients already", "53300", "login"),
        ("FATAL: the database system is starting up", None, "login"),
    ],
    ids=["port", "tls", "connections", "starting"],
)
def test_a_login_that_failed_for_another_reason_is_no_refusal_but_tried_again(problem, code, stage):
    with pytest.raises(ConnectionFailed):
        connect_as("master", refusing(problem, code, stage), OnlyTokens(), IAM_DATABASE, None)


def test_the_master_of_a_read_replica_gets_a_token_for_the_replica_and_advice_for_its_source():
    replica = replace(IAM_DATABASE, identifier="copy", resource_id="db-COPY", replica_of="orders")
    logins = OnlyTokens()
    with pytest.raises(Refused, match="modify-db-instance --db-instance-identifier orders "):
        connect_as("master", refusing(SASL, ASKS_FOR_PASSWORD), logins, replica, None, IAM_DATABASE)
    (signed_for,) = logins.databases
    assert (signed_for.endpoint, signed_for.resource_id) == (replica.endpoint, "db-COPY")


def test_a_replica_that_takes_no_tokens_is_named_and_no_password_is_advised():
    replica = replace(IAM_DATABASE, identifier="copy", resource_id="db-COPY", replica_of="orders", iam_enabled=False)
    with pytest.raises(Refused, match="identifier copy --enable-iam-database-authentication") as error:
        connect_as("master", refusing(SASL, ASKS_FOR_PASSWORD), OnlyTokens(), replica, None, IAM_DATABASE)
    assert "manage-master-user-password" not in str(error.value)


def test_the_masters_secret_is_used_if_there_is_one_whatever_else_the_server_takes():
    server = refusing(SASL, ASKS_FOR_PASSWORD)
    with pytest.raises(ConnectionFailed):
        connect_as("master", server, logins('{"username": "boss", "password": "x"}'), DATABASE, None)
    assert server.secrets == ["x"]
