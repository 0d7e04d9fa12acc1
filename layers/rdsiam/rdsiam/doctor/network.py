"""Checks of the network between the caller and the database."""

import socket
import ssl
import struct

from rdsiam.doctor.case import LoginCase, Verdict, fail, ok, unknown
from rdsiam.errors import InvalidRequest
from rdsiam.tokens.drivers import context
from rdsiam.tokens.trust import ca_for

_SECONDS = 5
_DESCRIBE = {
    "instance": "aws rds describe-db-instances --db-instance-identifier {}",
    "cluster": "aws rds describe-db-clusters --db-cluster-identifier {}",
    "proxy": "aws rds describe-db-proxies --db-proxy-name {}",
}


class _NoTlsError(Exception):
    """The server offers no TLS."""


def name(case: LoginCase) -> Verdict:
    """Resolve the endpoint's name."""
    host, port = case.endpoint
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return fail(f"{host} does not resolve: {error.strerror}", _see(case))
    return ok(f"{host} is {', '.join(sorted({str(address[4][0]) for address in addresses}))}")


def _see(case: LoginCase) -> str:
    return _DESCRIBE[case.database.kind].format(case.name) if case.described else "see the answer of rdsiam ls"


def port(case: LoginCase) -> Verdict:
    """Connect to the endpoint's port."""
    address = case.endpoint
    try:
        socket.create_connection(address, _SECONDS).close()
    except OSError as error:
        fix = f"let your address into the security group of {case.name}, or connect through a tunnel: --via"
        return fail(f"{address[0]}:{address[1]}: {error.strerror or error}", fix)
    return ok(f"{address[0]}:{address[1]} answers")


def tls(case: LoginCase) -> Verdict:
    """Verify the server's certificate and its name."""
    host, number = case.endpoint
    family = case.family
    try:
        with socket.create_connection((host, number), _SECONDS) as plain:
            _request_tls(plain, family)
            with context(ca_for(host)).wrap_socket(plain, server_hostname=host) as secured:
                expiry = str((secured.getpeercert() or {}).get("notAfter"))
    except InvalidRequest as error:
        problem, _, fix = str(error).partition("; ")
        return fail(problem, fix)
    except ssl.SSLCertVerificationError as error:
        return fail(error.verify_message, "unset RDSIAM_CA, or let it name the RDS bundle")
    except _NoTlsError:
        return fail("the server offers no TLS", "see rds.force_ssl and ssl in the parameter group")
    except OSError as error:
        return unknown(f"no handshake: {error.strerror or type(error).__name__}", "see port")
    return ok(f"certificate and name verified; valid until {expiry}")


def _request_tls(plain: socket.socket, family: str) -> None:
    """Request TLS before the handshake: PostgreSQL's SSLRequest, or MySQL's greeting and SSLRequest.

    Source: "SSL Session Encryption", PostgreSQL; "Protocol::SSLRequest", MySQL.
    """
    if family == "postgres":
        plain.sendall(struct.pack("!ii", 8, 80877103))
        if plain.recv(1) != b"S":
            raise _NoTlsError
        return
    header = _read_exactly(plain, 4)
    greeting = _read_exactly(plain, int.from_bytes(header[:3], "little"))
    version_end = greeting.index(b"\0", 1)
    flags = int.from_bytes(greeting[version_end + 14 : version_end + 16], "little")
    tls_flag, protocol_41, secure = 0x0800, 0x0200, 0x8000
    if not flags & tls_flag:
        raise _NoTlsError
    body = struct.pack("<IIB23x", tls_flag | protocol_41 | secure, 1 << 24, 45)
    plain.sendall(len(body).to_bytes(3, "little") + b"\x01" + body)


def _read_exactly(plain: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = plain.recv(size - len(data))
        if not chunk:
            raise OSError("the server closed the connection")
        data += chunk
    return data
