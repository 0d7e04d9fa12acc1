"""Pairs of connected peers over real loopback sockets, and a run of a coroutine with a limit."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from localcloud.core.certificates import Authority, ServerCertificate
from rdsiam.proxy.peer import Peer


def run[R](main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run a coroutine; one that hangs fails."""

    async def limited() -> R:
        return await asyncio.wait_for(main(), 60)

    return asyncio.run(limited())


async def pair() -> tuple[Peer, socket.socket]:
    """Return a peer, and the non-blocking socket at the other end."""
    here, there = socket.socketpair()
    there.setblocking(False)
    _, peer = await asyncio.get_running_loop().create_connection(Peer, sock=here)
    return peer, there


async def stream(there: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return streams over a socket."""
    return await asyncio.open_connection(sock=there, limit=2**20)


def certificate(folder: Path) -> ServerCertificate:
    """Return certificate and key for db.example; its authority's file is ca.pem."""
    return Authority(folder).issue(folder, ["db.example"])


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return TLS of a client, and of a server named db.example."""
    files = certificate(folder)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.key)
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    return client, server


def free_port() -> int:
    """Return a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
