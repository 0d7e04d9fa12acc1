"""Clients that compress their packets although no server offered it."""

import zlib
from typing import Any, cast

import pytest

from rdsiam.proxy.mysql.compression import refuse_compressed
from rdsiam.proxy.peer import Peer


class Written:
    """A peer that remembers what was written to it."""

    def __init__(self) -> None:
        self.data = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        self.is_closed = True


def plain(command: bytes) -> bytes:
    """Return a packet of a command."""
    return len(command).to_bytes(3, "little") + b"\0" + command


def compressed(packet: bytes, level: int | None) -> bytes:
    """Return a compressed packet; without a level, its content is as it was, as that of short packets is."""
    content = packet if level is None else zlib.compress(packet, level)
    before = 0 if level is None else len(packet)
    return len(content).to_bytes(3, "little") + b"\0" + before.to_bytes(3, "little") + content


def look(*chunks: bytes) -> tuple[bytes, Written]:
    """Return the bytes that pass, and the client."""
    peer = Written()
    inspect: Any = refuse_compressed(cast("Peer", peer), bytes)
    return b"".join(map(inspect, chunks)), peer


COMMANDS = [
    b"\x01",
    b"\x0e",
    b"\x03SELECT 1",
    b"\x03SET NAMES 'utf8mb4' COLLATE 'utf8mb4_0900_ai_ci', a = 1",
    b"\x16x" * 400,
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("level", [None, 1, 6, 9])
def test_a_compressed_packet_ends_the_connection_in_words(command, level):
    passed, peer = look(compressed(plain(command), level))
    assert passed == b""
    assert peer.is_closed
    length = int.from_bytes(peer.data[:3], "little")
    assert len(peer.data) == length + 7
    assert peer.data[4:7] == b"\0\0\0"
    assert peer.data[11:12] == b"\xff"
    assert b"switch compression off" in peer.data


@pytest.mark.parametrize("command", COMMANDS)
def test_plain_packets_pass(command):
    packet = plain(command)
    for chunks in ((packet,), (packet[:2], packet[2:]), (packet + packet,), (packet, compressed(packet, 1))):
        passed, peer = look(*chunks)
        assert passed == b"".join(chunks)
        assert not peer.is_closed
