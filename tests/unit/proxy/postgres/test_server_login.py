"""Logins through PostgreSQL's engine: what the server gets, and what the client gets."""

import asyncio
import ssl
import struct

import pytest

from rdsiam.proxy.connections import Connection
from rdsiam.proxy.contracts import ClientRefused, Listener, UpstreamFailed
from rdsiam.proxy.peer import PeerClosed
from rdsiam.proxy.postgres.engine import PostgresEngine
from rdsiam.proxy.sentences import explained
from tests.unit.proxy.peers import run
from tests.unit.proxy.postgres.in_memory import (
    ASK_CLEARTEXT,
    AUTHENTICATION_OK,
    KEY,
    KEY_DATA,
    LOGGED_IN,
    READY,
    SSL_REQUEST,
    TOKEN,
    Server,
    Upstream,
    attempt,
    contexts,
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


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([error("28000", 'PAM authentication failed for user "app"', D="d", F="auth.c", L="1")], "28000"),
        ([ASK_CLEARTEXT, error("28P01", "no", H="theirs")], "28P01"),
        ([ASK_CLEARTEXT, AUTHENTICATION_OK + error("3D000", 'database "x" does not exist')], "3D000"),
        ([ASK_CLEARTEXT, AUTHENTICATION_OK + KEY_DATA + error("57P01", "terminating")], "57P01"),
        ([error("53300", "sorry, too many clients already")], "53300"),
    ],
    ids=["at once", "after the token", "after the login", "after the key", "too many"],
)
def test_an_error_of_the_server_reaches_the_client_with_a_hint(answers, code):
    engine = PostgresEngine()

    async def main():
        upstream = Upstream(Server(answers), sentence="ask the administrator")
        client = attempt(upstream, engine)
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed) as failed:
            await client.login
        fields = await client.error()
        await upstream.peers[0].ended()
        return fields, failed.value

    fields, failure = run(main)
    assert fields["C"] == code
    assert fields["H"] == ("theirs\nask the administrator" if code == "28P01" else "ask the administrator")
    if "D" in fields:
        assert (fields["D"], fields["F"], fields["L"]) == ("d", "auth.c", "1")
    assert "ask the administrator" in str(failure)
    assert failure.code == "login"
    assert len(engine._backends) == 0


def test_an_unknown_error_is_passed_on_as_it_is():
    refusal = error("XX000", "é\u2028", D="detail").replace(b"detail", b"\xff\xfe\1\n%s")

    async def main():
        client = attempt(Upstream(Server([refusal])))
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed):
            await client.login
        return message(*(await client.messages())[0])

    assert run(main) == refusal


def test_an_error_that_quotes_the_token_reaches_nobody_with_it():
    async def main():
        client = attempt(Upstream(Server([ASK_CLEARTEXT, error("28000", f"bad password {TOKEN}", D=f"<{TOKEN}>")])))
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed) as failed:
            await client.login
        return str(failed.value), str(await client.error())

    for text in run(main):
        assert "Signature" not in text
        assert "(token)" in text


@pytest.mark.parametrize(
    ("method", "name"), [(5, "MD5"), (10, "SASL"), (7, "GSSAPI"), (2, "Kerberos"), (9, "SSPI"), (99, "unknown")]
)
def test_a_server_that_wants_a_password_gets_no_token(method, name):
    async def main():
        server = Server([message(b"R", struct.pack("!I", method) + b"SCRAM-SHA-256\0\0")])
        client = attempt(Upstream(server, sentence="onboard"))
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed, match=name):
            await client.login
        assert server.received == [startup(user="app")]
        return await client.error()

    fields = run(main)
    assert fields["C"] == "28000"
    assert "onboard" in fields["M"]


@pytest.mark.parametrize("method", [5, 10])
def test_a_denial_is_the_reason_if_the_server_wants_a_password_of_an_unknown_user(method):
    async def main():
        answered = asyncio.Event()

        async def denied(_):
            await answered.wait()
            raise UpstreamFailed("bob may not log in", "not-allowed")

        server = Server([message(b"R", struct.pack("!I", method))])
        client = attempt(Upstream(server, make_token=denied))
        client.peer.write(startup(user="bob"))
        while not server.received:
            await asyncio.sleep(0)
        answered.set()
        with pytest.raises(UpstreamFailed, match="bob may not log in"):
            await client.login
        return await client.error()

    assert run(main)["M"] == "bob may not log in"


@pytest.mark.parametrize(
    "answers",
    [
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [message(b"T")],
        [message(b"R", b"\0\0")],
        [message(b"R", struct.pack("!IB", 3, 1))],
        [b"R\0\0\0\3"],
        [b"N\x7f\0\0\0"],
        [message(b"Z", b"I")],
        [KEY_DATA],
        [message(b"E")],
        [message(b"E", b"no end")],
        [message(b"E", b"S\0\0C\0\0")],
        [ASK_CLEARTEXT, ASK_CLEARTEXT, LOGGED_IN],
        [ASK_CLEARTEXT, AUTHENTICATION_OK + AUTHENTICATION_OK],
        [ASK_CLEARTEXT, AUTHENTICATION_OK + KEY_DATA + KEY_DATA],
        [ASK_CLEARTEXT, AUTHENTICATION_OK + message(b"K", b"123")],
        [ASK_CLEARTEXT, AUTHENTICATION_OK + message(b"K", b"1" * 261)],
        [ASK_CLEARTEXT, AUTHENTICATION_OK + message(b"D", b"row")],
    ],
    ids=str,
)
def test_a_server_that_breaks_the_protocol_is_left_and_the_client_told(answers):
    engine = PostgresEngine()

    async def main():
        server = Server(answers)
        upstream = Upstream(server)
        client = attempt(upstream, engine)
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed, match="breaks PostgreSQL's protocol"):
            await client.login
        assert (await client.error())["C"] == "28000"
        await upstream.peers[0].ended()
        assert server.received.count(message(b"p", TOKEN.encode() + b"\0")) <= 1

    run(main)
    assert len(engine._backends) == 0


@pytest.mark.parametrize("answers", [[], [ASK_CLEARTEXT, b""], [ASK_CLEARTEXT, LOGGED_IN[:-1]]], ids=str)
def test_a_server_that_leaves_during_the_login_is_an_error(answers):
    async def main():
        client = attempt(Upstream(Server(answers, closes=True)))
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed, match="closed the connection during the login"):
            await client.login
        assert (await client.error())["M"] == "the database closed the connection during the login"

    run(main)


@pytest.mark.parametrize(
    "answer", [b"N", b"G", b"E", error("53300", "sorry, too many clients already"), b"\0", b"SN", b"S" + LOGGED_IN, b""]
)
def test_a_server_without_tls_gets_nothing(answer):
    received = []

    async def script(peer):
        assert await peer.read(8) == SSL_REQUEST
        peer.write(answer)
        if not answer:
            peer.close()
        await peer.ended()
        received.append(peer.buffered)

    async def main():
        upstream = Upstream(script)
        client = attempt(upstream)
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed) as failed:
            await client.login
        assert failed.value.code == "tls"
        fields = await client.error()
        await asyncio.wait(upstream.tasks)
        return fields

    fields = run(main)
    assert fields["C"] == "08006"
    assert "too many" not in fields["M"]  # it was not authenticated
    assert received == [0]


@pytest.mark.parametrize("verified", [False, True], ids=["nothing verified", "the name not verified"])
def test_a_server_whose_certificate_was_not_verified_gets_nothing(verified):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if verified:
        for certificate in contexts()[1].get_ca_certs(binary_form=True):
            context.load_verify_locations(cadata=certificate)
    else:
        context.verify_mode = ssl.CERT_NONE

    class Careless(Upstream):
        async def start_tls(self, peer):
            await peer.start_tls(context, "db.example")

    async def main():
        server = Server()
        client = attempt(Careless(server))
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed, match="not verified"):
            await client.login
        assert server.received == []

    run(main)


def test_a_server_of_another_name_gets_nothing():
    async def main():
        server = Server()
        client = attempt(Upstream(server, name="db.example"))
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed, match="TLS"):
            await client.login
        assert server.received == []
        assert (await client.error())["C"] == "08006"

    run(main)


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


def test_a_server_that_lets_everybody_in_does_not_let_in_a_user_without_a_token():
    async def denied(user):
        await asyncio.sleep(0.05)
        raise UpstreamFailed("access.yaml doesn't allow it", "not-allowed")

    async def main():
        client = attempt(Upstream(Server([LOGGED_IN]), make_token=denied))
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed):
            await client.login
        return [kind for kind, _ in await client.messages()]

    assert run(main) == [b"E"]


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


@pytest.mark.parametrize("method", [5, 10])
def test_doctor_knows_what_a_server_that_wants_a_password_means(method):
    class Knowing(Upstream):
        def explain(self, text):
            return explained(text, "orders")

    async def main():
        client = attempt(Knowing(Server([message(b"R", struct.pack("!I", method) + b"salt")])))
        client.peer.write(startup(user="x" * 63))
        with pytest.raises(UpstreamFailed):
            await client.login
        return await client.error()

    assert "not in rds_iam, or IAM authentication is off; rdsiam onboard orders" in run(main)["M"]


def test_doctor_s_sentence_is_the_hint_of_a_refused_token():
    class Knowing(Upstream):
        def explain(self, text):
            return explained(text, "orders")

    async def main():
        client = attempt(Knowing(Server([ASK_CLEARTEXT, error("28000", 'PAM authentication failed for user "app"')])))
        client.peer.write(startup(user="app"))
        with pytest.raises(UpstreamFailed):
            await client.login
        return await client.error()

    fields = run(main)
    assert fields["M"] == 'PAM authentication failed for user "app"'
    assert fields["H"].startswith("the token was refused: ")
    assert fields["H"].endswith("rdsiam doctor orders USER")
