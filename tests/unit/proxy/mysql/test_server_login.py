"""Logins at servers through MySQL's engine: the token, and servers that refuse, ask otherwise, leave or stay silent."""

import asyncio

import pytest

from rdsiam.proxy.contracts import UpstreamFailed
from rdsiam.proxy.mysql import engine as engine_module
from rdsiam.proxy.mysql.handshake import Response
from rdsiam.proxy.peer import PeerClosed
from tests.unit.proxy.mysql.fakes import (
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
    CLEARTEXT,
    NO_SUCH_USER,
    failure,
    iam_server,
    iam_server_until_ok,
    packets_server,
)
from tests.unit.proxy.peers import contexts, run


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
