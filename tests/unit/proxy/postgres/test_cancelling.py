"""Requests to cancel: they reach the server of the connection whose key they have, and no other."""

import asyncio
import struct

import pytest

from rdsiam.proxy.contracts import UpstreamFailed
from rdsiam.proxy.postgres.engine import PostgresEngine
from tests.unit.proxy.in_memory import HOST, Upstream, contexts
from tests.unit.proxy.peers import run
from tests.unit.proxy.postgres.in_memory import (
    ASK_CLEARTEXT,
    AUTHENTICATION_OK,
    GSSENC_REQUEST,
    KEY,
    READY,
    SSL_REQUEST,
    Server,
    attempt,
    cancel_request,
    message,
    startup,
)

LONG = bytes(range(32))


class Cluster:
    """Servers behind one endpoint: each login gets the next key; what comes instead of a login is a cancel request."""

    def __init__(self, *keys):
        self.keys = list(keys)
        self.requests = []

    async def __call__(self, peer):
        assert await peer.read(8) == SSL_REQUEST
        peer.write(b"S")
        await peer.start_tls(contexts()[0])
        head = await peer.peek(8)
        if head[4:] == struct.pack("!I", 80877102):
            self.requests.append(await peer.read(int.from_bytes(head[:4], "big")))
            peer.close()
            return
        process, key = self.keys.pop(0)
        data = message(b"K", struct.pack("!I", process) + key)
        await Server([ASK_CLEARTEXT, AUTHENTICATION_OK + data + READY]).log_in(peer)


async def open_connection(upstream, engine):
    client = attempt(upstream, engine)
    client.peer.write(startup(user="app"))
    return await client.login


async def cancel(upstream, engine, sent, **options):
    """Send a request, and wait until the proxy closes the connection."""
    client = attempt(upstream, engine, **options)
    client.peer.write(sent)
    await client.peer.ended()
    assert client.peer.buffered == 0
    assert await client.login is None


@pytest.mark.parametrize("key", [KEY, LONG, LONG * 8], ids=["3.0", "3.2", "longest"])
def test_a_request_reaches_the_server_that_gave_the_key(key):
    async def main():
        # The same process number on two servers of a reader endpoint.
        cluster = Cluster((7, b"abcd"), (7, key), (8, b"efgh"))
        upstream, engine = Upstream(cluster), PostgresEngine()
        opened = [await open_connection(upstream, engine) for _ in range(3)]
        await cancel(upstream, engine, cancel_request(7, key))
        assert cluster.requests == [cancel_request(7, key)]
        return upstream.addresses, upstream.address_of(opened[1].upstream)

    addresses, second = run(main)
    assert addresses == [None, None, None, second]


@pytest.mark.parametrize(
    "sent",
    [
        cancel_request(7, b"abce"),
        cancel_request(8, b"abcd"),
        cancel_request(7, b"abc"),
        cancel_request(7, b"abcdabcd"),
        cancel_request(7, b""),
        cancel_request(7, b"a" * 257),
        struct.pack("!II", 8, 80877102),
        struct.pack("!IIB", 9, 80877102, 7),
    ],
    ids=["key", "process", "short", "long", "empty", "longest", "nothing", "cut off"],
)
def test_a_request_with_another_key_is_dropped(sent):
    async def main():
        cluster = Cluster((7, b"abcd"))
        upstream, engine = Upstream(cluster), PostgresEngine()
        await open_connection(upstream, engine)
        await cancel(upstream, engine, sent)
        assert (upstream.addresses, cluster.requests) == ([None], [])

    run(main)


def test_a_key_of_another_listener_is_dropped():
    async def main():
        cluster = Cluster((7, b"abcd"))
        upstream = Upstream(cluster)
        await open_connection(upstream, PostgresEngine())
        await cancel(upstream, PostgresEngine(), cancel_request(7, b"abcd"))
        assert cluster.requests == []

    run(main)


def test_a_key_of_an_ended_connection_is_forgotten_and_no_other():
    async def main():
        cluster = Cluster((7, b"abcd"), (7, b"efgh"), (7, b"abcd"))
        upstream, engine = Upstream(cluster), PostgresEngine()
        first, second, _ = [await open_connection(upstream, engine) for _ in range(3)]
        first.closed()
        first.closed()
        await cancel(upstream, engine, cancel_request(7, b"efgh"))
        second.closed()
        await cancel(upstream, engine, cancel_request(7, b"efgh"))
        await cancel(upstream, engine, cancel_request(7, b"abcd"))
        assert cluster.requests == [cancel_request(7, b"efgh"), cancel_request(7, b"abcd")]
        assert upstream.addresses[-1] == ("192.0.2.1", 5435)  # of the third connection
        assert len(engine._backends) == 1

    run(main)


@pytest.mark.parametrize("tls_required", [False, True])
def test_requests_come_with_and_without_tls(tls_required):
    """As a server takes them: older clients never encrypt them."""

    async def main():
        cluster = Cluster((7, b"abcd"))
        upstream, engine = Upstream(cluster), PostgresEngine()
        await open_connection(upstream, engine)
        options = {"tls": contexts()[0], "tls_required": tls_required, "secret": b"secret"}
        await cancel(upstream, engine, cancel_request(7, b"abcd"), **options)
        client = attempt(upstream, engine, **options)
        client.peer.write(GSSENC_REQUEST)
        assert await client.peer.read(1) == b"N"
        client.peer.write(SSL_REQUEST)
        assert await client.peer.read(1) == b"S"
        await client.peer.start_tls(contexts()[1], HOST)
        client.peer.write(cancel_request(7, b"abcd"))
        assert await client.login is None
        assert len(cluster.requests) == 2

    run(main)


def test_a_client_that_does_not_wait_has_its_request_passed_on_as_well():
    async def main():
        cluster = Cluster((7, b"abcd"))
        upstream, engine = Upstream(cluster), PostgresEngine()
        await open_connection(upstream, engine)
        client = attempt(upstream, engine)
        client.peer.write(cancel_request(7, b"abcd"))
        client.peer.close()
        assert await client.login is None
        assert len(cluster.requests) == 1

    run(main)


def test_a_server_that_can_not_be_reached_is_an_error_of_the_proxy_and_the_client_is_closed():
    async def main():
        cluster = Cluster((7, b"abcd"))
        upstream, engine = Upstream(cluster), PostgresEngine()
        await open_connection(upstream, engine)

        async def no_tls(peer):
            await peer.read(8)
            peer.write(b"N")
            await peer.ended()
            assert peer.buffered == 0

        upstream.script = no_tls
        client = attempt(upstream, engine)
        client.peer.write(cancel_request(7, b"abcd"))
        with pytest.raises(UpstreamFailed):
            await client.login
        await client.peer.ended()
        assert client.peer.buffered == 0
        await asyncio.wait(upstream.tasks[1:])
        upstream.tasks[1].result()

    run(main)
