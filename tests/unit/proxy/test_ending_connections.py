"""The end of open connections: a drain of the proxy, and cuts of users whose access has ended."""

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rdsiam.proxy import server as server_module
from rdsiam.proxy.contracts import Listener, UpstreamFailed
from rdsiam.proxy.settings import Settings
from tests.unit.proxy.peers import run
from tests.unit.proxy.stubs import LOCAL, Site, StubUpstream


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
            assert (await reader.read()).startswith(b"error: shutting-down: ")
            for each in (busy.writer, writer):
                each.close()

    run(main)


def test_a_client_that_reads_nothing_does_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(server_module, "_LAST_BYTES", 0.1)

    async def main():
        async with Site(Settings((Listener("orders", host=LOCAL, port=0),), drain_timeout=0)) as site:
            client = await site.client()
            transport: Any = client.writer.transport
            transport.pause_reading()
            client.writer.write(b"x" * 2**24)
            (connection,) = site.server.listening[0].service.connections
            while not connection.client.transport.get_write_buffer_size():
                await asyncio.sleep(0.01)
            async with asyncio.timeout(10):
                assert await site.server.drain() is False
            client.writer.transport.abort()

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


def test_cutting_needs_an_api():
    async def main():
        site = Site(Settings((Listener("orders", host=LOCAL, port=0),), cut=True))
        site.upstream.knows_access = False
        with pytest.raises(UpstreamFailed, match="can't be known"):
            async with site:
                pass
        assert site.server.listening == []

    run(main)
