"""A server of PostgreSQL's protocol over TLS that only takes logins, so that 1,000 clients cost it little memory."""

import asyncio
import contextlib
import ssl
import struct
import sys

_TLS_REQUEST = struct.pack("!II", 8, 80877103)
_ASK_PASSWORD = struct.pack("!cII", b"R", 8, 3)
_READY = struct.pack("!cII", b"R", 8, 0) + struct.pack("!cIc", b"Z", 5, b"I")
_EMPTY = struct.pack("!cI", b"I", 4) + struct.pack("!cIc", b"Z", 5, b"I")


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLContext) -> None:
    """Take one login with any password, and answer every query as empty."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        assert await reader.readexactly(8) == _TLS_REQUEST
        writer.write(b"S")
        await writer.start_tls(tls)
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        writer.write(_ASK_PASSWORD)
        while True:
            kind, length = struct.unpack("!cI", await reader.readexactly(5))
            await reader.readexactly(length - 4)
            if kind == b"X":
                break
            writer.write(_READY if kind == b"p" else _EMPTY)
    writer.close()


async def _main(port: int, certificate: str, key: str) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server = await asyncio.start_server(
        lambda reader, writer: _serve(reader, writer, tls), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
