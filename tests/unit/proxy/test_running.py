"""A run of the proxy: signals, health, and the way it ends."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

import pytest

from rdsiam.errors import ProxySettingsInvalid
from rdsiam.proxy import health, sockets
from rdsiam.proxy.contracts import Listener, UpstreamFailed
from rdsiam.proxy.running import End, run
from rdsiam.proxy.settings import Settings
from tests.unit.proxy import peers
from tests.unit.proxy.stubs import LOCAL, Site, StubUpstream

LISTENER = Listener("orders", host=LOCAL, port=0)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def running(
    act: Callable[[Site], Coroutine[Any, Any, None]],
    settings: Settings | None = None,
    load: Callable[[], Settings | None] = lambda: None,
    make: Callable[[Listener], StubUpstream] | None = None,
) -> End:
    """Run a proxy, act once it listens, and return its end."""

    async def main() -> End:
        site = Site(settings or Settings((LISTENER,), drain_timeout=60), make)
        started = asyncio.Event()
        async with site.echo():
            end = asyncio.ensure_future(run(site.server, load, started.set))
            first = asyncio.ensure_future(started.wait())
            await asyncio.wait([end, first], return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                return end.result()
            acting = asyncio.ensure_future(act(site))
            await asyncio.gather(end, acting)
            return end.result()

    return peers.run(main)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_proxy_without_connections_at_once(number, caplog):
    async def act(site: Site) -> None:
        send(number)

    caplog.set_level("INFO", "rdsiam.proxy")
    assert running(act) is End.COMPLETE
    assert "shutting down" in caplog.messages


def test_systemd_learns_each_state(monkeypatch, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        async def state() -> bytes:
            return await asyncio.get_running_loop().sock_recv(systemd, 100)

        async def act(site: Site) -> None:
            assert await state() == b"READY=1"
            send(signal.SIGHUP)
            assert [await state(), await state()] == [b"RELOADING=1", b"READY=1"]
            send(signal.SIGTERM)
            assert await state() == b"STOPPING=1"

        assert running(act, load=lambda: Settings((LISTENER,))) is End.COMPLETE


def test_a_busy_connection_may_finish():
    async def act(site: Site) -> None:
        client = await site.client()
        await client.ask("a statement in work")
        send(signal.SIGTERM)
        while not site.server.draining:
            await asyncio.sleep(0)
        assert await client.ask("its end.") == "its end."
        assert (await client.reader.readline()).startswith(b"error: shutting-down: ")
        client.close()

    assert running(act) is End.COMPLETE


def test_the_time_limit_ends_what_is_left(caplog):
    caplog.set_level("INFO", "rdsiam.proxy")

    async def act(site: Site) -> None:
        client = await site.client()
        await client.ask("a statement in work")
        send(signal.SIGTERM)
        assert (await client.reader.readline()).startswith(b"error: shutting-down: ")
        client.close()

    assert running(act, Settings((LISTENER,), drain_timeout=0)) is End.CUT
    assert "shutting down; a second signal ends open connections at once" in caplog.messages


def test_an_error_that_nothing_caught_is_logged_without_its_text(caplog):
    def fail() -> None:
        raise ValueError("hunter2")

    async def act(site: Site) -> None:
        asyncio.get_running_loop().call_soon(fail)
        send(signal.SIGTERM)

    assert running(act) is End.COMPLETE
    (record,) = [record for record in caplog.records if record.getMessage() == "unexpected error"]
    assert (record.name, record.error) == ("rdsiam.proxy.running", "ValueError")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_everything_at_once(second):
    async def act(site: Site) -> None:
        client = await site.client()
        await client.ask("a statement in work")
        send(signal.SIGTERM)
        while not site.server.draining:
            await asyncio.sleep(0)
        send(signal.SIGHUP)
        send(second)
        assert await client.reader.read() == b""
        client.close()

    assert running(act) is End.AT_ONCE


def test_a_signal_during_the_start_ends_it():
    async def main() -> None:
        site = Site(Settings((LISTENER,)))
        site.upstream.hangs = True
        async with site.echo():
            end = asyncio.ensure_future(run(site.server, lambda: None, lambda: None))
            while not site.upstream.looked_up:
                await asyncio.sleep(0)
            send(signal.SIGTERM)
            assert await end is End.AT_ONCE
            assert site.server.listening == []

    peers.run(main)


def test_a_signal_does_not_wait_for_a_login_that_waits_for_its_token():
    answers = []

    async def act(site: Site) -> None:
        site.upstream.stuck.add("slow")
        waiting = asyncio.ensure_future(site.client("slow"))
        while "slow" not in site.upstream.asked:
            await asyncio.sleep(0.001)
        send(signal.SIGTERM)
        client = await waiting
        answers.append(client.answer)
        client.close()

    began = time.monotonic()
    assert running(act) is End.COMPLETE
    assert time.monotonic() - began < 5, "drain_timeout is a minute"
    assert answers == ["error: shutting-down: rdsiam proxy is shutting down; connect again"]


def test_an_error_at_the_start_is_raised_and_leaves_nothing():
    async def main() -> None:
        site = Site(Settings((LISTENER,), health_port=0))
        site.upstream.failing[""] = UpstreamFailed("no such database", "not-found")
        with pytest.raises(UpstreamFailed, match="no such database"):
            await run(site.server, lambda: None, lambda: None)

    peers.run(main)


def test_a_new_configuration_is_read_and_a_wrong_one_is_logged(caplog):
    configurations: list[Settings | Exception] = []

    def load() -> Settings:
        result = configurations.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    async def act(site: Site) -> None:
        first = site.port
        configurations.append(ProxySettingsInvalid(["line 1: prot: unknown"], "proxy.toml"))
        configurations.append(Settings((Listener("other", host=LOCAL, port=0),)))
        send(signal.SIGHUP)
        while len(configurations) > 1:
            await asyncio.sleep(0)
        client = await site.client(port=first)
        assert client.answer == "ok"
        send(signal.SIGHUP)
        while site.server.listening[0].listener.database != "other":
            await asyncio.sleep(0)
        assert await client.ask("still here") == "still here"
        other = await site.client()
        assert other.answer == "ok"
        for each in (client, other):
            each.close()
        send(signal.SIGTERM)

    assert running(act, load=load) is End.COMPLETE
    assert any(record.__dict__.get("reason") == "proxy.toml: line 1: prot: unknown" for record in caplog.records)


def test_a_signal_ends_the_reading_of_a_configuration_that_hangs():
    async def act(site: Site) -> None:
        client = await site.client()
        site.upstream.hangs, site.upstream.looked_up = True, False
        send(signal.SIGHUP)
        while not site.upstream.looked_up:
            await asyncio.sleep(0)
        send(signal.SIGTERM)
        client.close()

    new = Settings((LISTENER, Listener("other", host=LOCAL, port=0)))
    assert running(act, load=lambda: new) is End.COMPLETE


def test_a_second_sighup_reads_the_configuration_once_more():
    reads: list[int] = []

    def load() -> Settings:
        reads.append(len(reads))
        return Settings((Listener(f"number-{len(reads)}", host=LOCAL, port=0),))

    async def act(site: Site) -> None:
        send(signal.SIGHUP)
        while not reads:
            await asyncio.sleep(0)
        send(signal.SIGHUP)
        while site.server.listening[0].listener.database != "number-2":
            await asyncio.sleep(0)
        send(signal.SIGTERM)

    assert running(act, load=load) is End.COMPLETE


def test_sighup_is_the_end_of_a_proxy_without_a_file():
    """Its terminal was closed: it would go on with the credentials of somebody who has left."""

    async def act(site: Site) -> None:
        send(signal.SIGHUP)

    assert running(act, load=lambda: None) is End.COMPLETE


async def get(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(LOCAL, port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def page(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_health_and_metrics_are_served_until_the_end():
    port = peers.free_port()

    async def act(site: Site) -> None:
        assert (await get(port, page("/healthz"))).startswith(b"HTTP/1.1 200 OK\r\n")
        assert (await get(port, page("/readyz"))).endswith(b"ready\n")
        client = await site.client()
        assert b'connections_open{listener="' in await get(port, page("/metrics?x=y"))
        await client.ask("a statement in work")
        send(signal.SIGTERM)
        while not site.server.draining:
            await asyncio.sleep(0)
        assert b"503 Service Unavailable" in (answer := await get(port, page("/readyz")))
        assert answer.endswith(b"draining\n")
        assert (await get(port, page("/healthz"))).startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"rdsiam_proxy_draining 1\n" in await get(port, page("/metrics"))
        client.close()

    assert running(act, Settings((LISTENER,), health_port=port, drain_timeout=60)) is End.COMPLETE


async def moved(site: Site, configuration: Settings, configurations: list[Settings]) -> None:
    """Let the proxy read another configuration."""
    configurations.append(configuration)
    send(signal.SIGHUP)
    while site.server.settings is not configuration and configurations:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("host", [LOCAL, "localhost"])
def test_a_new_configuration_moves_adds_and_takes_away_the_health_port(host):
    first, second = peers.free_port(), peers.free_port()
    configurations: list[Settings] = []

    async def act(site: Site) -> None:
        await moved(site, Settings((LISTENER,), health_host=host, health_port=second), configurations)
        assert (await get(second, page("/readyz"))).endswith(b"ready\n")
        with pytest.raises(ConnectionRefusedError):
            await get(first, page("/readyz"))
        await moved(site, Settings((LISTENER,)), configurations)
        with pytest.raises(ConnectionRefusedError):
            await get(second, page("/readyz"))
        await moved(site, Settings((LISTENER,), health_host="0.0.0.0", health_port=first), configurations)  # noqa: S104
        await moved(site, Settings((LISTENER,), health_port=first), configurations)
        assert (await get(first, page("/healthz"))).startswith(b"HTTP/1.1 200 OK\r\n")
        send(signal.SIGTERM)

    begin = Settings((LISTENER,), health_port=first)
    assert running(act, begin, load=lambda: configurations.pop()) is End.COMPLETE


@pytest.mark.parametrize("wide", [False, True], ids=["another port", "the same port"])
def test_the_health_port_stays_if_a_new_configuration_can_not_be_used(wide, caplog):
    port = peers.free_port()
    configurations: list[Settings] = []
    lost = StubUpstream(failing={"": UpstreamFailed("no such database", "not-found")})
    new = (LISTENER, Listener("lost", host=LOCAL, port=0))

    async def act(site: Site) -> None:
        other = {"health_host": "0.0.0.0", "health_port": port} if wide else {"health_port": peers.free_port()}  # noqa: S104
        configurations.append(Settings(new, **other))
        send(signal.SIGHUP)
        while not any("the old one stays" in message for message in caplog.messages):
            await asyncio.sleep(0.001)
        assert (await get(port, page("/readyz"))).endswith(b"ready\n")
        send(signal.SIGTERM)

    begin = Settings((LISTENER,), health_port=port)

    def make(listener: Listener) -> StubUpstream:
        return lost if listener.database == "lost" else StubUpstream()

    assert running(act, begin, load=lambda: configurations.pop(), make=make) is End.COMPLETE


def test_a_database_whose_token_can_not_be_had_is_not_ready():
    port = peers.free_port()

    async def act(site: Site) -> None:
        site.upstream.failing["app"] = UpstreamFailed("your credentials have expired", "expired-credentials")
        answer = await get(port, page("/readyz"))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b"orders: your credentials have expired [expired-credentials]\n")
        send(signal.SIGTERM)

    listener = Listener("orders", user="app", host=LOCAL, port=0)
    assert running(act, Settings((listener,), health_port=port)) is End.COMPLETE


def test_a_database_that_is_missing_is_not_ready():
    port = peers.free_port()
    lost = StubUpstream(failing={"": UpstreamFailed("no such database", "not-found")})

    async def act(site: Site) -> None:
        answer = await get(port, page("/readyz"))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b"\r\n\r\nlost: no such database [not-found]\n")
        send(signal.SIGTERM)

    settings = Settings((LISTENER, Listener("lost", host=LOCAL, port=0)), health_port=port)
    assert running(act, settings, make=lambda listener: lost if listener.database == "lost" else StubUpstream()) is (
        End.COMPLETE
    )


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (page("/"), b"404"),
        (page("/metrics/../healthz"), b"404"),
        (b"POST /healthz HTTP/1.1\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /healthz\r\n\r\n", b"400"),
        (b"GET  /healthz HTTP/1.1\r\n\r\n", b"400"),
        (b"HEAD /healthz HTTP/1.0\r\n\r\n", b"200"),
        (b"\xff\xfe \xff HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", b""),
        (b"\r\n\r\n", b"400"),
    ],
    ids=lambda value: value[:20].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_other_requests_get_an_error(request_, status):
    port = peers.free_port()

    async def act(site: Site) -> None:
        try:
            answer = await get(port, request_)
        except ConnectionResetError:
            answer = b""  # bytes of a request that is too long were not read
        assert answer.split(b" ")[1:2] == ([status] if status else [])
        assert not request_.startswith(b"HEAD") or answer.endswith(b"\r\n\r\n")
        send(signal.SIGTERM)

    assert running(act, Settings((LISTENER,), health_port=port)) is End.COMPLETE


def test_clients_of_the_health_port_that_say_nothing_keep_no_probe_out():
    async def act(site: Site) -> None:
        silent = [await asyncio.open_connection(LOCAL, port) for _ in range(120)]
        assert (await get(port, page("/healthz"))).startswith(b"HTTP/1.1 200 OK\r\n")
        assert await silent[0][0].read() == b""
        for _, writer in silent:
            writer.close()
        send(signal.SIGTERM)

    port = peers.free_port()
    assert running(act, Settings((LISTENER,), health_port=port)) is End.COMPLETE


def test_a_client_of_the_health_port_that_reads_nothing_is_ended(monkeypatch):
    monkeypatch.setattr(health, "_SECONDS", 0.2)

    async def large() -> health.Answer:
        return health.Answer(HTTPStatus.OK, "x" * 20_000_000)

    async def main() -> None:
        (listening,) = sockets.bind(LOCAL, 0, None)
        pages = health.serve(listening, {"/large": large})
        reader, writer = await asyncio.open_connection(*listening.getsockname(), limit=1000)
        writer.write(page("/large"))
        await asyncio.sleep(0.5)
        answer = await asyncio.wait_for(reader.read(-1), 5)  # what the system held for it
        assert len(answer) < 20_000_000
        writer.close()
        pages.close()

    peers.run(main)
