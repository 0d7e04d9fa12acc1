"""Connections through the proxy that end before their login never make a server of MySQL's block the proxy's host.

A server counts connections that break off in their login, by the address of the client, and then refuses that address:
`Host … is blocked because of many connection errors` (`max_connect_errors`, 100 by default).
"""

import shutil
import socket
import struct
import time
from dataclasses import replace

import psutil
import pymysql
import pytest

from localcloud.core import processes
from localcloud.core.certificates import Authority
from localcloud.databases.servers.mariadb import MariadbServer
from localcloud.databases.servers.mysql import MysqlServer
from localcloud.databases.servers.server import ServerAddress
from rdsiam.proxy.contracts import UpstreamFailed
from rdsiam.proxy.mysql.client_login import _scramble
from rdsiam.proxy.mysql.engine import MySQLEngine
from tests.ground import folder_for_servers
from tests.integration.place import MASTER, MASTER_PASSWORD, verify
from tests.integration.proxy.bare_proxy import StubUpstream, running_proxy
from tests.kinds import MYSQL_FAMILY, needs_mysql

LIMIT = 5


class Counting:
    """A server that counts as RDS's do; localcloud's don't know any host but by its address, and so don't count."""

    def _configuration(self, certificate):
        text = super()._configuration(certificate)  # type: ignore[misc]
        assert "skip_name_resolve\n" in text
        return text.replace("skip_name_resolve\n", "")

    def _settings(self):
        settings = [setting for setting in super()._settings() if not setting.startswith("performance_schema=")]  # type: ignore[misc]
        return [*settings, "performance_schema=ON", f"max_connect_errors={LIMIT}"]


class CountingMariadb(Counting, MariadbServer):
    pass


class CountingMysql(Counting, MysqlServer):
    pass


def own_address():
    """Return an address of this machine that isn't of loopback: a server doesn't count those."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET and not each.address.startswith("127."):
                return each.address
    pytest.skip("this machine has no address but loopback's")


@pytest.fixture(scope="module", params=MYSQL_FAMILY)
def server(request):
    root = folder_for_servers()
    processes.remove_when_we_end(root)
    kind = CountingMariadb if request.param == "mariadb" else CountingMysql
    authority = Authority(root / "ca")
    address = ServerAddress.of_localhost()
    address = replace(address, addresses=(*address.addresses, own_address()))
    server = kind(root / "counting", address, MASTER, MASTER_PASSWORD, "shop", authority, verify)
    server.start()
    server.set_iam(True)
    with server._connect() as session, session.cursor() as cursor:
        cursor.execute("CREATE USER app@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL")
        cursor.execute("CREATE USER human@'%' IDENTIFIED BY 'a password of a human'")
    yield server
    server.stop()
    shutil.rmtree(root)


class Upstream(StubUpstream):
    """The user `denied` gets no token."""

    async def token(self, user):
        if user == "denied":
            raise UpstreamFailed("not allowed", "not-allowed")
        return await super().token(user)


def errors(server):
    """Return the numbers of broken connections that the server has counted, of any client."""
    with server._connect() as session, session.cursor() as cursor:
        cursor.execute("SELECT ip, sum_connect_errors, count_handshake_errors FROM performance_schema.host_cache")
        return [numbers for _, *numbers in cursor.fetchall()]


def greeted(port):
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    assert len(client.recv(4096)) > 60
    return client


def end_at_once(port):
    socket.create_connection(("127.0.0.1", port)).close()


def end_after_the_greeting(port):
    greeted(port).close()


def reset_after_the_greeting(port):
    client = greeted(port)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def half_a_response(port):
    with greeted(port) as client:
        client.sendall(b"\x50\0\0\1abc")


def speak_another_protocol(port):
    with greeted(port) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"Bad handshake" in client.recv(4096)


def quit_as_health_checks_do(port):
    with greeted(port) as client:
        client.sendall(b"\1\0\0\1\1")
        assert b"Bad handshake" in client.recv(4096)


def respond(charset, schema=b"", user=b"app"):
    """Log in with names that a server can't read, by the password `secret`."""

    def attempt(port):
        client = socket.create_connection(("127.0.0.1", port), timeout=20)
        start = client.recv(4096)[4:]
        scramble = start[start.index(b"\0") + 5 :]
        scramble = scramble[:8] + scramble[27:39]
        flags = 0x0088_A201 | (8 if schema else 0)
        response = struct.pack("<IIB", flags, 1 << 24, charset) + bytes(23) + user + b"\0\x14"
        response += _scramble("mysql_native_password", b"secret", scramble)
        response += (schema + b"\0" if schema else b"") + b"mysql_native_password\0"
        client.sendall(len(response).to_bytes(3, "little") + b"\1" + response)
        answer = client.recv(4096)
        if answer[4:5] == b"\xfe":  # MySQL's greeting names another plugin
            response = _scramble("mysql_native_password", b"secret", answer[-21:-1])
            client.sendall(b"\x14\0\0" + bytes((answer[3] + 1,)) + response)
            answer = client.recv(4096)
        assert answer[4:5] == b"\xff", answer
        assert b"rdsiam proxy asks for its own password" not in answer
        client.close()

    return attempt


def log_in(user, password):
    def attempt(port):
        with pytest.raises(pymysql.OperationalError, match="1045"):
            pymysql.connect(host="127.0.0.1", port=port, user=user, password=password)

    return attempt


ENDS = {
    "at once": end_at_once,
    "after the greeting": end_after_the_greeting,
    "reset": reset_after_the_greeting,
    "half a response": half_a_response,
    "another protocol": speak_another_protocol,
    "COM_QUIT": quit_as_health_checks_do,
    "wrong secret": log_in("app", "wrong"),
    "no token": log_in("denied", "secret"),
    "user with a password": log_in("human", "secret"),
    "unknown user": log_in("unknown", "secret"),
    "ucs2": respond(35),
    "utf32": respond(60),
    "a schema that isn't UTF-8": respond(33, b"\xff\xfe"),
    "a schema that isn't ASCII": respond(11, b"\xff"),
    "a schema that isn't GBK": respond(28, b"\xff\xff"),
    "a user that isn't GBK": respond(28, user="jö".encode()),
}


def test_the_server_counts_connections_that_break_off(server):
    """Otherwise the next test would hold of any proxy."""
    address = own_address()
    with socket.create_connection((address, server.address.port)) as client:
        client.recv(4096)
    time.sleep(0.2)
    if not errors(server):
        pytest.skip("this machine's resolver doesn't answer, and then the server counts nothing")
    assert max(max(numbers) for numbers in errors(server)) > 0


#: Ends that `make test` tries.
USUAL = {"after the greeting", "COM_QUIT", "wrong secret", "unknown user", "a user that isn't GBK"}
CASES = [
    pytest.param(
        kind, attempt, id=f"{kind}-{name}", marks=[*marks, *([] if name in USUAL else [pytest.mark.exhaustive])]
    )
    for kind, marks in (("mariadb", []), ("mysql", [needs_mysql]))
    for name, attempt in ENDS.items()
]


@pytest.mark.parametrize(("server", "end"), CASES, indirect=["server"])
def test_a_connection_that_ends_before_its_login_is_not_counted(server, end):
    upstream = Upstream("localhost", server._authority.path, [(own_address(), server.address.port)])
    with running_proxy(upstream, engine=MySQLEngine(), secret=b"secret") as proxy:
        # A login sets the count back.
        pymysql.connect(host="127.0.0.1", port=proxy.port, user="app", password="secret").close()
        for _ in range(LIMIT + 2):
            end(proxy.port)
        time.sleep(0.3)
        assert all(numbers[0] == 0 for numbers in errors(server))
        pymysql.connect(host="127.0.0.1", port=proxy.port, user="app", password="secret").close()
