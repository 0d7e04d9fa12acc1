"""The way to a database: names are resolved off the event loop, addresses tried in turn, certificates verified."""

import asyncio
import contextlib
import os
import socket
import ssl
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeAlias

from rdsiam.errors import InvalidRequest
from rdsiam.proxy.contracts import UpstreamFailed
from rdsiam.proxy.peer import Peer, PeerClosed
from rdsiam.proxy.sentences import failed
from rdsiam.proxy.sockets import keep_alive
from rdsiam.tokens.trust import CA, ca_for

__all__ = ["Names", "Trust", "connect", "start_tls"]

#: IP address and port.
Address: TypeAlias = tuple[str, int]
#: The least time, in seconds, for one of several addresses.
_LEAST = 2.0
_DOCTOR = "rdsiam doctor checks the way to the database"


class Names:
    """Resolves names in a few threads. Each look-up is new; those at the same time for one name share one.

    :param executor: its threads wait for the system's resolver, which has no time limit of its own.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._running: dict[Address, asyncio.Future[list[Address]]] = {}

    async def addresses(self, host: str, port: int, seconds: float) -> list[Address]:
        """Return the addresses of a name, in the resolver's order.

        :raises UpstreamFailed: the name doesn't resolve, or not in time.
        """
        running = self._running.get((host, port))
        if running is None:
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._executor, _resolve, host, port)
            self._running[host, port] = running
            running.add_done_callback(lambda _: self._running.pop((host, port), None))
            running.add_done_callback(lambda future: future.cancelled() or future.exception())
        try:
            return await asyncio.wait_for(asyncio.shield(running), seconds)
        except TimeoutError:
            raise failed(f"{host}: no answer from the resolver within {seconds:g} s", _DOCTOR, "name") from None
        except OSError as error:
            raise failed(f"{host} does not resolve: {error.strerror or error}", _DOCTOR, "name") from None


def _resolve(host: str, port: int) -> list[Address]:
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except ValueError:  # an empty or too long part, or a NUL: the resolver isn't asked for it
        raise socket.gaierror(socket.EAI_NONAME, "it can't be the name of a host") from None
    return list(dict.fromkeys((str(address[0]), int(address[1])) for *_, address in answers))


async def connect(addresses: list[Address], host: str, seconds: float) -> Peer:
    """Connect to the first address that answers.

    :param host: the endpoint in errors.
    :raises UpstreamFailed: none answers within the seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    problem = "no address"
    for index, (ip, port) in enumerate(addresses):
        left = deadline - loop.time()
        if left <= 0:
            break
        try:
            async with asyncio.timeout(min(left, max(_LEAST, left / (len(addresses) - index)))):
                _, peer = await loop.create_connection(Peer, ip, port)
        except TimeoutError:
            problem = f"{ip} does not answer"
        except OSError as error:
            problem = (
                f"{ip}: {os.strerror(error.errno) if error.errno else error}"  # asyncio's text repeats the address
            )
        else:
            keep_alive(peer.transport.get_extra_info("socket"))
            return peer
    remedy = f"see whether the database is available and its security group admits this machine; {_DOCTOR}"
    raise failed(f"{host}: no connection ({problem})", remedy, "port")


class Trust:
    """TLS contexts, one for each file of authorities, read again if the file changes."""

    def __init__(self) -> None:
        self._contexts: dict[str, tuple[tuple[int, ...], ssl.SSLContext]] = {}

    def context(self, host: str) -> ssl.SSLContext:
        """Return the context that verifies the certificate and name of an endpoint; TLS 1.2 at least.

        :raises UpstreamFailed: the file of authorities can't be read.
        """
        try:
            path = ca_for(host)
            status = Path(path).stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            known = self._contexts.get(path)
            if known is None or known[0] != version:
                known = self._contexts[path] = (version, _context(path))
        except InvalidRequest as error:
            raise failed(str(error), "", "tls") from None
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "strerror", None) or type(error).__name__
            remedy = f"let {CA} name a file of certificates, or unset it to use those of RDS"
            raise failed(f"{path}: the authorities can't be read ({reason})", remedy, "tls") from None
        return known[1]


def _context(path: str) -> ssl.SSLContext:
    verifying = ssl.create_default_context(cafile=path)
    verifying.minimum_version = ssl.TLSVersion.TLSv1_2
    # The strict flag also refuses certificates for formal defects that libpq and MySQL's own clients accept.
    verifying.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return verifying


async def start_tls(peer: Peer, context: ssl.SSLContext, host: str, seconds: float) -> None:
    """Change a connection to TLS as the client of `host`, whose name the certificate must have.

    :raises UpstreamFailed: the certificate is not trusted, or of another name, or the handshake failed. Nothing has
        been sent inside TLS.
    """
    try:
        async with asyncio.timeout(seconds):
            await peer.start_tls(context, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        with contextlib.suppress(PeerClosed):
            peer.abort()
        raise _not_verified(host, error) from None
    except TimeoutError:
        peer.abort()
        raise failed(f"{host}: no TLS handshake within {seconds:g} s", _DOCTOR, "tls") from None
    except PeerClosed:
        raise failed(f"{host}: the server closed the connection, or sent bytes, before TLS", _DOCTOR, "tls") from None
    except OSError as error:
        peer.abort()
        reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
        raise failed(f"{host}: the TLS handshake failed ({reason})", _DOCTOR, "tls") from None


def _not_verified(host: str, error: ssl.SSLCertVerificationError) -> UpstreamFailed:
    if error.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        remedy = "the name leads to another machine: see DNS and /etc/hosts; no token was sent"
        return failed(f"{host}: the certificate has another name", remedy, "tls")
    remedy = f"let {CA} name the authorities of this server, or unset it to use those of RDS; no token was sent"
    return failed(f"{host}: the certificate is not trusted ({error.verify_message})", remedy, "tls")
