"""The proxy over real sockets, with stubs of the engine and the database: logins, limits, changes while it runs."""

import asyncio
import logging
import socket
from pathlib import Path

import pytest

from rdsiam.errors import ListenFailed
from rdsiam.proxy import server as server_module
from rdsiam.proxy.contracts import Listener, UpstreamFailed
from rdsiam.proxy.settings import Settings
from tests.unit.proxy.peers import certificate, run
from tests.unit.proxy.stubs import LOCAL, Site, StubUpstream


def ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


def metric(site: Site, name: str) -> list[str]:
    text = site.server.metrics.text(site.server.samples())
    return [line for line in text.splitlines() if line.startswith(f"rdsiam_proxy_{name}")]


async def none_open(site: Site) -> None:
    """Wait until no connection is left."""
    for listening in site.server.listening:
        await listening.service.finished()


def test_a_client_is_logged_in_and_its_bytes_go_both_ways(caplog):
    caplog.set_level(logging.INFO, "rdsiam.proxy")

    async def main():
        async with Site() as site:
            client = await site.client("app")
            assert client.answer == "ok"
            assert await client.ask("hello") == "hello"
            assert metric(site, "connections_open")[0].endswith(" 1")
            assert metric(site, "sent_bytes_total")[0].endswith(" 6")
            client.close()
            await none_open(site)
            assert metric(site, "connections_open")[0].endswith(" 0")
            assert metric(site, "sent_bytes_total")[0].endswith(" 6")
            assert metric(site, "connections_total")[0].endswith('code="ok"} 1')
            assert metric(site, "open_seconds_count")[0].endswith(" 1")

    run(main)
    assert [record.message for record in caplog.records] == ["connection opened", "connection closed"]
    assert caplog.records[-1].__dict__["sent"] == caplog.records[-1].__dict__["received"] == 6


def test_localhost_is_both_loopback_addresses():
    async def main():
        async with Site(Settings((Listener("orders", port=0),))) as site:
            for host in ("127.0.0.1", "::1") if ipv6() else ("127.0.0.1",):
                reader, writer = await asyncio.open_connection(host, site.port)
                writer.write(b"app\n")
                assert await reader.readline() == b"ok\n"
                writer.close()

    run(main)


def test_an_error_of_the_upstream_reaches_the_client_and_the_counts(caplog):
    async def main():
        async with Site() as site:
            site.upstream.failing["bob"] = UpstreamFailed("bob may not log in", "not-allowed")
            client = await site.client("bob")
            assert client.answer == "error: not-allowed: bob may not log in"
            assert await client.reader.read() == b""
            await none_open(site)
            await asyncio.gather(*(peer.closed() for peer in site.upstream.peers))
            assert 'code="not-allowed"} 1' in metric(site, "errors_total")[0]
            client.close()

    run(main)
    assert caplog.records[-1].__dict__["reason"] == "bob may not log in"


@pytest.mark.parametrize(
    ("sent", "code"), [(b"", "closed-early"), (b"ap", "closed-early"), (b"crash\n", "unexpected")], ids=str
)
def test_a_login_that_does_not_end_well_leaves_nothing_open(sent, code):
    async def main():
        async with Site() as site:
            reader, writer = await asyncio.open_connection(LOCAL, site.port)
            writer.write(sent)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await none_open(site)
            assert site.server.open == 0
            assert f'code="{code}"}} 1' in metric(site, "connections_total")[0]

    run(main)


def test_a_login_that_takes_too_long_is_told_and_ended():
    async def main():
        async with Site(Settings((Listener("orders", host=LOCAL, port=0),), login_timeout=0.05)) as site:
            site.upstream.stuck.add("app")
            client = await site.client("app")
            assert client.answer.startswith("error: login-timeout: the login took longer than 0.05 s")
            assert await client.reader.read() == b""
            await asyncio.gather(*(peer.closed() for peer in site.upstream.peers))
            client.close()

    run(main)


def test_connections_beyond_the_limit_are_told_and_room_is_given_again():
    async def main():
        async with Site(Settings((Listener("orders", host=LOCAL, port=0),), max_connections=2)) as site:
            clients = [await site.client() for _ in range(2)]
            refused = [await site.client() for _ in range(3)]
            assert {client.answer.split(":")[1] for client in refused} == {" too-many-connections"}
            assert site.upstream.asked == ["app", "app"]
            assert await clients[0].ask("still here") == "still here"
            for client in [clients[0], *refused]:
                assert await client.reader.read() == b"" if client in refused else True
                client.close()
            await asyncio.wait(list(site.server.listening[0].service._tasks), return_when=asyncio.FIRST_COMPLETED)
            while site.server.open > 1:
                await asyncio.sleep(0)
            again = await site.client()
            assert again.answer == "ok"
            for client in (clients[1], again):
                client.close()

    run(main)


def test_a_request_to_cancel_opens_nothing_and_is_counted():
    async def main():
        async with Site() as site:
            client = await site.client("cancel")
            assert client.answer == ""
            await none_open(site)
            assert 'code="cancel-request"} 1' in metric(site, "connections_total")[0]
            await asyncio.gather(*(peer.closed() for peer in site.upstream.peers))
            client.close()

    run(main)


def test_settings_change_while_connections_stay(tmp_path):
    path = tmp_path / ".s.PGSQL.1"

    async def main():
        async with Site() as site:
            first = await site.client()
            old = site.port
            await site.server.change(
                site.with_settings(listeners=(Listener("orders", host=LOCAL, port=old), Listener("other", socket=path)))
            )
            second = await site.client(path=path)
            assert (site.port, second.answer) == (old, "ok")
            await site.server.change(site.with_settings(listeners=(Listener("other", socket=path),)))
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(LOCAL, old)
            assert await first.ask("first") == "first"
            assert await second.ask("second") == "second"
            assert len(metric(site, "connections_open")) == 2
            third = await site.client(path=path)
            assert third.answer == "ok"
            for client in (first, second, third):
                client.close()

    run(main)


def test_a_listener_that_changes_its_user_accepts_without_a_gap():
    """A client in the queue of the old listener is served by the new one."""

    async def main():
        async with Site() as site:
            port = site.port
            waiting = socket.create_connection((LOCAL, port))
            await site.server.change(
                site.with_settings(listeners=(Listener("orders", host=LOCAL, port=port, user="fixed"),))
            )
            waiting.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=waiting)
            writer.write(b"app\n")
            assert await reader.readline() == b"ok\n"
            writer.close()

    run(main)


@pytest.mark.parametrize(
    "hosts",
    [
        ("localhost", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        pytest.param(("localhost", "::1"), marks=pytest.mark.skipif(not ipv6(), reason="no ::1")),
    ],
)
def test_a_listener_may_change_its_address_and_keep_its_port(hosts):
    """Its own socket is no obstacle: a client in its queue is served by the new listener."""

    async def main():
        async with Site(Settings((Listener("orders", host=hosts[0], port=0),))) as site:
            port = site.port
            open_before = await site.client(port=port)
            new = Listener("orders", host=hosts[1], port=port)
            await site.server.change(site.with_settings(listeners=(new,)))
            expected = {"127.0.0.1", "::1"} if hosts[1] == "localhost" else {hosts[1]}
            for address in ("127.0.0.1", "::1"):
                try:
                    reader, writer = await asyncio.open_connection(address, port)
                except ConnectionRefusedError:
                    assert address not in expected
                    continue
                assert address in expected
                writer.write(b"app\n")
                assert await reader.readline() == b"ok\n"
                writer.close()
            assert await open_before.ask("here") == "here"
            open_before.close()

    run(main)


def test_an_address_that_includes_the_present_one_needs_a_restart(tmp_path):
    files = certificate(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("correct horse battery")
    secret.chmod(0o600)

    async def main():
        async with Site() as site:
            wide = Listener("orders", host="0.0.0.0", port=site.port)  # noqa: S104
            given = {"password_file": secret, "certificate": files.certificate, "key": files.key}
            with pytest.raises(ListenFailed, match=r"in use; this proxy listens there itself, .*: restart it"):
                await site.server.change(site.with_settings(listeners=(wide,), **given))
            client = await site.client()
            assert client.answer == "ok"
            client.close()

    run(main)


@pytest.mark.parametrize("cause", ["port", "database"])
def test_settings_that_can_not_be_used_change_nothing(cause):
    async def main():
        other = StubUpstream(failing={"": UpstreamFailed("no such database", "not-found")})
        with socket.create_server((LOCAL, 0)) as taken:
            new = Listener("new", host=LOCAL, port=taken.getsockname()[1] if cause == "port" else 0)
            good = StubUpstream()
            async with Site(make=lambda asked: other if asked == new and cause == "database" else good) as site:
                good.port = site.upstream.port
                before = site.server.listening
                with pytest.raises((ListenFailed, UpstreamFailed)):
                    await site.server.change(site.with_settings(listeners=(*site.server.settings.listeners, new)))
                assert site.server.listening == before
                client = await site.client()
                assert await client.ask("here") == "here"
                client.close()

    run(main)


LOST = UpstreamFailed("no such database", "not-found")


def two(lost: StubUpstream) -> Site:
    """Return a proxy of two databases, of which the second may be missing."""
    good, listeners = StubUpstream(), (Listener("good", host=LOCAL, port=0), Listener("lost", host=LOCAL, port=0))
    return Site(Settings(listeners), lambda listener: lost if listener.database == "lost" else good)


def databases(site: Site) -> list[str]:
    return [listening.listener.database for listening in site.server.listening]


def test_a_database_that_is_missing_at_the_start_is_served_once_it_is_found(monkeypatch, caplog):
    monkeypatch.setattr(server_module, "_FIND", 0.001)

    async def main():
        lost = StubUpstream(failing={"": LOST})
        async with two(lost) as site:
            assert databases(site) == ["good"]
            assert [listener.database for listener in site.server.missing] == ["lost"]
            finding = asyncio.ensure_future(site.server.find_missing())
            kept = site.server.listening[0].listener.port
            lost.looked_up = False
            while not lost.looked_up:
                await asyncio.sleep(0)
            assert databases(site) == ["good"]
            lost.failing.clear()
            while site.server.missing:
                await asyncio.sleep(0)
            assert databases(site) == ["good", "lost"]
            assert site.server.listening[0].listener.port == kept
            finding.cancel()

    run(main)
    assert [record.__dict__.get("reason") for record in caplog.records if record.levelname == "ERROR"] == [
        "no such database"
    ]


def test_a_database_may_stay_missing_when_the_settings_change():
    async def main():
        async with two(StubUpstream(failing={"": LOST})) as site:
            await site.server.change(site.with_settings(max_connections=5))
            assert (databases(site), len(site.server.missing)) == (["good"], 1)
            new = (*site.server.settings.listeners, Listener("lost", host=LOCAL, port=0, user="app"))
            with pytest.raises(UpstreamFailed, match="no such database"):
                await site.server.change(site.with_settings(listeners=new))
            await site.server.change(site.with_settings(listeners=site.server.settings.listeners[:1]))
            assert (databases(site), site.server.missing) == (["good"], {})

    run(main)


def test_a_start_without_any_database_fails():
    async def main():
        lost = StubUpstream(failing={"": LOST})
        listeners = (Listener("one", host=LOCAL, port=0), Listener("two", host=LOCAL, port=0))
        with pytest.raises(UpstreamFailed, match="no such database"):
            async with Site(Settings(listeners), lambda _: lost):
                pass

    run(main)


def test_an_unexpected_error_does_not_end_the_search_for_missing_databases(monkeypatch, caplog):
    monkeypatch.setattr(server_module, "_FIND", 0.001)

    async def main():
        lost = StubUpstream(failing={"": LOST})
        async with two(lost) as site:
            failures = [RuntimeError("unexpected")]

            async def fail_once():
                if failures:
                    raise failures.pop()
                return frozenset()

            monkeypatch.setattr(lost, "users", fail_once)
            lost.failing.clear()
            finding = asyncio.ensure_future(site.server.find_missing())
            while site.server.missing:
                await asyncio.sleep(0)
            finding.cancel()
            return databases(site)

    assert run(main) == ["good", "lost"]
    assert "RuntimeError" in [record.__dict__.get("error") for record in caplog.records]


def test_readiness_follows_the_tokens():
    async def main():
        async with Site() as site:
            service = site.server.listening[0].service
            assert await service.check() is None
            assert site.upstream.asked == []
            site.upstream.failing["bob"] = UpstreamFailed("expired", "expired-credentials")
            client = await site.client("bob")
            trouble = await service.check()
            assert (trouble and trouble.code) == "expired-credentials"
            client.close()
            client = await site.client("app")
            assert await service.check() is None
            client.close()

    run(main)


def test_probes_at_the_same_time_ask_for_one_token():
    async def main():
        async with Site(Settings((Listener("orders", user="app", host=LOCAL, port=0),))) as site:
            service = site.server.listening[0].service
            assert await asyncio.gather(*(service.check() for _ in range(5))) == [None] * 5
            assert site.upstream.asked == ["app"]
            assert await service.check() is None
            assert site.upstream.asked == ["app"]

    run(main)


def test_no_descriptor_is_left():
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def main():
        async with Site() as site:
            client = await site.client()
            client.close()
            await none_open(site)

    run(main)
    before = descriptors()
    run(main)
    assert descriptors() == before
