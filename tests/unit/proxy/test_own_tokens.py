"""Tokens that are signed with the caller's own credentials, and what ends access to them."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from rdsiam.command import proxy_sources
from rdsiam.command.aws import Aws
from rdsiam.command.errors import CredentialsExpired, Denied, NotFound, TryAgain
from rdsiam.command.proxy_sources import ApiTokens, LastingInstallation, OwnAccess, source
from rdsiam.proxy import network
from rdsiam.proxy.contracts import Listener, UpstreamFailed
from rdsiam.proxy.network import Trust
from rdsiam.proxy.upstream import DatabaseUpstream, Limits, Workers
from rdsiam.signer import Credentials
from rdsiam.tokens.parser import read_token
from tests.unit.proxy.api_stub import ARN, HOST, Answer, problem, served
from tests.unit.proxy.peers import free_port

ORDERS = SimpleNamespace(
    arn=ARN, identifier="orders", endpoint=(HOST, 5432), region="eu-west-1", family="postgres", host=HOST
)


@pytest.fixture
def chain(monkeypatch, tmp_path) -> SimpleNamespace:
    """Provide credentials and a description of the database."""
    for name, value in {"HOME": str(tmp_path), "AWS_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "RDSIAM_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    scripted = SimpleNamespace(key="AKIDONE", error=None, database=ORDERS, calls=0)

    def credentials(_: Aws) -> tuple[Credentials, None]:
        scripted.calls += 1
        if scripted.error is not None:
            raise scripted.error
        return Credentials(scripted.key, "secret"), None

    def describe(*_: object, **__: object) -> Any:
        if isinstance(scripted.database, Exception):
            raise scripted.database
        return scripted.database

    monkeypatch.setattr(Aws, "credentials", credentials)
    monkeypatch.setattr(proxy_sources, "describe_at", describe)

    def no_stack(*_: object) -> None:
        raise NotFound("no stack")

    monkeypatch.setattr(Aws, "outputs", no_stack)
    return scripted


def use(ask: Callable[[DatabaseUpstream], Awaitable[Any]], limits: Limits | None = None) -> Any:
    async def used(workers: Workers) -> Any:
        tokens, access = source(LastingInstallation({}, None, None), Listener("orders"), local=True, reason=None)
        return await ask(DatabaseUpstream(tokens, access, workers, limits or Limits(token=1), Trust()))

    with ThreadPoolExecutor(2) as calls, ThreadPoolExecutor(1) as names:
        return asyncio.run(used(Workers(calls, names)))


def test_tokens_are_signed_for_the_endpoint_without_a_call_for_each(chain):
    async def ask(upstream):
        return await upstream.engine(), await upstream.users(), [await upstream.token("app") for _ in range(50)]

    engine, users, tokens = use(ask)
    assert (engine, users) == ("postgres", frozenset())
    facts = read_token(tokens[0].text)
    assert (facts.host, facts.port, facts.user, facts.access_key) == (HOST, 5432, "app", "AKIDONE")
    assert chain.calls == 1


def test_an_endpoint_that_has_moved_is_described_again_once_the_old_one_does_not_answer(chain, monkeypatch):
    monkeypatch.setattr(network, "_resolve", lambda _, port: [("127.0.0.1", port)])
    chain.database = SimpleNamespace(**{**vars(ORDERS), "endpoint": (HOST, free_port())})

    async def ask(upstream):
        await upstream.engine()
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            chain.database = SimpleNamespace(**{**vars(ORDERS), "endpoint": (HOST, port)})
            (await upstream.connect()).abort()
            return port, read_token((await upstream.token("app")).text).port

    port, signed = use(ask)
    assert port == signed


def test_renewed_credentials_sign_the_next_token(chain, monkeypatch):
    async def ask(upstream):
        await upstream.token("app")
        chain.key = "AKIDTWO"
        upstream._source._installation.aws._last = None
        return await upstream.token("app")

    assert read_token(use(ask).text).access_key == "AKIDTWO"


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (CredentialsExpired("the SSO session has expired", "renew your credentials, e.g. aws sso login"),
         "expired-credentials", "aws sso login"),
        (Denied("no AWS credentials", "set AWS_PROFILE, or run aws sso login"), "denied", "AWS_PROFILE"),
        (TryAgain("STS does not answer"), "try-again", "STS"),
    ],
    ids=["expired", "none", "busy"],
)  # fmt: skip
def test_without_credentials_nothing_starts_and_the_sentence_says_why(chain, error, code, says):
    chain.error = error
    with pytest.raises(UpstreamFailed) as caught:
        use(lambda upstream: upstream.engine())
    assert (caught.value.code, says in str(caught.value)) == (code, True)


@pytest.mark.parametrize("error", [NotFound("no instance and no cluster is named orders"), Denied("not yours", "ask")])
def test_an_unknown_database_is_refused_at_the_start(chain, error):
    chain.database = error
    with pytest.raises(UpstreamFailed) as caught:
        use(lambda upstream: upstream.engine())
    assert caught.value.code == error.code


@pytest.mark.parametrize("user", ["*", "a?", "", "\ud800"])
def test_a_user_that_no_token_can_name_is_refused(chain, user):
    with pytest.raises(UpstreamFailed) as caught:
        use(lambda upstream: upstream.token(user))
    assert caught.value.code == "malformed"


def test_without_an_api_it_is_unknown_whether_access_has_ended(chain):
    with pytest.raises(UpstreamFailed) as caught:
        use(lambda upstream: upstream.ended(["app"]))
    assert caught.value.code == "no-api"
    assert "--api-url" in str(caught.value)


def test_with_an_api_a_login_that_it_knew_ends_though_it_lists_no_database(chain, monkeypatch):
    with served() as api:
        monkeypatch.setenv("RDSIAM_API_URL", api.url)
        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.setattr(Aws, "account", lambda _: None)
        api.answers["/databases"] = [Answer(body={"databases": []})]
        api.answers["/tokens"] = [problem("signs-itself"), problem("unavailable"), problem("user-revoked")]

        async def ask(upstream):
            await upstream.token("app")
            return [list(await upstream.ended(["app"])) for _ in range(3)]

        assert use(ask) == [[], [], ["app"]]
        assert {body["database"] for body in api.bodies} == {ARN}


def test_a_role_that_may_not_describe_reads_what_to_grant(chain):
    chain.database = Denied("DescribeDBClusters: AccessDenied User is not authorized")
    with pytest.raises(UpstreamFailed, match="grant rds:DescribeDBClusters"):
        use(lambda upstream: upstream.engine())


class Answers(ApiTokens):
    """Answers of the API about one's own logins."""

    def __init__(self, *answers: UpstreamFailed | None) -> None:
        self.answers = list(answers)

    def ended(self, user: str) -> UpstreamFailed | None:
        assert user == "app"
        answer = self.answers.pop(0)
        if answer is not None and answer.code == "unavailable":
            raise answer
        return answer


NOT_ALLOWED = UpstreamFailed("no entry", "not-allowed")
REVOKED = UpstreamFailed("an operator has revoked this user", "user-revoked")
UNAVAILABLE = UpstreamFailed("busy", "unavailable")


def ends(*answers: UpstreamFailed | None) -> list[bool | None]:
    """Return whether access has ended after each answer; None if there was no answer."""
    access = OwnAccess(Answers(*answers))
    result: list[bool | None] = []
    for _ in answers:
        try:
            result.append(access.ended("app") is not None)
        except UpstreamFailed:
            result.append(None)
    return result


def test_a_login_that_the_api_knew_ends_with_its_denial():
    assert ends(None, None, NOT_ALLOWED) == [False, False, True]


def test_a_login_that_the_api_never_knew_is_iams_and_does_not_end():
    assert ends(NOT_ALLOWED, NOT_ALLOWED) == [False, False]


def test_a_revoked_login_ends_even_if_that_is_the_first_answer():
    assert ends(REVOKED, REVOKED) == [True, True]


def test_an_api_without_an_answer_ends_no_login():
    assert ends(None, UNAVAILABLE, NOT_ALLOWED) == [False, None, True]
