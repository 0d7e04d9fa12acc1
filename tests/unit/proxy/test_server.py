"""The proxy over real sockets, with stubs of the engine and the database: limits, changes while it runs, the end."""

import asyncio
import fcntl
import logging
import os
import resource
import socket
import stat
import struct
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rdsiam.errors import ListenFailed, ProxySettingsInvalid
from rdsiam.proxy import server as server_module
from rdsiam.proxy.contracts import Listener, UpstreamFailed
from rdsiam.proxy.settings import Settings
from rdsiam.proxy.sockets import allow
from tests.unit.proxy.peers import run
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


def test_a_unix_socket_is_its_owners_and_goes_with_the_proxy(tmp_path):
    path = tmp_path / ".s.PGSQL.5432"

    async def main():
        async with Site(Settings((Listener("orders", socket=path),))) as site:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            client = await site.client(path=path)
            assert await client.ask("hello") == "hello"
            client.close()

    run(main)
    assert not path.exists()


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


def test_a_drain_tells_idle_clients_and_waits_for_busy_ones():
    async def main():
        async with Site() as site:
            idle, busy = await site.client(), await site.client()
            await idle.ask("done.")
            await busy.ask("a statement in work")
            draining = asyncio.ensure_future(site.server.drain())
            assert (await idle.reader.readline()).startswith(b"error: shutting-down: ")
            assert await idle.reader.read() == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(LOCAL, site.port)
            assert await busy.ask("its next part") == "its next part"
            assert not draining.done()
            assert await busy.ask("its end.") == "its end."
            assert (await busy.reader.readline()).startswith(b"error: shutting-down: ")
            assert await draining is True
            for client in (idle, busy):
                client.close()

    run(main)


def test_a_drain_ends_what_is_left_at_its_limit(monkeypatch):
    monkeypatch.setattr(server_module, "_LOOK", 0.01)

    async def main():
        async with Site(Settings((Listener("orders", host=LOCAL, port=0),), drain_timeout=0.02)) as site:
            site.upstream.stuck.add("stuck")
            busy = await site.client()
            await busy.ask("a statement in work")
            reader, writer = await asyncio.open_connection(LOCAL, site.port)
            writer.write(b"stuck\n")
            while "stuck" not in site.upstream.asked:
                await asyncio.sleep(0)
            assert await site.server.drain() is False
            assert (await busy.reader.readline()).startswith(b"error: shutting-down: ")
            assert await reader.read() == b""
            for each in (busy.writer, writer):
                each.close()

    run(main)


def test_connections_of_users_whose_access_has_ended_are_cut():
    async def main():
        async with Site() as site:
            bob, eve = await site.client("bob"), await site.client("eve")
            site.upstream.over["bob"] = "bob is revoked"
            await site.server.listening[0].service.cut()
            assert (await bob.reader.readline()) == b"error: access-ended: the connection was cut: bob is revoked\n"
            assert await bob.reader.read() == b""
            assert await eve.ask("here") == "here"
            for client in (bob, eve):
                client.close()

    run(main)


class DeafSite(Site):
    """A proxy whose database reads nothing."""

    @asynccontextmanager
    async def echo(self):
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            listening.bind((LOCAL, 0))
            listening.listen()
            self.upstream.port = listening.getsockname()[1]
            yield


async def gone(site: Site, user: str) -> None:
    """Let a client leave, while bytes of it wait for the database."""
    client = await site.client(user)
    upstream = site.upstream.peers[-1].transport
    while upstream.get_write_buffer_size() < 50_000:
        client.writer.write(b"x" * 20_000)
        await asyncio.sleep(0.001)
    reset = struct.pack("ii", 1, 0)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    client.close()
    await asyncio.sleep(0.05)
    assert site.server.listening[0].service.connections


def test_a_client_that_has_gone_keeps_no_other_from_being_cut():
    async def main():
        async with DeafSite() as site:
            await gone(site, "bob")
            alice = await site.client("alice")
            site.upstream.over |= {"bob": "bob is revoked", "alice": "alice is revoked"}
            site.server.settings = site.with_settings(cut=True, cut_interval=0.01)
            cutting = asyncio.ensure_future(site.server.cut_ended())
            assert b"alice is revoked" in await asyncio.wait_for(alice.reader.readline(), 5)
            assert not cutting.done()
            cutting.cancel()
            alice.close()

    run(main)


def test_a_client_that_has_gone_keeps_no_other_from_being_told_of_the_end():
    async def main():
        async with DeafSite(Settings((Listener("orders", host=LOCAL, port=0),), drain_timeout=0.02)) as site:
            await gone(site, "bob")
            alice = await site.client("alice")
            assert await site.server.drain() is False
            assert (await alice.reader.readline()).startswith(b"error: shutting-down: ")
            alice.close()

    run(main)


def test_an_error_at_one_database_keeps_no_other_from_being_cut(caplog):
    class Broken(StubUpstream):
        async def ended(self, users):
            if users:
                raise RuntimeError("bytes")
            return {}

    async def main():
        broken, sound = Broken(), StubUpstream()
        listeners = (Listener("broken", host=LOCAL, port=0), Listener("sound", host=LOCAL, port=0))
        async with Site(Settings(listeners), lambda each: broken if each.database == "broken" else sound) as site:
            broken.port = sound.port = site.upstream.port
            first = await site.client("bob")
            second = await site.client("bob", site.server.listening[1].listener.port or 0)
            sound.over["bob"] = "bob is revoked"
            site.server.settings = site.with_settings(cut=True, cut_interval=0.01)
            cutting = asyncio.ensure_future(site.server.cut_ended())
            assert b"bob is revoked" in await asyncio.wait_for(second.reader.readline(), 5)
            cutting.cancel()
            for client in (first, second):
                client.close()

    run(main)
    assert "connections can't be cut" in caplog.text


def test_access_is_asked_for_from_time_to_time_if_it_is_to_be_cut():
    async def main():
        async with Site() as site:
            bob, alice = await site.client("bob"), await site.client("alice")
            site.server.settings = site.with_settings(cut_interval=0.01)
            cutting = asyncio.ensure_future(site.server.cut_ended())
            site.upstream.over["bob"] = "bob is revoked"
            await asyncio.sleep(0.1)
            assert await bob.ask("still here") == "still here"
            site.server.settings = site.with_settings(cut=True)
            ended = await bob.reader.readline()
            site.upstream.over["alice"] = "alice's entry is gone"
            also = await alice.reader.readline()
            cutting.cancel()
            for client in (bob, alice):
                client.close()
            return ended.decode(), also.decode()

    ended, also = run(main)
    assert "bob is revoked" in ended
    assert "alice's entry is gone" in also


def test_an_unexpected_error_does_not_end_cutting(monkeypatch, caplog):
    async def main():
        async with Site() as site:
            bob = await site.client("bob")
            ended, failures = site.upstream.ended, [RuntimeError("unexpected")]

            async def fail_once(users):
                if failures:
                    raise failures.pop()
                return await ended(users)

            monkeypatch.setattr(site.upstream, "ended", fail_once)
            site.upstream.over["bob"] = "bob is revoked"
            site.server.settings = site.with_settings(cut=True, cut_interval=0.01)
            cutting = asyncio.ensure_future(site.server.cut_ended())
            answer = await bob.reader.readline()
            cutting.cancel()
            bob.close()
            return answer.decode()

    assert "bob is revoked" in run(main)
    assert [record.__dict__.get("error") for record in caplog.records if record.levelname == "ERROR"] == [
        "RuntimeError"
    ]


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


def test_cutting_needs_an_api():
    async def main():
        site = Site(Settings((Listener("orders", host=LOCAL, port=0),), cut=True))
        site.upstream.knows_access = False
        with pytest.raises(UpstreamFailed, match="can't be known"):
            async with site:
                pass
        assert site.server.listening == []

    run(main)


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


@pytest.mark.parametrize(
    ("limits", "raised", "warned"),
    [((256, 4096), 1400, False), ((4096, 4096), None, False), ((256, 1000), 1000, True), ((-1, -1), None, False)],
)
def test_the_limit_of_open_files_is_raised_as_far_as_needed(monkeypatch, caplog, limits, raised, warned):
    changes = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: changes.append(new))
    allow(500)
    assert changes == ([(raised, limits[1])] if raised else [])
    assert ("too low for max_connections" in caplog.text) is warned


def test_a_stale_unix_socket_is_replaced_and_one_in_use_is_not(tmp_path):
    path = tmp_path / ".s.PGSQL.5432"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def main():
        async with Site(Settings((Listener("orders", socket=path),))) as site:
            with pytest.raises(ListenFailed, match="another program listens there"):
                async with Site(Settings((Listener("orders", socket=path),))):
                    pass
            client = await site.client(path=path)
            assert client.answer == "ok"
            client.close()

    run(main)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / ".s.PGSQL.5432"
    path.write_text("precious")

    async def main():
        with pytest.raises(ListenFailed, match="exists and is no socket"):
            async with Site(Settings((Listener("orders", socket=path),))):
                pass

    run(main)
    assert path.read_text() == "precious"


def test_whoever_locks_the_folder_of_a_unix_socket_stops_neither_start_nor_end(tmp_path, caplog):
    """Everyone can who may read it."""
    path = tmp_path / ".s.PGSQL.5432"
    site = Site(Settings((Listener("orders", socket=path),)))
    folder = os.open(tmp_path, os.O_RDONLY)

    async def main():
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(ListenFailed, match="is locked by another program"):
            async with site:
                pass
        fcntl.flock(folder, fcntl.LOCK_UN)
        async with site:
            fcntl.flock(folder, fcntl.LOCK_EX)
            assert await site.server.drain() is True

    run(main)
    os.close(folder)
    assert path.exists()
    assert "can't be removed" in caplog.text


@pytest.mark.parametrize("instead", ["nothing", "a file", "no folder"])
def test_a_proxy_ends_well_whatever_became_of_its_unix_socket(tmp_path, instead):
    path = tmp_path / "folder" / ".s.PGSQL.5432"
    path.parent.mkdir()

    async def main():
        async with Site(Settings((Listener("orders", socket=path),))) as site:
            path.unlink()
            if instead == "a file":
                path.write_text("precious")
            elif instead == "no folder":
                path.parent.rmdir()
            assert await site.server.drain() is True

    run(main)
    assert path.exists() is (instead == "a file")


@pytest.mark.parametrize("made", [True, False])
def test_a_path_that_is_too_long_for_a_unix_socket_says_so(tmp_path, made):
    folder = tmp_path / ("a" * 100)
    if made:
        folder.mkdir()

    async def main():
        with pytest.raises(ListenFailed, match=r"too long for a unix socket: .*; choose a shorter path"):
            async with Site(Settings((Listener("orders", socket=folder / ".s.PGSQL.5432"),))):
                pass

    run(main)


@pytest.mark.parametrize("name", ["proxy.sock", ".s.PGSQL.", ".s.PGSQL.0", ".s.PGSQL.5432.lock", "s.PGSQL.5432"])
def test_a_socket_that_clients_of_postgresql_can_not_name_is_refused(tmp_path, name):
    async def main():
        with pytest.raises(ProxySettingsInvalid, match="find no socket of that name"):
            async with Site(Settings((Listener("orders", socket=tmp_path / name),))):
                pass

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
