"""The TLS front of a PostgreSQL server: handles the start of the protocol, asks IAM users for a token, then relays."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from localcloud.core.certificates import ServerCertificate
from localcloud.databases.servers.relay import CHUNK, Streams, hang_up, relay
from localcloud.databases.servers.server import MAX_TOKEN, ServerAddress, Verify
from localcloud.databases.token_verifier import LoginRefused

logger = logging.getLogger(__name__)

LOGIN_LIMIT = 30.0  # seconds, as in PostgreSQL's authentication_timeout, shortened
_MAX_STARTUP = 10_000  # bytes, as in PostgreSQL
_MAX_NAME = 63  # bytes; PostgreSQL would cut a longer name, and so let in another user than the token's
_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102
_OK = b"R" + struct.pack("!II", 8, 0)
_ASK_CLEARTEXT = b"R" + struct.pack("!II", 8, 3)
_ASKS_FOR_ANSWER = {5, 10, 11}  # MD5Password, SASL, SASLContinue: the client is to answer


class _Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _ClientGone(Exception):
    """The client left, or does not speak the protocol."""


@dataclass(frozen=True)
class _Startup:
    packet: bytes
    user: str
    where: str  # as in the server's messages
    encrypted: bool
    no_replication: str | None  # the answer to a client that may not replicate, if this one asks for it


class PostgresFront:
    """Listens at `address` for PostgreSQL clients, in a thread of its own, and passes them on to a unix socket.

    :param upstream: the server's socket. Its rules have to let in exactly the IAM users without a password.
    :param verify: judges the tokens; called in worker threads.
    :param parameters: the server's. If `rds.force_ssl` is off, passwords may come unencrypted, tokens may not.
    """

    def __init__(
        self,
        address: ServerAddress,
        upstream: Path,
        certificate: ServerCertificate,
        verify: Verify,
        parameters: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._address = address
        self._upstream = upstream
        self._verify = verify
        self._parameters = parameters
        self._certificate = certificate
        self._loop = asyncio.new_event_loop()
        self._clients: set[asyncio.Task[None]] = set()
        self._servers: dict[tuple[str, int], list[asyncio.Server]] = {}
        self._closing = False
        self._workers = ThreadPoolExecutor(max_workers=16, thread_name_prefix="verify")
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"postgres-{address.host}", daemon=True)

    def start(self) -> None:
        """Begin to accept clients.

        :raises OSError: the port is taken.
        """
        self._thread.start()
        try:
            self.listen(self._address, self._certificate, self._verify)
        except BaseException:
            self.stop()
            raise

    def listen(self, address: ServerAddress, certificate: ServerCertificate, verify: Verify) -> None:
        """Accept clients at one more address, whose tokens `verify` judges.

        :raises OSError: the port is taken.
        """
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.load_cert_chain(certificate.certificate, certificate.key)
        asyncio.run_coroutine_threadsafe(self._listen(address, tls, verify), self._loop).result()

    def close(self, address: ServerAddress) -> None:
        """Accept no more clients at that address; connected clients stay."""
        for server in self._servers.pop(address.socket, []):
            self._loop.call_soon_threadsafe(server.close)

    def stop(self) -> None:
        """Close every connection and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def _listen(self, address: ServerAddress, tls: ssl.SSLContext, verify: Verify) -> None:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._serve(reader, writer, tls, verify))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

        for each in address.addresses:
            server = await asyncio.start_server(accept, each, address.port, limit=CHUNK, backlog=512)
            self._servers.setdefault(address.socket, []).append(server)

    async def _close(self) -> None:
        self._closing = True
        for server in [server for servers in list(self._servers.values()) for server in servers]:
            server.close()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLContext, verify: Verify
    ) -> None:
        upstream: Streams | None = None
        try:
            async with asyncio.timeout(LOGIN_LIMIT):
                startup = await self._begin(reader, writer, tls)
                if startup is None:
                    return
                upstream = await self._open_upstream()
                upstream[1].write(startup.packet)
                if not await self._log_in((reader, writer), upstream, startup, verify):
                    return
            await relay((reader, writer), upstream)
        except _Refused as refused:
            with contextlib.suppress(OSError):
                writer.write(_error(refused.code, str(refused)))
                await writer.drain()
        except (_ClientGone, TimeoutError, OSError, EOFError):
            pass  # the client has gone
        finally:
            # A client that is disconnected at once may never answer TLS's close.
            limit = 0.1 if self._closing else 5.0
            await hang_up(limit, writer, None if upstream is None else upstream[1])

    async def _begin(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLContext
    ) -> _Startup | None:
        """Handle the steps before a login; return None for a cancel request, which is served here."""
        codes: set[int] = set()
        while True:
            packet = await _read_startup(reader)
            (code,) = struct.unpack_from("!I", packet, 4)
            if code == _CANCEL_REQUEST:
                await self._cancel(packet)
                return None
            if code in codes or (code == _GSS_REQUEST and _SSL_REQUEST in codes):
                raise _ClientGone
            codes.add(code)
            if code == _GSS_REQUEST:
                writer.write(b"N")
                await writer.drain()
            elif code == _SSL_REQUEST:
                if getattr(reader, "_buffer", b""):
                    # Data sent before TLS could come from a third party between client and server (CVE-2021-23214).
                    raise _ClientGone
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(tls)
            elif code >> 16 == 3:
                return self._check(packet, writer, encrypted=_SSL_REQUEST in codes)
            else:
                raise _Refused("0A000", "unsupported frontend protocol")

    def _check(self, packet: bytes, writer: asyncio.StreamWriter, *, encrypted: bool) -> _Startup:
        parameters = _parameters(packet)
        user = parameters.get("user", "")
        database = parameters.get("database", "") or user
        if not user:
            raise _Refused("28000", "no PostgreSQL user name specified in startup packet")
        peer = writer.get_extra_info("peername")
        where = f'host "{peer[0]}", user "{user}", database "{database}"'
        if not encrypted and self._parameters().get("rds.force_ssl") != "0":
            raise _Refused("28000", f"no pg_hba.conf entry for {where}, no encryption")
        kind = parameters.get("replication", "off").lower()
        refusal = f'no pg_hba.conf entry for replication connection from host "{peer[0]}", user "{user}"'
        refusal += ", SSL encryption" if encrypted else ", no encryption"
        logical = kind == "database" and self._parameters().get("rds.logical_replication") == "1"
        if kind not in {"off", "false", "no", "0", ""} and not logical:
            raise _Refused("28000", refusal)
        if user == "rdsadmin" or len(user.encode()) > _MAX_NAME:
            raise _Refused("28000", f"pg_hba.conf rejects connection for {where}, SSL encryption")
        return _Startup(packet, user, where, encrypted, refusal if logical else None)

    async def _log_in(self, client: Streams, upstream: Streams, startup: _Startup, verify: Verify) -> bool:
        """Relay the login; return whether the client is logged in."""
        password_requested = False
        while True:
            message = await _read_message(upstream[0])
            kind = struct.unpack_from("!I", message, 5)[0] if message[:1] == b"R" else None
            if kind == 0:
                if not password_requested:  # let in without a password: an IAM user
                    await self._ask_for_token(client, startup, verify)
                client[1].write(_OK)
                await client[1].drain()
                return True
            client[1].write(message)
            await client[1].drain()
            if message[:1] == b"E":
                return False
            if kind in _ASKS_FOR_ANSWER:
                password_requested = True
                upstream[1].write(await _read_message(client[0], expected=b"p"))
                await upstream[1].drain()

    async def _ask_for_token(self, client: Streams, startup: _Startup, verify: Verify) -> None:
        if not startup.encrypted:
            raise _Refused("28000", f"pg_hba.conf rejects connection for {startup.where}, no encryption")
        if startup.no_replication and self._parameters().get("rds.iam_auth_for_replication") != "1":
            raise _Refused("28000", startup.no_replication)
        client[1].write(_ASK_CLEARTEXT)
        await client[1].drain()
        message = await _read_message(client[0], expected=b"p")
        refused = _Refused("28000", f'PAM authentication failed for user "{startup.user}"')
        token = message[5:-1]
        if not token or message[-1:] != b"\0" or b"\0" in token:
            raise refused
        try:
            await self._loop.run_in_executor(self._workers, verify, startup.user, token.decode("ascii"), True)
        except (LoginRefused, UnicodeDecodeError):
            raise refused from None
        except Exception as error:
            # A token that can't be judged is refused. The error's text is left out: it might quote the token.
            logger.error("login of %r not judged: %s", startup.user, type(error).__name__)
            raise refused from None

    async def _open_upstream(self) -> Streams:
        try:
            return await asyncio.open_unix_connection(self._upstream, limit=CHUNK)
        except OSError:
            raise _Refused("57P03", "the database system is starting up") from None

    async def _cancel(self, packet: bytes) -> None:
        """Pass a cancel request on and wait, like the client, until the server has taken it."""
        reader, writer = await self._open_upstream()
        try:
            writer.write(packet)
            await writer.drain()
            await reader.read(1)
        finally:
            writer.close()


async def _read_startup(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    (length,) = struct.unpack("!I", head)
    if not 8 <= length <= _MAX_STARTUP:
        raise _ClientGone
    return head + await reader.readexactly(length - 4)


async def _read_message(reader: asyncio.StreamReader, expected: bytes | None = None) -> bytes:
    head = await reader.readexactly(5)
    (length,) = struct.unpack_from("!I", head, 1)
    if not 4 <= length <= MAX_TOKEN + 5 or (expected is not None and head[:1] != expected):
        raise _ClientGone
    return head + await reader.readexactly(length - 4)


def _parameters(packet: bytes) -> dict[str, str]:
    """Return the parameters of a StartupMessage; a name given twice is refused, since servers differ about it."""
    try:
        parts = packet[8:].decode().split("\0")
    except UnicodeDecodeError:
        raise _Refused("22021", "invalid byte sequence in startup packet") from None
    if len(parts) % 2 or parts[-2:] != ["", ""]:
        raise _Refused("08P01", "invalid startup packet layout: expected terminator as last byte")
    names, values = parts[:-2:2], parts[1:-2:2]
    if len(set(names)) != len(names) or "" in names:
        raise _Refused("08P01", "invalid startup packet: a parameter has no name or is given twice")
    return dict(zip(names, values, strict=True))


def _error(code: str, message: str) -> bytes:
    fields = b"".join(
        kind + text.encode() + b"\0" for kind, text in ((b"S", "FATAL"), (b"V", "FATAL"), (b"C", code), (b"M", message))
    )
    return b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\0"
