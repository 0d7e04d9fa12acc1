"""Connections are accepted, and a process without a free file waits quietly until it has one."""

import asyncio
import errno
import logging
import socket
import time

import pytest

from rdsiam.proxy import acceptor as acceptor_module
from rdsiam.proxy import health
from rdsiam.proxy.acceptor import Acceptor
from tests.unit.proxy.peers import run
from tests.unit.proxy.stubs import LOCAL


class Greeter(asyncio.Protocol):
    """Says a word, and leaves."""

    def connection_made(self, transport):
        transport.write(b"welcome")
        transport.close()


async def answer(listening):
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    text = await reader.read()
    writer.close()
    return text


@pytest.fixture
def listening():
    with socket.create_server((LOCAL, 0)) as server:
        server.setblocking(False)
        yield server


def test_connections_are_accepted_until_the_end(listening):
    async def main():
        acceptor = Acceptor(listening, Greeter)
        assert await asyncio.gather(*(answer(listening) for _ in range(200))) == [b"welcome"] * 200
        acceptor.close()
        acceptor.close()
        _, writer = await asyncio.open_connection(*listening.getsockname())  # the socket itself still listens
        await asyncio.sleep(0.05)
        assert listening.accept()[0].close() is None
        writer.close()

    run(main)


@pytest.mark.parametrize("pages", [False, True], ids=["a listener", "the health port"])
def test_without_a_free_file_clients_wait_and_the_log_has_one_line(listening, monkeypatch, caplog, pages):
    monkeypatch.setattr(acceptor_module, "_PAUSE", 0.02)
    accept, tries = socket.socket.accept, []

    def no_file(_):
        tries.append(1)
        raise OSError(errno.EMFILE, "Too many open files")

    async def main():
        acceptor = health.serve(listening, {}) if pages else Acceptor(listening, Greeter)
        monkeypatch.setattr(socket.socket, "accept", no_file)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        began = time.monotonic()
        while len(tries) < 5:
            await asyncio.sleep(0.01)
        assert time.monotonic() - began > 3 * 0.02
        monkeypatch.setattr(socket.socket, "accept", accept)
        if pages:
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 404" if pages else b"welcome")
        writer.close()
        monkeypatch.setattr(socket.socket, "accept", no_file)
        _, writer = await asyncio.open_connection(*listening.getsockname())
        await asyncio.sleep(0.05)
        acceptor.close()
        count = len(tries)
        await asyncio.sleep(0.1)
        assert len(tries) == count
        writer.close()

    caplog.set_level(logging.INFO)
    run(main)
    assert caplog.messages == ["clients wait, as no further connection can be accepted"]
    assert caplog.records[0].reason == "Too many open files"


def test_a_connection_that_was_given_up_in_the_queue_is_passed_over(listening, monkeypatch):
    accept, given_up = socket.socket.accept, [1]

    def once(self):
        if given_up:
            given_up.pop()
            raise ConnectionAbortedError
        return accept(self)

    async def main():
        monkeypatch.setattr(socket.socket, "accept", once)
        acceptor = Acceptor(listening, Greeter)
        assert await answer(listening) == b"welcome"
        acceptor.close()

    run(main)
