"""Logins through MySQL's engine: both sides' packets, and everything that either can do wrong."""

import asyncio
import hashlib
import struct

import pytest

from rdsiam.proxy.contracts import ClientRefused, UpstreamFailed
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
from tests.unit.proxy.peers import contexts, run

CLEARTEXT = b"\xfemysql_clear_password\0"
NATIVE_PLUGIN, SHA2_PLUGIN = b"mysql_native_password", b"caching_sha2_password"
NO_SUCH_USER = b"\xff\x15\x04#28000Access denied for user 'rdsiam_proxy_no_login'"


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return contexts(tmp_path_factory.mktemp("tls"))


async def iam_server_until_ok(server, wire):
    """Be a server until a client has logged in by token."""
    wire.write(greeting())
    await server.to_tls(wire)
    server.seen.append(await wire.read())
    wire.write(CLEARTEXT)
    server.seen.append(await wire.read())
    wire.write(OK)


def iam_server(first=None, answer=OK, then=b""):
    """Return the script of a server that asks for a token, and answers."""

    async def script(server, wire):
        wire.write(greeting() if first is None else first)
        await server.to_tls(wire)
        server.seen.append(await wire.read())
        if b"rdsiam_proxy_no_login" in server.seen[-1]:
            wire.write(NO_SUCH_USER)
            return
        wire.write(CLEARTEXT)
        server.seen.append(await wire.read())
        wire.write(answer)
        wire.peer.write(then)
        while True:
            server.seen.append(await wire.peer.read(1))

    return script


def packets_server(*answers, tls=True):
    """Return the script of a server that reads one packet before each of its answers but the first."""

    async def script(server, wire):
        wire.write(answers[0])
        if tls and len(answers) > 1:
            await server.to_tls(wire)
        for answer in answers[1:]:
            server.seen.append(await wire.read())
            wire.write(answer)
        while True:
            server.seen.append(await wire.read())

    return script


async def failure(session, kind):
    """Return the error packet that a client got, and the error that the engine raised."""
    with pytest.raises(kind) as caught:
        await session.login
    answer = await session.wire.read()
    while answer[:1] != b"\xff":
        answer = await session.wire.read()
    return answer, str(caught.value)


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


def upstream_failure(tls, script, denial=None, limit=None):
    """Return the error that a client got because of the server, and the server."""

    async def main():
        async with running(Server(tls, script, denial=denial)) as server:
            session = await enter(server)
            first = await session.wire.read()
            if first[:1] == b"\xff":
                with pytest.raises(UpstreamFailed) as caught:
                    await session.login
                return first, caught.value, server
            session.wire.write(response())
            with pytest.raises(UpstreamFailed) as caught:
                await session.login
            answer = await session.wire.read()
            while answer[:1] != b"\xff":
                answer = await session.wire.read()
            return answer, caught.value, server

    return run(main)


@pytest.mark.parametrize(
    ("error", "passed"),
    [
        (b"\xff\x10\x04Too many connections", b"\xff\x10\x04Too many connections"),
        (b"\xff\x69\x04Host '10.0.0.1' is blocked", b"\xff\x69\x04Host '10.0.0.1' is blocked"),
        (b"\xff\x10\x04#08004Too many connections", b"\xff\x10\x04Too many connections"),
    ],
)
def test_an_error_in_place_of_the_greeting_is_passed_on_with_doctor_s_sentence(tls, error, passed):
    answer, problem, server = upstream_failure(tls, packets_server(error))
    assert answer == passed + b" (rdsiam: a sentence of doctor)"
    assert problem.code == "login"
    assert server.tokens == 0


@pytest.mark.parametrize(
    "error",
    [b"\xff\x15\x04#28000Access denied for user 'app'", b"\xff\x19\x04#42000Unknown database 'shop'",
     b"\xff\x2e\x0c#HY000Account is locked", b"\xff\x10\x04#08004Too many connections"],
)  # fmt: skip
def test_a_server_s_refusal_keeps_number_and_state(tls, error):
    answer, problem, _ = upstream_failure(tls, iam_server(answer=error))
    assert answer == error + b" (rdsiam: a sentence of doctor)"
    assert str(problem) == answer[9:].decode()


@pytest.mark.parametrize(
    "asked",
    [
        b"\xfecaching_sha2_password\0" + SCRAMBLE + b"\0",
        b"\xfemysql_native_password\0" + SCRAMBLE + b"\0",
        b"\xfedialog\0\x04Password: ",
        b"\xfeclient_ed25519\0" + SCRAMBLE,
        b"\xfesha256_password\0" + SCRAMBLE,
        b"\xfemysql_clear_password2\0",
        b"\xfe",  # the passwords of MySQL 4.0
        b"\x01\x04",
        b"\x01\x03",
        b"\x02mysql_clear_password\0",  # a further factor
        b"\x07",
        b"",
    ],
)
def test_no_token_goes_to_a_server_that_asks_for_something_else(tls, asked):
    denied = b"\xff\x15\x04#28000Access denied"
    answer, problem, server = upstream_failure(tls, packets_server(greeting(), asked, denied))
    assert answer.startswith(b"\xff\x15\x04#28000Access denied for user 'app': the database asks for no token")
    assert b"rdsiam doctor orders app" in answer
    assert not any(b"X-Amz" in packet for packet in server.seen)
    assert problem.code == "login"


@pytest.mark.parametrize(
    ("user", "written"), [("a b", "'a b'"), ("$(reboot)", "'$(reboot)'"), ("x;y", "'x;y'"), ("app", "app")]
)
def test_the_command_that_is_advised_can_be_pasted_whatever_the_user_is_called(tls, user, written):
    async def main():
        async with running(Server(tls, packets_server(greeting(), b"\xff\x15\x04#28000no"))) as server:
            session = await enter(server)
            await session.wire.read()
            session.wire.write(response(user=user.encode()))
            answer, _ = await failure(session, UpstreamFailed)
            assert answer.decode(errors="replace").endswith(f"rdsiam doctor orders {written}")

    run(main)


def test_an_access_denied_before_the_token_was_asked_for_says_so(tls):
    answer, _, server = upstream_failure(tls, packets_server(greeting(), b"\xff\x15\x04#28000Access denied"))
    assert b"the database asks for no token" in answer
    assert not any(b"X-Amz" in packet for packet in server.seen)


@pytest.mark.parametrize("again", [CLEARTEXT, b"\x01\x04", b"\xfedialog\0"])
def test_the_token_is_sent_once(tls, again):
    answer, _, server = upstream_failure(
        tls, packets_server(greeting(), CLEARTEXT, again, b"\xff\x15\x04#28000Access denied")
    )
    assert b"the database asks for no token" in answer
    assert sum(TOKEN.encode() in packet for packet in server.seen) == 1


def test_a_denied_token_is_told_and_ends_the_server_s_login(tls):
    denial = UpstreamFailed("not allowed: no entry for app; add one", "not-allowed")
    answer, problem, server = upstream_failure(tls, iam_server(), denial)
    assert answer == b"\xff\x15\x04#28000not allowed: no entry for app; add one"
    assert problem is denial
    (sent,) = server.seen
    assert Response.parse(sent).user == b"rdsiam_proxy_no_login"
    assert sent[:4] == server.plain[:4]


def test_a_server_does_not_wait_for_a_token_that_takes_long(tls, monkeypatch):
    """It would count the connection as broken after `connect_timeout`."""
    monkeypatch.setattr(engine_module, "_TOKEN_LIMIT", 0.05)

    class Slow(Server):
        async def token(self, user):
            await asyncio.sleep(0.2)
            return await super().token(user)

    async def main():
        async with running(Slow(tls, iam_server())) as server:
            session = await enter(server)
            await session.wire.read()
            session.wire.write(response())
            assert await session.wire.read() == b"\x01\x03"
            assert await session.wire.read() == OK
            await session.login
            first, second, token = server.seen
            assert Response.parse(first).user == b"rdsiam_proxy_no_login"
            assert Response.parse(second).user == b"app"
            assert token == TOKEN.encode() + b"\0"
            assert (server.connections, server.tokens) == (2, 1)

    run(main)


@pytest.mark.parametrize(
    ("code", "start"),
    [("try-again", b"\xff\x10\x04#08004"), ("too-many-connections", b"\xff\x10\x04#08004"),
     ("shutting-down", b"\xff\x1d\x04#08S01"), ("user-revoked", b"\xff\x15\x04#28000"),
     ("name", b"\xff\x51\x04#08S01"), ("too-many-new-connections", b"\xff\x10\x04#08004"),
     ("access-ended", b"\xff\x1d\x04#08S01"), ("no-answer", b"\xff\x51\x04#08S01")],
)  # fmt: skip
def test_rdsiam_s_errors_have_a_number_that_clients_know(tls, code, start):
    answer, _, _ = upstream_failure(tls, iam_server(), UpstreamFailed("why", code))
    assert answer == start + b"why"
    assert engine_module.MySQLEngine().failed("why", code) == packet(start[:3] + b"why")


@pytest.mark.parametrize(
    "first",
    [
        b"", b"\x0a", b"\x09" + greeting()[1:], greeting()[:30], b"HTTP/1.0 400 Bad Request\r\n\r\n",
        b"\xff", b"\xff\x10",
        greeting(capabilities=0x0000FFFF),  # MySQL 5.1
        greeting(capabilities=0xDFFFFDFF),  # MySQL 4.0
    ],
)  # fmt: skip
def test_a_server_of_another_protocol_is_named_as_such(tls, first):
    answer, problem, server = upstream_failure(tls, packets_server(first))
    assert b"doesn't speak MySQL's protocol as expected" in answer
    assert problem.code == "login"
    assert server.tokens == 0


def test_a_server_without_tls_gets_no_token(tls):
    first = greeting(capabilities=0xDFFFFFFF & ~(1 << 11))
    answer, _, server = upstream_failure(tls, packets_server(first, NO_SUCH_USER, tls=False))
    assert b"offers no TLS" in answer
    assert server.tokens == 0
    assert not any(b"X-Amz" in packet for packet in server.seen)


def test_a_server_whose_certificate_is_not_trusted_gets_no_token(tls, tmp_path):
    other = contexts(tmp_path)
    answer, problem, server = upstream_failure((tls[0], other[1]), iam_server())
    assert answer.startswith(b"\xff\x51\x04#08S01the certificate isn't trusted")
    assert problem.code == "tls"
    assert server.tokens == 0


def test_a_server_that_goes_away_is_told(tls):
    async def script(server, wire):
        wire.write(greeting())
        await server.to_tls(wire)
        server.seen.append(await wire.read())

    answer, _, _ = upstream_failure(tls, script)
    assert answer.endswith(b"the database closed the connection during the login")


@pytest.mark.parametrize("silent_after", [0, 1, 2])
def test_a_silent_server_ends_in_an_error(tls, monkeypatch, silent_after):
    monkeypatch.setattr(engine_module, "_SERVER_LIMIT", 0.2)

    async def script(server, wire):
        if silent_after > 0:
            wire.write(greeting())
            await server.to_tls(wire)
        if silent_after > 1:
            server.seen.append(await wire.read())
            wire.write(CLEARTEXT)
        while True:
            await wire.peer.read(1)

    answer, _, _ = upstream_failure(tls, script)
    assert answer.endswith(b"the database didn't answer in time")


def test_a_connection_may_wait_for_its_turn_longer_than_a_server_for_its_greeting(tls, monkeypatch):
    monkeypatch.setattr(engine_module, "_SERVER_LIMIT", 0.2)

    class Busy(Server):
        async def connect(self, address=None):
            await asyncio.sleep(0.4)
            return await super().connect(address)

    async def main():
        async with running(Busy(tls, iam_server())) as server:
            session = await enter(server)
            await session.wire.read()
            session.wire.write(response())
            assert await session.wire.read() == b"\x01\x03"
            assert await session.wire.read() == OK
            await session.login

    run(main)


def test_a_client_that_leaves_during_the_server_s_login_does_not_cut_it(tls):
    async def script(server, wire):
        wire.write(greeting())
        await server.to_tls(wire)
        server.seen.append(await wire.read())
        await asyncio.sleep(0.05)
        wire.write(CLEARTEXT)
        server.seen.append(await wire.read())
        wire.write(OK)
        try:
            server.seen.append(await wire.peer.read(5))
        except PeerClosed:
            server.seen.append("closed")

    async def main():
        async with running(Server(tls, script)) as server:
            session = await enter(server)
            await session.wire.read()
            session.wire.write(response())
            await session.wire.read()
            session.wire.peer.abort()
            await asyncio.wait([session.login])
            await asyncio.sleep(0.05)
            assert not server.problems
            assert server.seen[1] == TOKEN.encode() + b"\0"
            assert server.seen[2:] in ([packet(b"\x01")], ["closed"])

    run(main)


@pytest.mark.parametrize(
    ("command", "answer", "idle"),
    [
        (None, b"", True),
        (b"\x03SELECT 1", b"", False),
        (b"\x03SELECT 1", packet(b"\xfe\0\0\x02\0\0\0", 5), True),
        (b"\x03BEGIN", packet(b"\0\0\0\x03\0\0\0", 1), False),
    ],
)
def test_a_connection_between_two_statements_is_idle(tls, command, answer, idle):
    async def script(server, wire):
        await iam_server_until_ok(server, wire)
        await wire.peer.read(1)
        wire.peer.write(answer)
        while True:
            await wire.peer.read(1)

    async def main():
        async with running(Server(tls, script)) as server:
            session = await enter(server)
            await session.wire.read()
            session.wire.write(response())
            assert await session.wire.read() == b"\x01\x03"
            assert await session.wire.read() == OK
            opened = await session.login
            assert opened is not None
            assert opened.idle()
            if command:
                session.wire.write_bytes(packet(command))
            if answer:
                await session.wire.peer.read(len(answer))
            await asyncio.sleep(0.05)
            assert opened.idle() is idle

    run(main)


def test_bytes_of_both_sides_that_follow_the_login_at_once_are_forwarded(tls):
    late = packet(b"\xff\x1d\x04#08S01Server shutdown in progress")

    async def main():
        async with running(Server(tls, iam_server(then=late))) as server:
            session = await enter(server)
            await session.wire.read()
            session.wire.write_bytes(packet(response(), 1) + packet(b"\x0e"))
            assert await session.wire.read() == b"\x01\x03"
            assert await session.wire.read() == OK
            assert await session.wire.peer.read(len(late)) == late
            await asyncio.sleep(0.05)
            assert b"".join(server.seen[2:]) == packet(b"\x0e")

    run(main)
