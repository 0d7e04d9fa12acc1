"""Logins through PostgreSQL's engine: what the server gets, and what the client gets."""

import asyncio
import struct

import pytest

from rdsiam.proxy.connections import Connection
from rdsiam.proxy.contracts import ClientRefused, Listener, UpstreamFailed
from rdsiam.proxy.peer import PeerClosed
from rdsiam.proxy.postgres.engine import PostgresEngine
from tests.unit.proxy.in_memory import TOKEN, Upstream
from tests.unit.proxy.peers import run
from tests.unit.proxy.postgres.in_memory import (
    ASK_CLEARTEXT,
    AUTHENTICATION_OK,
    KEY,
    LOGGED_IN,
    READY,
    Server,
    attempt,
    error,
    message,
    startup,
)

NOTICE = message(b"N", b"SNOTICE\0C00000\0Mhello\0\0")
NEGOTIATE = message(b"v", struct.pack("!II", 0, 1) + b"_pq_.x\0")


def test_the_server_gets_the_token_and_the_client_the_server_s_answer():
    async def main():
        server = Server()
        client = attempt(Upstream(server))
        client.peer.write(startup(user="app", database="shop"))
        opened = await client.opened()
        assert opened.user == "app"
        assert server.received == [startup(user="app", database="shop"), message(b"p", TOKEN.encode() + b"\0")]
        assert b"".join([message(*each) for each in await client.messages()]) == LOGGED_IN

    run(main)


def test_bytes_go_both_ways_after_the_login():
    async def main():
        server = Server(answers=[ASK_CLEARTEXT, LOGGED_IN + b"early"])
        upstream = Upstream(server)
        client = attempt(upstream)
        client.peer.write(startup(user="app") + b"query")
        opened = await client.opened()
        client.proxy.forward_to(opened.upstream)
        opened.upstream.forward_to(client.proxy)
        await client.messages()
        assert await client.peer.read(5) == b"early"
        assert await upstream.peers[0].read(5) == b"query"

    run(main)


@pytest.mark.parametrize("version", [3 << 16, (3 << 16) + 2, (3 << 16) + 9999])
def test_the_protocol_s_version_and_all_parameters_are_passed_on(version):
    parameters = {
        "application_name": "x y",
        "options": "-c search_path=a\\ b",
        "replication": "database",
        "_pq_.command": "1",
        "database": "ship shape",
    }

    async def main():
        server = Server()
        client = attempt(Upstream(server), listener=Listener("orders", user="app"))
        client.peer.write(startup(version, **parameters, user="somebody"))
        await client.login
        return server.received[0]

    assert run(main) == startup(version, user="app", **parameters)


def test_a_user_that_a_client_names_twice_becomes_the_listener_s_alone():
    body = b"user\0app\0database\0shop\0user\0evil\0\0"

    async def main():
        server = Server()
        client = attempt(Upstream(server), listener=Listener("orders", user="app"))
        client.peer.write(struct.pack("!II", len(body) + 8, 3 << 16) + body)
        await client.login
        return server.received[0]

    assert run(main) == startup(user="app", database="shop")


def test_a_client_that_names_its_user_twice_is_judged_by_the_last_as_servers_do():
    body = b"user\0app\0user\0evil\0\0"

    async def main():
        upstream = Upstream(Server())
        client = attempt(upstream, listener=Listener("orders", users=frozenset({"app"})))
        client.peer.write(struct.pack("!II", len(body) + 8, 3 << 16) + body)
        with pytest.raises(ClientRefused, match="evil"):
            await client.login
        assert upstream.addresses == []

    run(main)


@pytest.mark.parametrize(
    "answers",
    [
        [NEGOTIATE + ASK_CLEARTEXT, LOGGED_IN],
        [NOTICE + ASK_CLEARTEXT, NOTICE + LOGGED_IN],
        [ASK_CLEARTEXT, AUTHENTICATION_OK + message(b"S", b"a\0b\0") + NOTICE + READY],  # no key
        [ASK_CLEARTEXT, AUTHENTICATION_OK + message(b"K", struct.pack("!I", 1) + b"x" * 32) + READY],
        [AUTHENTICATION_OK + READY],  # lets everybody in
        [ASK_CLEARTEXT, AUTHENTICATION_OK + NOTICE * 20_000 + READY],
    ],
    ids=["negotiation", "notices", "no key", "long key", "no request", "many notices"],
)
def test_everything_that_the_server_says_reaches_the_client(answers):
    async def main():
        client = attempt(Upstream(Server(answers)))
        client.peer.write(startup(user="app"))
        messages = await client.messages()
        assert await client.login is not None
        return b"".join(message(*each) for each in messages)

    assert run(main) == b"".join(answers).replace(ASK_CLEARTEXT, b"")


def test_a_denied_token_ends_the_login_at_once():
    async def denied(user):
        raise UpstreamFailed(f"{user} is revoked", "user-revoked")

    async def silent(peer):
        await peer.ended()

    async def main():
        upstream = Upstream(silent, make_token=denied)
        client = attempt(upstream)
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed):
            await client.login
        await asyncio.wait(upstream.tasks)
        return await client.error()

    assert run(main) == {"S": "FATAL", "V": "FATAL", "C": "28000", "M": "app is revoked"}


def test_the_token_is_made_while_the_connection_is():
    async def main():
        asked = asyncio.Event()

        async def make_token(user):
            asked.set()
            return TOKEN

        async def script(peer):
            await asked.wait()  # before TLS
            await server(peer)

        server = Server()
        client = attempt(Upstream(script, make_token=make_token))
        client.peer.write(startup(user="app"))
        assert await client.login is not None

    run(main)


def test_no_token_is_made_for_a_database_that_can_not_be_reached():
    class Away(Upstream):
        async def connect(self, address=None):  # noqa: ARG002
            raise UpstreamFailed("no such name", "name")

    async def main():
        upstream = Away(Server())
        client = attempt(upstream)
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed):
            await client.login
        assert upstream.tokens == 0
        return await client.error()

    assert run(main)["C"] == "08006"


def test_a_client_that_half_closes_behind_its_statement_gets_the_answer():
    async def main():
        upstream = Upstream(Server())
        client = attempt(upstream)
        client.peer.write(startup(user="app") + message(b"Q", b"SELECT 1\0"))
        client.peer.end()
        opened = await client.opened()
        client.proxy.forward_to(opened.upstream)
        opened.upstream.forward_to(client.proxy)
        await client.messages()
        assert await upstream.peers[0].read(14) == message(b"Q", b"SELECT 1\0")
        upstream.peers[0].write(READY)
        assert await client.message() == (b"Z", b"I")

    run(main)


def test_a_client_that_leaves_during_the_login_ends_it():
    async def silent(peer):
        await peer.ended()

    async def main():
        upstream = Upstream(silent)
        client = attempt(upstream)
        client.peer.write(startup(user="app"))
        await asyncio.sleep(0.05)
        client.peer.close()
        with pytest.raises(PeerClosed):
            await client.login
        await asyncio.wait(upstream.tasks)

    run(main)


def test_a_login_that_takes_too_long_leaves_the_last_word_to_the_listener():
    async def silent(peer):
        await peer.ended()

    async def main():
        engine = PostgresEngine()
        upstream = Upstream(silent)
        client = attempt(upstream, engine)
        client.peer.write(startup(user="app"))
        await asyncio.sleep(0.05)
        client.login.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.login
        await asyncio.wait(upstream.tasks)
        client.proxy.write(engine.failed("the login took longer than 10 s", "login-timeout"))
        client.proxy.close()
        return await client.error()

    assert run(main)["C"] == "57014"


@pytest.mark.parametrize(
    ("code", "sqlstate"),
    [
        ("too-many-connections", "53300"),
        ("shutting-down", "57P01"),
        ("access-ended", "57P01"),
        ("try-again", "57P03"),
        ("no-answer", "57P03"),
        ("not-allowed", "28000"),
        ("reason-required", "28000"),
        ("expired-credentials", "28000"),
        ("name", "08006"),
        ("something-new", "08006"),
    ],
)
def test_errors_of_the_proxy_have_a_fitting_sqlstate(code, sqlstate):
    assert PostgresEngine().failed("a\0b é \ud800", code) == error(sqlstate, "ab é ?")


def test_the_end_of_a_connection_never_becomes_part_of_a_row():
    """The text of the error would complete the row that was cut off."""

    async def main():
        engine, upstream = PostgresEngine(), Upstream(Server())
        got = []
        for before in (b"", READY, message(b"D", b"x" * 300)[:100], message(b"Z", b"T")):
            client = attempt(upstream, engine)
            client.peer.write(startup(user="app"))
            opened = await client.opened()
            await client.messages()
            client.proxy.forward_to(opened.upstream)
            opened.upstream.forward_to(client.proxy)
            client.peer.write(message(b"Q", b"SELECT 1\0"))
            await upstream.peers[-1].read(14)
            upstream.peers[-1].write(before)
            assert await client.peer.read(len(before)) == before
            Connection(client.proxy, opened, engine).end("access has ended", "access-ended")
            await client.peer.ended()
            got.append(await client.peer.read(client.peer.buffered))
        return got

    ended = error("57P01", "access has ended")
    assert run(main) == [ended, ended, b"", ended]


@pytest.mark.parametrize("replicates", [False, True])
def test_a_connection_is_idle_between_statements_and_may_get_an_error_between_answers(replicates):
    async def main():
        upstream = Upstream(Server())
        client = attempt(upstream)
        client.peer.write(startup(user="app", replication="database") if replicates else startup(user="app"))
        opened = await client.opened()
        await client.messages()
        client.proxy.forward_to(opened.upstream)
        opened.upstream.forward_to(client.proxy)
        states = [(opened.idle(), opened.answered())]
        server = upstream.peers[0]
        for sender, receiver, data in [
            (client.peer, server, message(b"Q", b"SELECT 1\0")),
            (server, client.peer, message(b"D", b"row")),
            (server, client.peer, message(b"C", b"SELECT 1\0") + READY),
            (client.peer, server, message(b"Q", b"BEGIN\0")),
            (server, client.peer, message(b"Z", b"T")),
            (client.peer, server, message(b"Q", b"x\0")),
            (server, client.peer, message(b"Z", b"E")),
        ]:
            sender.write(data)
            assert await receiver.read(len(data)) == data
            states.append((opened.idle(), opened.answered()))
        return states

    idle, answered = zip(*run(main), strict=True)
    assert idle == (True, False, False, True, False, False, False, False)
    between = (True, True, False, True, True, True, True, True)
    assert answered == ((False,) * 8 if replicates else between)


NOTIFICATION = message(b"A", struct.pack("!I", 4711) + b"jobs\0" + b"x" * 300 + b"\0")
SETTING = message(b"S", b"TimeZone\0UTC\0")


@pytest.mark.parametrize(
    ("before", "sent", "idle"),
    [
        (READY, NOTIFICATION, True),
        (READY, NOTIFICATION + SETTING, True),
        (READY, NOTIFICATION[:100], False),
        (READY, NOTIFICATION + message(b"T", b"row"), False),
        (READY, SETTING + READY, True),
        (message(b"Z", b"T"), NOTIFICATION, False),
        (message(b"D", b"row"), NOTIFICATION, False),
    ],
)
def test_what_a_server_sends_by_itself_leaves_a_connection_as_idle_as_it_was(before, sent, idle):
    async def main():
        upstream = Upstream(Server())
        client = attempt(upstream)
        client.peer.write(startup(user="app"))
        opened = await client.opened()
        await client.messages()
        client.proxy.forward_to(opened.upstream)
        opened.upstream.forward_to(client.proxy, aside=opened.aside)
        server = upstream.peers[0]
        for sender, receiver, data in [
            (client.peer, server, message(b"Q", b"LISTEN jobs\0")),
            (server, client.peer, before),
            (server, client.peer, sent),
        ]:
            sender.write(data)
            assert await receiver.read(len(data)) == data
        return opened.idle()

    assert run(main) is idle


def test_nothing_shows_a_token_or_a_key():
    async def main():
        upstream = Upstream(Server())
        engine = PostgresEngine()
        client = attempt(upstream, engine)
        client.peer.write(startup(user="app"))
        opened = await client.opened()
        backend = next(iter(engine._backends._backends.values()))
        opened.closed()
        return repr((opened, backend))

    shown = run(main)
    assert "Signature" not in shown
    assert repr(KEY) not in shown
