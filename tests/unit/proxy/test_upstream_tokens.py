"""Tokens from the API: over a real socket, throttled, slow, denied, hostile; and the users whose access has ended."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from rdsiam.command import proxy_sources
from rdsiam.command.aws import Aws
from rdsiam.command.proxy_sources import LastingInstallation, source
from rdsiam.proxy import network
from rdsiam.proxy.contracts import Listener, UpstreamFailed
from rdsiam.proxy.network import Trust
from rdsiam.proxy.upstream import DatabaseUpstream, Limits, Workers
from tests.unit.proxy.api_stub import ARN, ENDPOINT, HOST, LISTED, TOKEN, Answer, ApiStub, gateway, problem, served
from tests.unit.proxy.peers import free_port

LIMITS = Limits(token=2)


@pytest.fixture
def api(monkeypatch, tmp_path) -> Iterator[ApiStub]:
    with served() as stub:
        for name, value in {
            "HOME": str(tmp_path), "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret", "RDSIAM_API_URL": stub.url, "NO_PROXY": "*",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        role = "arn:aws:sts::123456789012:assumed-role/app/session"
        sts = SimpleNamespace(get_caller_identity=lambda: {"Arn": role})
        monkeypatch.setattr(Aws, "client", lambda *_, **__: sts)
        monkeypatch.chdir(tmp_path)
        yield stub


@dataclass(frozen=True)
class Proxy:
    """Makes upstreams of an API, and uses them in an event loop."""

    limits: Limits = LIMITS

    def use(
        self,
        ask: Callable[[DatabaseUpstream], Awaitable[Any]],
        database: str = "orders",
        reason: str | None = None,
        endpoint: str | None = None,
        user: str | None = None,
    ) -> Any:
        installation = LastingInstallation({}, None, None)

        async def used(workers: Workers) -> Any:
            listener = Listener(database, endpoint, user)
            tokens, access = source(installation, listener, local=False, reason=reason)
            return await ask(DatabaseUpstream(tokens, access, workers, self.limits, Trust()))

        with ThreadPoolExecutor(4) as calls, ThreadPoolExecutor(1) as names:
            return asyncio.run(used(Workers(calls, names)))


@pytest.fixture
def proxy(api) -> Proxy:
    return Proxy()


def refusal(proxy: Proxy, ask: Callable[[DatabaseUpstream], Awaitable[Any]], **options: Any) -> UpstreamFailed:
    with pytest.raises(UpstreamFailed) as caught:
        proxy.use(ask, **options)
    text = str(caught.value)
    assert text.isprintable(), text
    assert len(text) <= 500
    return caught.value


def test_engine_and_users_come_from_the_list_without_a_token(api, proxy):
    async def ask(upstream):
        return await upstream.engine(), await upstream.users()

    assert proxy.use(ask) == ("postgres", {"app"})
    assert api.requests == ["/databases"]


@pytest.mark.parametrize("name", ["orders", "ORDERS", ARN, HOST])
def test_a_database_is_named_as_for_every_command(api, proxy, name):
    assert proxy.use(lambda upstream: upstream.token("app"), database=name).text == "token-of-app"


CLUSTER = "arn:aws:rds:eu-west-1:123456789012:cluster:shop"
MEMBER = HOST.replace("orders.", "shop-1.")
SHOP = {
    "identifier": "shop",
    "arn": CLUSTER,
    "engine": "aurora-postgresql",
    "users": ["app"],
    "host": HOST.replace("orders.", "shop.cluster-"),
    "port": 5432,
    "endpoints": [{"name": "shop-1", "kind": "instance", "host": MEMBER, "port": 5432}],
}


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("Shop-1", None),
        ("Shop", "Shop-1"),
        (CLUSTER.replace("shop", "Shop"), "SHOP-1"),
        (CLUSTER.replace("cluster:shop", "db:Shop-1"), None),
        (MEMBER.title(), None),
    ],
)
def test_names_may_be_in_mixed_case(api, proxy, name, endpoint):
    api.answers["/databases"] = [Answer(body={"databases": [LISTED, SHOP]})]
    api.answers["/tokens"] = [Answer(body={**TOKEN, "host": MEMBER, "database": CLUSTER})]
    token = proxy.use(lambda upstream: upstream.token("app"), database=name, endpoint=endpoint)
    assert (token.host, api.bodies[0]["database"]) == (MEMBER, CLUSTER)


def test_each_connection_gets_a_token_of_its_own_over_kept_connections(api, proxy):
    api.answers["/tokens"] = [Answer(body={**TOKEN, "token": f"token-{number}"}) for number in range(20)]

    async def ask(upstream):
        return [(await upstream.token("app")).text for _ in range(20)]

    assert proxy.use(ask) == [f"token-{number}" for number in range(20)]
    assert api.connections <= 4
    assert {(body["database"], body["user"]) for body in api.bodies} == {(ARN, "app")}


def test_the_reason_goes_with_every_request(api, proxy):
    proxy.use(lambda upstream: upstream.token("app"), reason="TICKET-12")
    assert api.bodies[0]["reason"] == "TICKET-12"


@pytest.mark.parametrize(
    "busy",
    [gateway(429, "Too Many Requests"), gateway(500, "Internal Server Error"), gateway(503, "Service Unavailable"),
     gateway(502, "Bad Gateway"), problem("unavailable", "access.yaml can't be read"), Answer(504, b"<html>")],
    ids=["429", "500", "503", "502", "unavailable", "html"],
)  # fmt: skip
def test_a_throttled_call_is_repeated(api, proxy, busy):
    api.answers["/tokens"] = [busy, busy, Answer(body=TOKEN)]
    assert proxy.use(lambda upstream: upstream.token("app")).text == "token-of-app"
    assert api.count("/tokens") == 3


def test_a_throttled_start_is_repeated(api, proxy):
    api.answers["/databases"] = [gateway(429, "Too Many Requests"), Answer(body={"databases": [LISTED]})]
    assert proxy.use(lambda upstream: upstream.engine()) == "postgres"


def test_repetition_ends_in_time(api, proxy):
    api.answers["/tokens"] = [gateway(429, "Too Many Requests")]
    began = time.monotonic()
    error = refusal(proxy, lambda upstream: upstream.token("app"))
    assert time.monotonic() - began < LIMITS.token + 1
    assert "Too Many Requests" in str(error)
    assert 2 <= api.count("/tokens") <= 10


def test_a_slow_api_is_given_up(api):
    api.answers["/tokens"] = [Answer(body=TOKEN, delay=1.5)]
    error = refusal(Proxy(replace(LIMITS, token=0.5)), lambda upstream: upstream.token("app"))
    assert error.code == "no-answer"


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (problem("not-allowed", "access.yaml gives this caller no login"), "not-allowed", "rdsiam ls"),
        (problem("user-revoked", "an operator has revoked this user"), "user-revoked", "operator"),
        (problem("reason-required", "access.yaml requires a reason"), "reason-required", "--reason"),
        (problem("signs-itself", "access.yaml lets your role sign"), "signs-itself", "--local"),
        (gateway(403, "Forbidden"), "denied", "execute-api:Invoke"),
        (gateway(403, "The security token included in the request is expired"), "expired-credentials", "aws sso login"),
    ],
    ids=["not-allowed", "user-revoked", "reason-required", "signs-itself", "gateway", "expired"],
)
def test_a_denial_is_final_and_says_what_to_do(api, proxy, answer, code, says):
    api.answers["/tokens"] = [answer]
    error = refusal(proxy, lambda upstream: upstream.token("app"))
    assert (error.code, says in str(error)) == (code, True), str(error)
    assert api.count("/tokens") == 1
    assert ARN not in str(error)


def test_an_unknown_database_is_refused_at_the_start(api, proxy):
    error = refusal(proxy, lambda upstream: upstream.engine(), database="order")
    assert error.code == "not-found"
    assert "did you mean orders?" in str(error)


READER = {"name": "reader", "kind": "reader", "host": f"ro-{HOST}", "port": 5432}


@pytest.mark.parametrize("listener", [{"endpoint": "reader"}, {"database": f"ro-{HOST}"}])
def test_each_token_is_for_the_endpoint_of_the_listener(api, proxy, listener):
    api.answers["/databases"] = [Answer(body={"databases": [{**LISTED, "endpoints": [ENDPOINT, READER]}]})]
    api.answers["/tokens"] = [Answer(body={**TOKEN, "host": READER["host"]})]
    assert proxy.use(lambda upstream: upstream.token("app"), **listener).host == READER["host"]
    assert [body["endpoint"] for body in api.bodies] == [next(iter(listener.values()))]
    assert api.count("/databases") == 1


def test_an_unknown_endpoint_is_refused_at_the_start_with_those_that_exist(api, proxy):
    error = refusal(proxy, lambda upstream: upstream.engine(), endpoint="reader")
    assert (error.code, "has one endpoint, writer; the read replicas" in str(error)) == ("no-such-endpoint", True)
    cluster = {
        **LISTED,
        "arn": ARN.replace(":db:", ":cluster:"),
        "endpoints": [ENDPOINT, {**READER, "name": "reports"}],
    }
    api.answers["/databases"] = [Answer(body={"databases": [cluster]})]
    error = refusal(proxy, lambda upstream: upstream.engine(), endpoint="nothing")
    assert (error.code, "it has writer and reports" in str(error)) == ("no-such-endpoint", True)


@pytest.mark.parametrize("endpoint", ["reader", "writer"])
@pytest.mark.parametrize("host", [HOST, f"ro-{HOST}"])
def test_an_endpoint_that_is_named_twice_is_refused(proxy, host, endpoint):
    error = refusal(proxy, lambda upstream: upstream.engine(), database=host, endpoint=endpoint)
    assert (error.code, "names an endpoint" in str(error)) == ("usage", True)


@pytest.mark.parametrize(("endpoint", "host"), [(None, f"two-{HOST}"), ("writer", HOST), ("WRITER", HOST)])
def test_a_member_stands_for_its_own_endpoint_unless_another_is_named(api, proxy, endpoint, host):
    member = {"name": "two", "kind": "instance", "host": f"two-{HOST}", "port": 5432}
    listed = {**LISTED, "arn": ARN.replace(":db:", ":cluster:"), "endpoints": [ENDPOINT, member]}
    api.answers["/databases"] = [Answer(body={"databases": [listed]})]
    api.answers["/tokens"] = [Answer(body={**TOKEN, "host": host, "database": listed["arn"]})]
    assert proxy.use(lambda upstream: upstream.token("app"), database="two", endpoint=endpoint).host == host


@pytest.mark.parametrize("code", ["not-allowed", "user-revoked", "reason-required", "signs-itself"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_user_of_all_clients_that_gets_no_token_is_refused_at_the_start(api, proxy, code, listed):
    api.answers["/databases"] = [Answer(body={"databases": [LISTED] if listed else []})]
    api.answers["/tokens"] = [problem(code, "no")]
    assert refusal(proxy, lambda upstream: upstream.engine(), user="app").code == code


def test_a_user_of_all_clients_is_tried_once_at_the_start(api, proxy):
    assert proxy.use(lambda upstream: upstream.engine(), user="app") == "postgres"
    assert [body["user"] for body in api.bodies] == ["app"]


@pytest.mark.parametrize("field", ["host", "port"])
def test_a_database_without_an_endpoint_is_refused_at_the_start(api, proxy, field):
    api.answers["/databases"] = [Answer(body={"databases": [{**LISTED, field: None, "endpoints": []}]})]
    assert "endpoint" in str(refusal(proxy, lambda upstream: upstream.engine()))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"garbage", b"[" * 100_000, b'{"token": 1}', b"\xff\xfe\x00", json.dumps({**TOKEN, "port": 0}).encode(),
        json.dumps({**TOKEN, "token": "a\nb"}).encode(), json.dumps({**TOKEN, "host": "x\x1b[31m"}).encode(),
        json.dumps({**TOKEN, "user": "other\r\nuser"}).encode(),
        json.dumps({**TOKEN, "database": "x" * 100_000}).encode(),
        b"x" * 5_000_000,
    ],
    ids=["empty", "garbage", "brackets", "number", "bytes", "port", "line", "escape", "user", "huge field", "huge"],
)  # fmt: skip
def test_an_answer_that_is_none_gives_no_token_and_a_clean_sentence(api, proxy, body):
    api.answers["/tokens"] = [Answer(body=body)]
    refusal(proxy, lambda upstream: upstream.token("app"))


@pytest.mark.parametrize(
    "text", ["a\x1b[31mred", "line\nbreak\r\n", "\u202egnp.exe", "x" * 100_000, "rdsadmin:X-Amz-Signature=abc123", "\0"]
)
def test_hostile_texts_of_an_answer_become_harmless(api, proxy, text):
    api.answers["/tokens"] = [Answer(403, {"code": "not-allowed", "detail": text, "hint": text, "request_id": text})]
    error = refusal(proxy, lambda upstream: upstream.token("app"))
    assert "abc123" not in str(error)


def test_a_changed_endpoint_is_used_for_the_next_connection(api, proxy):
    moved = HOST.replace("orders", "orders-new")
    api.answers["/tokens"] = [Answer(body={**TOKEN, "host": moved})]

    async def ask(upstream):
        with pytest.raises(UpstreamFailed) as caught:
            await upstream.token("app")
        return caught.value.code, (await upstream.token("app")).host

    assert proxy.use(ask) == ("endpoint-changed", moved)


@pytest.fixture
def port(monkeypatch) -> Iterator[int]:
    """Provide the port of a database, whatever its name."""
    monkeypatch.setattr(network, "_resolve", lambda _, port: [("127.0.0.1", port)])
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def listed_at(port: int) -> Answer:
    return Answer(body={"databases": [{**LISTED, "port": port}]})


@pytest.mark.parametrize("user", [None, "app"])
def test_an_endpoint_that_has_moved_is_found_although_the_old_one_does_not_answer(api, proxy, port, user):
    """Its port was changed, and nothing but a token tells."""
    old = free_port()
    api.answers["/databases"] = [listed_at(old)]
    api.answers["/tokens"] = [Answer(body={**TOKEN, "port": old}), Answer(body={**TOKEN, "port": port})]

    async def ask(upstream):
        if user is None:
            await upstream.token("app")
        peer = await upstream.connect()
        peer.abort()
        return upstream.address_of(peer), (await upstream.token("app")).port

    assert proxy.use(ask, user=user) == (("127.0.0.1", port), port)


@pytest.mark.parametrize(
    ("later", "code"),
    [
        (None, "port"),
        (gateway(500, "Internal Server Error"), "port"),
        (Answer(body={"databases": [{**LISTED, "engine": "mysql", "port": 1}]}), "port"),
        (Answer(body={"databases": []}), "not-found"),
    ],
    ids=["the same", "no answer", "another engine", "gone"],
)
def test_an_endpoint_that_can_not_be_reached_is_looked_up_from_time_to_time(api, port, monkeypatch, later, code):
    monkeypatch.setattr(proxy_sources, "_LIST_SECONDS", 0)
    first = listed_at(free_port())
    api.answers["/databases"] = [first, later or first]
    codes = []

    async def ask(upstream):
        for _ in range(3):
            with pytest.raises(UpstreamFailed) as caught:
                await upstream.connect()
            codes.append(caught.value.code)

    Proxy(replace(LIMITS, token=0.5)).use(ask)
    assert codes == [code, "port", "port"]
    assert api.count("/databases") == 2 or (later is not None and later.status == 500)
    assert api.count("/tokens") == 0


def ended(proxy: Proxy, *users: str) -> dict[str, str]:
    return dict(proxy.use(lambda upstream: upstream.ended(users)))


def test_listed_users_have_access(api, proxy):
    assert ended(proxy, "app") == {}
    assert api.requests == ["/databases"]


def test_without_connections_nothing_is_asked(api, proxy):
    assert ended(proxy) == {}
    assert api.requests == []


@pytest.mark.parametrize("code", ["not-allowed", "user-revoked"])
def test_access_ends_if_the_api_denies_the_login(api, proxy, code):
    api.answers["/databases"] = [Answer(body={"databases": [{**LISTED, "users": ["other"]}]})]
    api.answers["/tokens"] = [problem(code, "no")]
    assert list(ended(proxy, "app", "other")) == ["app"]
    assert [body["user"] for body in api.bodies] == ["app"]


@pytest.mark.parametrize(
    "answer",
    [Answer(body=TOKEN), problem("reason-required"), problem("signs-itself"), problem("unavailable"),
     gateway(403, "Forbidden"), gateway(429, "Too Many Requests"), gateway(500, "no"), Answer(200, b"garbage"),
     problem("malformed"), Answer(403, {"code": "not allowed"}), Answer(302, b"")],
    ids=["allowed", "reason", "signs", "unavailable", "gateway", "429", "500", "garbage", "malformed", "odd", "moved"],
)  # fmt: skip
def test_an_api_that_does_not_deny_the_login_ends_nothing(api, proxy, answer):
    api.answers["/databases"] = [Answer(body={"databases": [{**LISTED, "users": ["other"]}]})]
    api.answers["/tokens"] = [answer]
    assert ended(proxy, "app") == {}


@pytest.mark.parametrize("answer", [gateway(500, "no"), gateway(403, "Forbidden"), Answer(200, b"garbage")])
def test_an_api_without_a_list_ends_nothing(api, proxy, answer):
    api.answers["/databases"] = [answer]
    api.answers["/tokens"] = [problem("not-allowed")]
    assert ended(proxy, "app") == {}
    assert api.count("/tokens") == 0


def test_access_to_a_database_that_left_the_list_has_ended(api, proxy, monkeypatch):
    monkeypatch.setattr(proxy_sources, "_LIST_SECONDS", 0)

    async def ask(upstream):
        await upstream.engine()
        api.answers["/databases"] = [Answer(body={"databases": []})]
        api.answers["/tokens"] = [problem("not-allowed")]
        return await upstream.ended(["app"])

    assert list(proxy.use(ask)) == ["app"]
