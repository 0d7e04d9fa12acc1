"""Memory of connections through `rdsiam proxy` and HAProxy that do nothing."""

import asyncio
import struct
import sys
from pathlib import Path

from bench.proxy import fronts
from bench.proxy.memory import MOST_GROWTH, resident
from bench.proxy.tls_postgres import DATABASE, PASSWORD, USER
from bench.result import Result
from localcloud.core import processes
from localcloud.core.certificates import Authority

IDLE, IDLE_ROUNDS = 1000, 4
#: KB of one idle connection: two sockets, TLS of one of them.
MOST_IDLE = 80
#: Clients that log in at the same time while 1,000 connections are opened.
_AT_ONCE = 20


def run(root: Path, authority: Authority) -> list[Result]:
    """Measure the memory of idle connections, with a stub as server: real ones have a process for each."""
    certificate = authority.issue(root / "stub")
    port = processes.free_port()
    stub = processes.spawn(
        [sys.executable, "-m", "bench.proxy.stub_postgres", str(port), certificate.certificate, certificate.key],
        cwd=fronts.ROOT,
    )
    try:
        fronts.wait_for(port, stub)
        with (
            fronts.haproxy(root, port) as haproxy,
            fronts.proxy(root, authority, "postgres", port, PASSWORD) as proxy,
        ):
            others = -resident(haproxy.pid)
            others += asyncio.run(_idle_connections(haproxy.port, IDLE, haproxy.pid, logged_in=False))
            before = resident(proxy.pid)
            first, *_, last = (
                asyncio.run(_idle_connections(proxy.port, IDLE, proxy.pid, logged_in=True)) for _ in range(IDLE_ROUNDS)
            )
    finally:
        processes.stop(stub)
    each, others_each = 1000 * (first - before) / IDLE, 1000 * others / IDLE
    name, again = "proxy: memory of an idle connection", f"proxy: memory, {IDLE_ROUNDS * IDLE:,} connections"
    return [
        Result(name, each, "KB", "HAProxy", others_each, each, at_most=MOST_IDLE),
        Result(again, last, "MB", f"the first {IDLE:,}", first, last - first, at_most=MOST_GROWTH),
    ]


async def _idle_connections(port: int, count: int, pid: int, *, logged_in: bool) -> float:
    """Return the resident memory, in MB, of a process with this number of idle connections.

    :param logged_in: the clients log in to PostgreSQL; else they ask for TLS only, which HAProxy passes on.
    """
    connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for _ in range(0, count, _AT_ONCE):
        connections += await asyncio.gather(*(_connect(port, logged_in) for _ in range(_AT_ONCE)))
    size = resident(pid)
    for reader, writer in connections[:: count // 10]:
        if logged_in:
            writer.write(struct.pack("!cI6s", b"Q", 10, b"empty\0"))
            await _answer(reader)
    for _, writer in connections:
        writer.close()
    return size


async def _connect(port: int, logged_in: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if logged_in:
        body = struct.pack("!I", 196608) + b"user\0%s\0database\0%s\0\0" % (USER.encode(), DATABASE.encode())
        writer.write(struct.pack("!I", len(body) + 4) + body)
        await _answer(reader)
    else:
        writer.write(struct.pack("!II", 8, 80877103))
        assert await reader.readexactly(1) == b"S"
    return reader, writer


async def _answer(reader: asyncio.StreamReader) -> None:
    """Read until the server is ready for a query."""
    kind = b""
    while kind != b"Z":
        kind, length = struct.unpack("!cI", await reader.readexactly(5))
        message = await reader.readexactly(length - 4)
        if kind == b"E":
            raise RuntimeError(f"the login failed: {message!r}")
