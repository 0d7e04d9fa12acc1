"""Relay of a client's bytes to a server, and of the server's back."""

from __future__ import annotations

import asyncio
import contextlib

CHUNK = 256 * 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def relay(client: Streams, upstream: Streams) -> None:
    """Relay bytes both ways until either side closes; bytes read by then are still delivered."""
    directions = [
        asyncio.ensure_future(_pump(client[0], upstream[1])),
        asyncio.ensure_future(_pump(upstream[0], client[1])),
    ]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)


async def hang_up(limit: float, *writers: asyncio.StreamWriter | None) -> None:
    """Close connections, delivering buffered bytes, and cut them off after `limit` seconds."""
    for writer in writers:
        if writer is not None:
            writer.close()
    for writer in writers:
        if writer is not None:
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), limit)
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
