"""Servers of PostgreSQL that refuse a login, ask otherwise, break the protocol, leave or have no TLS to be trusted."""

import asyncio
import ssl
import struct

import pytest

from rdsiam.proxy.contracts import UpstreamFailed
from rdsiam.proxy.postgres.engine import PostgresEngine
from rdsiam.proxy.sentences import explained
from tests.unit.proxy.in_memory import TOKEN, Upstream, contexts
from tests.unit.proxy.peers import run
from tests.unit.proxy.postgres.in_memory import (
    ASK_CLEARTEXT,
    AUTHENTICATION_OK,
    KEY_DATA,
    LOGGED_IN,
    SSL_REQUEST,
    Server,
    attempt,
    error,
    message,
    startup,
)


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
