"""Peers: exact reads during a login, TLS, and forwarding that loses nothing and holds little."""

import asyncio
import gc
import socket
import ssl
import weakref
from typing import cast

import pytest

from rdsiam.proxy import peer as peers_module
from rdsiam.proxy.peer import LIMIT, Peer, PeerClosed
from tests.unit.proxy.peers import contexts, pair, run, stream


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return contexts(tmp_path_factory.mktemp("tls"))


async def tls_pair(tls) -> tuple[Peer, Peer]:
    """Return a client's and a server's peer after their handshake."""
    here, there = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(Peer, sock=here)
    _, server = await loop.create_connection(Peer, sock=there)
    await asyncio.gather(client.start_tls(tls[0], "db.example"), server.start_tls(tls[1]))
    return client, server


async def bridge(tls) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Peer, Peer, Peer]:
    """Return the streams of a client, the proxy's two peers, and the server's peer behind TLS."""
    client, there = await pair()
    upstream, server = await tls_pair(tls)
    client.forward_to(upstream)
    upstream.forward_to(client, ends_other=True)
    return *await stream(there), client, upstream, server


def test_bytes_are_read_exactly_however_they_arrive():
    async def main():
        peer, there = await pair()
        there.send(b"abc")
        assert await peer.peek(2) == b"ab"
        assert await peer.read(1) == b"a"
        reading = asyncio.ensure_future(peer.read(4))
        await asyncio.sleep(0)
        there.send(b"defg")
        assert await reading == b"bcde"
        there.close()
        assert await peer.read(2) == b"fg"
        with pytest.raises(PeerClosed):
            await peer.read(1)
        peer.close()
        await peer.closed()

    run(main)


def test_a_read_of_more_than_the_limit_ends():
    async def main():
        peer, there = await pair()
        _, writer = await stream(there)
        writer.write(b"x" * (LIMIT * 3))
        assert len(await peer.read(LIMIT * 3)) == LIMIT * 3
        peer.abort()
        writer.close()

    run(main)


def test_a_flood_during_a_login_is_not_read_beyond_the_limit():
    async def main():
        peer, there = await pair()
        sent = 0
        while True:
            try:
                sent += there.send(b"x" * 65536)
            except BlockingIOError:
                if not peer.transport.is_reading():
                    break
            await asyncio.sleep(0)
        assert peer.buffered < 2 * LIMIT
        assert len(await peer.read(sent)) == sent
        peer.abort()
        there.close()

    run(main)


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 1_000_000])
def test_tls_carries_both_directions(tls, size):
    async def main():
        client, server = await tls_pair(tls)
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        client.write(data + b"!")
        assert await server.read(size + 1) == data + b"!"
        server.write(data + b"?")
        assert await client.read(size + 1) == data + b"?"
        client.close()
        with pytest.raises(PeerClosed):
            await server.read(1)
        server.close()
        await asyncio.gather(client.closed(), server.closed())

    run(main)


def test_a_certificate_with_another_name_is_refused(tls):
    async def main():
        here, there = socket.socketpair()
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(Peer, sock=here)
        _, server = await loop.create_connection(Peer, sock=there)
        answers = await asyncio.gather(
            client.start_tls(tls[0], "other.example"), server.start_tls(tls[1]), return_exceptions=True
        )
        client.abort()
        server.abort()
        assert isinstance(answers[0], ssl.SSLCertVerificationError)

    run(main)


def test_bytes_before_tls_belong_to_the_handshake(tls):
    async def main():
        peer, there = await pair()
        there.send(b"Q\0\0\0\rSELECT 1\0")
        await peer.peek(1)
        with pytest.raises(ssl.SSLError):
            await peer.start_tls(tls[1])
        assert peer.buffered == 0
        peer.abort()
        there.close()

    run(main)


def test_a_client_that_closes_during_the_handshake_is_noticed(tls):
    async def main():
        peer, there = await pair()
        there.close()
        with pytest.raises(PeerClosed):
            await peer.start_tls(tls[1])
        peer.abort()

    run(main)


def test_changed_tls_bytes_end_the_connection(tls):
    async def main():
        client, server = await tls_pair(tls)
        client.transport.write(b"\x17\x03\x03\0\x20" + b"x" * 32)
        await server.closed()
        client.abort()

    run(main)


def test_a_client_that_half_closes_still_gets_its_answer(tls):
    async def main():
        reader, writer, client, upstream, server = await bridge(tls)
        writer.write(b"query")
        writer.write_eof()
        assert await server.read(5) == b"query"
        with pytest.raises(PeerClosed):
            await server.read(1)
        server.write(b"answer" * 100_000)
        server.close()
        assert await reader.read() == b"answer" * 100_000
        await asyncio.gather(client.closed(), upstream.closed(), server.closed())
        writer.close()

    run(main)


def test_answers_that_cross_the_end_of_the_client_arrive(tls):
    async def main():
        reader, writer, client, upstream, server = await bridge(tls)
        server.write(b"a" * 50_000)
        writer.write_eof()
        server.write(b"b" * 50_000)
        with pytest.raises(PeerClosed):
            await server.read(1)
        server.write(b"c" * 50_000)
        server.close()
        assert await reader.read() == b"a" * 50_000 + b"b" * 50_000 + b"c" * 50_000
        await asyncio.gather(client.closed(), upstream.closed())
        writer.close()

    run(main)


def test_the_end_of_the_database_ends_the_client(tls):
    async def main():
        reader, writer, client, upstream, server = await bridge(tls)
        server.write(b"fatal")
        server.close()
        assert await reader.read() == b"fatal"
        await asyncio.gather(client.closed(), upstream.closed())
        writer.close()

    run(main)


@pytest.mark.parametrize("abort", [True, False], ids=["reset", "closed"])
def test_a_client_that_is_gone_ends_the_upstream(tls, abort):
    async def main():
        _, writer, client, upstream, server = await bridge(tls)
        if abort:
            client.abort()
        else:
            writer.close()
            with pytest.raises(PeerClosed):
                await server.read(1)
            server.close()
        await asyncio.gather(client.closed(), upstream.closed())
        server.abort()
        writer.close()

    run(main)


def test_the_memory_of_an_ended_connection_is_free_at_once(tls):
    """Collections of garbage come too seldom for TLS, whose memory they don't see."""

    async def main():
        _, writer, client, upstream, server = await bridge(tls)
        writer.close()
        server.close()
        await asyncio.gather(client.closed(), upstream.closed(), server.closed())
        return [weakref.ref(client), weakref.ref(upstream)]

    gc.collect()
    gc.disable()
    try:
        assert [each() for each in run(main)] == [None, None]
    finally:
        gc.enable()


def test_a_slow_client_holds_the_database_back_and_gets_everything(tls):
    async def main():
        reader, writer, client, upstream, server = await bridge(tls)
        transport = cast("asyncio.Transport", writer.transport)
        transport.pause_reading()
        chunk, sent = b"x" * 65536, 0
        while server._writable.is_set():
            server.write(chunk)
            sent += len(chunk)
            await asyncio.sleep(0)
        assert client.transport.get_write_buffer_size() < 1024 * 1024
        assert not upstream.transport.is_reading()
        transport.resume_reading()
        server.close()
        assert len(await reader.read()) == sent
        assert upstream.forwarded == sent
        await asyncio.gather(client.closed(), upstream.closed(), server.closed())
        writer.close()

    run(main)


def test_a_closed_client_that_reads_slowly_is_not_cut(tls, monkeypatch):
    """Each look finds that it has taken some."""
    monkeypatch.setattr(peers_module, "LINGER", 0.05)

    async def main():
        peer, there = await pair()
        peer.write(b"x" * 3_000_000)
        peer.close()
        received = 0
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(there, 100_000):
            received += len(data)
        there.close()
        assert received == 3_000_000
        await peer.closed()

    run(main)


def test_a_closed_client_that_reads_nothing_is_cut(monkeypatch):
    monkeypatch.setattr(peers_module, "LINGER", 0.01)

    async def main():
        peer, there = await pair()
        peer.write(b"x" * 3_000_000)
        peer.close()
        await peer.closed()
        there.close()

    run(main)


def test_inspected_bytes_are_those_that_go_on():
    async def main():
        client, there = await pair()
        upstream, server = await pair()
        client.forward_to(upstream, lambda data: data.replace(b"a", b""))
        there.send(b"banana")
        assert await asyncio.get_running_loop().sock_recv(server, 10) == b"bnn"
        for peer in (client, upstream):
            peer.abort()
        there.close()
        server.close()

    run(main)
