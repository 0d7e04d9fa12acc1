"""Logins of clients through MySQL's engine: greetings, plugins, the shared secret, TLS, and odd clients."""

import asyncio
import hashlib
import struct

import pytest

from rdsiam.proxy.contracts import ClientRefused
from rdsiam.proxy.mysql import engine as engine_module
from rdsiam.proxy.mysql.handshake import Greeting, Response
from rdsiam.proxy.peer import PeerClosed
from tests.unit.proxy.mysql.fakes import (
    MARIADB_GREETING,
    OK,
    SCRAMBLE,
    TOKEN,
    Server,
    enter,
    greeting,
    packet,
    response,
    running,
)
from tests.unit.proxy.mysql.logins import (
    NO_SUCH_USER,
    failure,
    iam_server,
    packets_server,
)
from tests.unit.proxy.peers import run

NATIVE_PLUGIN, SHA2_PLUGIN = b"mysql_native_password", b"caching_sha2_password"


def logged_in(tls, script, *, data=None, **options):
    """Log a client in; return what it read, and the server."""

    async def main():
        async with running(Server(tls, script)) as server:
            session = await enter(server, **options)
            read = [await session.wire.read()]
            session.wire.write(data or response())
            while read[-1] != OK:
                read.append(await session.wire.read())
            opened = await session.login
            assert opened is not None
            session.wire.peer.close()
            await opened.upstream.closed()
        assert not server.problems
        return read, server, opened

    return run(main)


def test_a_login_passes_everything_on_but_user_and_password(tls):
    read, server, opened = logged_in(tls, iam_server())
    shown = Greeting.parse(read[0])
    assert (shown.version, shown.connection, shown.plugin) == (b"8.4.3", 77, "caching_sha2_password")
    assert shown.scramble != SCRAMBLE
    assert 0 not in shown.scramble
    assert not shown.capabilities & (1 << 11 | 1 << 5 | 1 << 26 | 1 << 28)
    assert read[1:] == [b"\x01\x03", OK]
    sent = Response.parse(server.seen[0])
    assert (sent.user, sent.database, sent.attributes) == (b"app", b"shop", b"\x04name\x05value")
    assert (sent.charset, sent.largest) == (255, 1 << 24)
    assert len(sent.answer) == 32
    assert sent.answer != b"x" * 32
    assert server.seen[1] == TOKEN.encode() + b"\0"
    assert opened.user == "app"
    assert server.tokens == 1
    assert TOKEN.encode() not in server.plain
    # A server takes the capabilities from the request for TLS.
    assert server.plain[:4] == server.seen[0][:4]
    assert struct.unpack("<I", server.seen[0][:4])[0] & 1 << 11


def test_a_fixed_user_takes_the_place_of_the_client_s(tls):
    _, server, opened = logged_in(tls, iam_server(), user="reporting")
    assert Response.parse(server.seen[0]).user == b"reporting"
    assert opened.user == "reporting"


def test_without_schema_plugin_and_attributes(tls):
    data = response(answer=b"x" * 20, capabilities=0x8281)
    _, server, _ = logged_in(tls, iam_server(), data=data)
    sent = Response.parse(server.seen[0])
    assert (sent.database, sent.attributes, sent.plugin) == (b"", b"", "caching_sha2_password")


@pytest.mark.parametrize(("shown", "client"), [(0x1D, 0x1F), (0x1D, 0x04)])
def test_further_capabilities_of_mariadb_reach_both_sides(tls, shown, client):
    data = response(answer=b"", capabilities=0x81BFA68C, plugin=NATIVE_PLUGIN, further=client)
    read, server, _ = logged_in(tls, iam_server(MARIADB_GREETING), data=data)
    greeted = Greeting.parse(read[0])
    assert greeted.mariadb
    assert (greeted.further, greeted.plugin) == (shown & ~2, "mysql_native_password")
    sent = Response.parse(server.seen[0])
    assert sent.further == shown & client & ~2
    assert not sent.capabilities & 1


def test_a_client_of_mysql_has_no_further_capabilities_on_mariadb(tls):
    data = response(plugin=NATIVE_PLUGIN, further=0x1D)
    _, server, _ = logged_in(tls, iam_server(MARIADB_GREETING), data=data)
    sent = Response.parse(server.seen[0])
    assert sent.capabilities & 1
    assert sent.further == 0


def native(secret, scramble):
    first = hashlib.sha1(secret).digest()  # noqa: S324  the protocol's
    mask = hashlib.sha1(scramble + hashlib.sha1(first).digest()).digest()  # noqa: S324
    return bytes(a ^ b for a, b in zip(first, mask, strict=True))


def sha2(secret, scramble):
    first = hashlib.sha256(secret).digest()
    mask = hashlib.sha256(hashlib.sha256(first).digest() + scramble).digest()
    return bytes(a ^ b for a, b in zip(first, mask, strict=True))


def authenticate(tls, script, secret, plugin, answer_of, *, by_switch):
    """Log in by a plugin; return the packets after the greeting."""

    async def main():
        async with running(Server(tls, script)) as server:
            session = await enter(server, secret=secret)
            scramble = Greeting.parse(await session.wire.read()).scramble
            session.wire.write(response(answer=b"" if by_switch else answer_of(scramble), plugin=plugin))
            read = [await session.wire.read()]
            if by_switch:
                name, scramble = read[0][1:].split(b"\0", 1)
                session.wire.write(answer_of(scramble.rstrip(b"\0")))
                read = [name, await session.wire.read()]
            while read[-1][:1] not in (b"\0", b"\xff"):
                read.append(await session.wire.read())
            await asyncio.wait([session.login])
            session.wire.peer.close()
            return read, server, session.login.exception()

    return run(main)


SECRETS = [b"secret", b"", "pässword".encode(), b"x" * 300]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    ("first", "plugin", "answer_of", "by_switch"),
    [
        (None, SHA2_PLUGIN, sha2, False),
        (None, NATIVE_PLUGIN, native, True),
        (MARIADB_GREETING, NATIVE_PLUGIN, native, False),
        (MARIADB_GREETING, SHA2_PLUGIN, sha2, True),
        (None, b"sha256_password", sha2, True),
        (MARIADB_GREETING, b"client_ed25519", native, True),
    ],
)
def test_a_shared_secret_is_asked_for_by_the_client_s_plugin(tls, secret, first, plugin, answer_of, by_switch):
    read, server, problem = authenticate(
        tls, iam_server(first), secret, plugin, lambda scramble: answer_of(secret, scramble), by_switch=by_switch
    )
    assert problem is None
    assert read[-1] == OK
    assert (b"\x01\x03" in read) == (answer_of is sha2)
    assert server.tokens == 1


@pytest.mark.parametrize("first", [None, MARIADB_GREETING])
@pytest.mark.parametrize("plugin", [SHA2_PLUGIN, NATIVE_PLUGIN])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda _: b"",
        lambda _: b"\0",
        lambda good: bytes(len(good)),
        lambda good: good[:-1],
        lambda good: good + b"\0",
        lambda good: bytes((good[0] ^ 1,)) + good[1:],
        lambda good: good[:-1] + bytes((good[-1] ^ 0x80,)),
        lambda _: b"secret\0",
    ],
)
def test_another_secret_is_refused_and_the_server_is_left_in_peace(tls, first, plugin, wrong):
    right = sha2 if plugin == SHA2_PLUGIN else native
    by_switch = (plugin == SHA2_PLUGIN) == (first is not None)
    answer = packets_server(first or greeting(), NO_SUCH_USER, tls=False)
    read, server, problem = authenticate(
        tls, answer, b"secret", plugin, lambda scramble: wrong(right(b"secret", scramble)), by_switch=by_switch
    )
    assert isinstance(problem, ClientRefused)
    assert read[-1].startswith(
        b"\xff\x15\x04#28000Access denied for user 'app': rdsiam proxy asks for its own password"
    )
    assert server.tokens == 0
    assert b"rdsiam_proxy_no_login" in server.seen[0]


def refused(pair, data, **options):
    """Return the error that a client got for its response, and the server."""

    async def main():
        async with running(Server(pair, packets_server(greeting(), NO_SUCH_USER, tls=False))) as server:
            session = await enter(server, **options)
            await session.wire.read()
            session.wire.write_bytes(data)
            answer, log = await failure(session, ClientRefused)
            return answer, log, server

    return run(main)


@pytest.mark.parametrize(
    ("data", "number", "text"),
    [
        (packet(b"\x01", 1), 1043, "too short"),  # COM_QUIT, as health checks send it
        (packet(b"", 1), 1043, "too short"),
        (packet(response(), 0), 1043, "out of order"),
        (packet(response(), 2), 1043, "out of order"),
        (packet(b"x" * 70_000, 1)[:100], 1043, "too long"),
        (b"\xff\xff\xff\x01", 1043, "too long"),
        (packet(response()[:40], 1), 1043, "too short"),
        (packet(struct.pack("<IIB23x", 0x8A00, 1, 45), 1), 1043, "TLS wasn't offered"),
        (packet(struct.pack("<HI", 0x0005, 1 << 23) + b"root\0pass", 1), 1251, "MySQL 4.1"),
        (packet(struct.pack("<IIB23x", 0x0200, 1, 45) + b"app\0pass\0", 1), 1251, "MySQL 4.1"),
        (packet(response(user=b""), 1), 1045, "name a database user"),
        (packet(response(user=b"a\nb"), 1), 1045, "name a database user"),
        (packet(response(user=b"\xff\xfe"), 1), 1045, "name a database user"),
        (packet(response(user=b"x" * 81), 1), 1045, "name a database user"),
        (packet(response(user=b"root"), 1), 1045, "rdsiam proxy lets others log in"),
    ],
)  # fmt: skip
def test_odd_responses_are_refused_in_the_protocol(tls, data, number, text):
    answer, log, server = refused(tls, data, users=frozenset({"app", "etl"}))
    assert struct.unpack("<H", answer[1:3])[0] == number
    assert text in answer[3:].decode()
    assert (answer[3:4] == b"#") == (number != 1251)  # clients before 4.1 know no SQLSTATE
    assert text in log
    assert server.tokens == 0
    assert b"rdsiam_proxy_no_login" in server.seen[0]


@pytest.mark.parametrize("data", [b"\xff\xff\xff\x01", packet(response(), 6)], ids=["too long", "out of order"])
def test_an_error_is_the_next_packet_behind_the_client_s(tls, data):
    """Else the client complains of the number, and doesn't show the error."""

    async def main():
        async with running(Server(tls, packets_server(greeting(), NO_SUCH_USER, tls=False))) as server:
            session = await enter(server)
            await session.wire.read()
            session.wire.write_bytes(data)
            header = await session.wire.peer.read(4)
            with pytest.raises(ClientRefused):
                await session.login
            return header[3]

    assert run(main) == data[3] + 1


def test_tls_that_is_required_is_asked_for_before_a_password(tls):
    answer, _, server = refused(tls, packet(response(), 1), tls=tls[1], tls_required=True, secret=b"secret")
    assert answer.startswith(b"\xff\x57\x0c#HY000Connections using insecure transport are prohibited")
    assert server.tokens == 0


@pytest.mark.parametrize("at_once", [True, False])
def test_a_client_with_tls_logs_in(tls, at_once):
    async def main():
        async with running(Server(tls, iam_server())) as server:
            session = await enter(server, tls=tls[1], tls_required=True, secret=b"secret")
            shown = Greeting.parse(await session.wire.read())
            assert shown.capabilities & 1 << 11
            session.wire.write(response(capabilities=0x19FFAE8D)[:32])
            if not at_once:
                await asyncio.sleep(0.05)
            await session.wire.peer.start_tls(tls[0], "db.example")
            session.wire.write(response(answer=sha2(b"secret", shown.scramble), capabilities=0x19FFAE8D))
            assert await session.wire.read() == b"\x01\x03"
            assert await session.wire.read() == OK
            await session.login
            assert b"app" not in server.plain

    run(main)


def test_a_tls_handshake_of_garbage_ends_the_login(tls):
    async def main():
        async with running(Server(tls, packets_server(greeting(), NO_SUCH_USER, tls=False))) as server:
            session = await enter(server, tls=tls[1])
            await session.wire.read()
            session.wire.write(response(capabilities=0x19FFAE8D)[:32])
            session.wire.write_bytes(b"\x16\x03\x01garbage" * 10)
            with pytest.raises(ClientRefused, match="TLS with the client failed"):
                await session.login
            assert b"rdsiam_proxy_no_login" in server.seen[0]

    run(main)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n\r\n", b"\0\0\0\x08\x04\xd2\x16\x2f", b"\x16\x03\x01"])
def test_a_client_of_another_protocol_is_told_and_the_database_is_not_asked(tls, data):
    async def main():
        async with running(Server(tls, iam_server())) as server:
            session = await enter(server)
            session.wire.write_bytes(data)
            answer, _ = await failure(session, ClientRefused)
            assert answer == b"\xff\x13\x04Bad handshake: this port speaks MySQL's protocol"
            assert server.connections == 0

    run(main)


def test_a_health_check_does_not_reach_the_database(tls):
    async def main():
        async with running(Server(tls, iam_server())) as server:
            session = await enter(server)
            session.wire.peer.close()
            with pytest.raises(PeerClosed):
                await session.login
            assert server.connections == 0

    run(main)


@pytest.mark.parametrize("plugin", [SHA2_PLUGIN, NATIVE_PLUGIN, b"sha256_password", b"unknown"])
def test_a_client_that_leaves_after_the_greeting_costs_the_server_a_refused_login(tls, plugin):
    async def script(server, wire):
        wire.write(greeting(plugin=plugin))
        server.seen.append(await wire.read())
        wire.write(b"\xfesha256_password\0" + SCRAMBLE + b"\0")
        server.seen.append(await wire.read())
        wire.write(NO_SUCH_USER)
        with pytest.raises(PeerClosed):
            await wire.read()
        server.seen.append(b"end")

    async def main():
        async with running(Server(tls, script)) as server:
            session = await enter(server)
            await session.wire.read()
            session.wire.peer.close()
            with pytest.raises(PeerClosed):
                await session.login
            await asyncio.sleep(0.05)
            assert not server.problems
            first, second, end = server.seen
            assert b"rdsiam_proxy_no_login" in first
            assert (second, end) == (b"\0", b"end")

    run(main)


def test_a_server_that_takes_the_refused_login_is_left_by_its_own_command(tls):
    async def main():
        async with running(Server(tls, packets_server(greeting(), OK, tls=False))) as server:
            session = await enter(server)
            await session.wire.read()
            session.wire.peer.close()
            with pytest.raises(PeerClosed):
                await session.login
            await asyncio.sleep(0.05)
            assert [str(problem) for problem in server.problems] == ["out of order"]  # a command begins at 0

    run(main)


def test_a_client_that_is_too_slow_is_told_before_the_server_gives_up(tls, monkeypatch):
    monkeypatch.setattr(engine_module, "_CLIENT_LIMIT", 0.1)

    async def main():
        async with running(Server(tls, packets_server(greeting(), NO_SUCH_USER, tls=False))) as server:
            session = await enter(server)
            await session.wire.read()
            session.wire.write_bytes(packet(response(), 1)[:20])
            answer, _ = await failure(session, ClientRefused)
            assert answer.startswith(b"\xff\x87\x04#08S01Got timeout reading communication packets")
            assert b"rdsiam_proxy_no_login" in server.seen[0]

    run(main)


def test_a_login_that_is_cut_off_from_outside_tells_the_client_and_ends_the_server_s(tls):
    async def main():
        async with running(Server(tls, packets_server(greeting(), NO_SUCH_USER, tls=False))) as server:
            session = await enter(server)
            await session.wire.read()
            session.login.cancel()
            answer = await session.wire.read()
            assert answer.startswith(b"\xff\x87\x04#08S01the login took too long")
            with pytest.raises(asyncio.CancelledError):
                await session.login
            assert b"rdsiam_proxy_no_login" in server.seen[0]

    run(main)
