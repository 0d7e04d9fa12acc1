"""The client's side of PostgreSQL's engine: encryption, startup packets, the shared secret, users."""

import asyncio
import ssl
import struct

import pytest

from rdsiam.proxy.contracts import ClientRefused, Listener
from rdsiam.proxy.peer import PeerClosed
from tests.unit.proxy.in_memory import HOST, Upstream, contexts
from tests.unit.proxy.peers import run
from tests.unit.proxy.postgres.in_memory import (
    GSSENC_REQUEST,
    LOGGED_IN,
    SSL_REQUEST,
    Server,
    attempt,
    message,
    startup,
)


def packet(body, code=3 << 16):
    return struct.pack("!II", len(body) + 8, code) + body


def password(text):
    return message(b"p", text + b"\0")


def direct_context(*protocols):
    """Return a client's TLS context of its own, which names these protocols in ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for certificate in contexts()[1].get_ca_certs(binary_form=True):
        context.load_verify_locations(cadata=certificate)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


async def logged_in(client):
    assert b"".join([message(*each) for each in await client.messages()]) == LOGGED_IN
    return await client.login


async def refused(client):
    """Return what the log gets, and the error that the client gets: empty if it gets none."""
    with pytest.raises(ClientRefused) as refusal:
        await client.login
    try:
        fields = await client.error()
    except IndexError:
        fields = {}
    return str(refusal.value), fields


@pytest.mark.parametrize(
    "requests",
    [[], [SSL_REQUEST], [GSSENC_REQUEST], [SSL_REQUEST, GSSENC_REQUEST], [GSSENC_REQUEST, SSL_REQUEST]],
    ids=["none", "tls", "gss", "tls gss", "gss tls"],
)
def test_encryption_is_declined_without_a_certificate(requests):
    async def main():
        client = attempt(Upstream(Server()))
        for request in requests:
            client.peer.write(request)
            assert await client.peer.read(1) == b"N"
        client.peer.write(startup(user="app"))
        await logged_in(client)

    run(main)


@pytest.mark.parametrize("gss", [False, True], ids=["tls", "gss tls"])
def test_tls_is_given_with_a_certificate(gss):
    async def main():
        client = attempt(Upstream(Server()), tls=contexts()[0], tls_required=True)
        if gss:
            client.peer.write(GSSENC_REQUEST)
            assert await client.peer.read(1) == b"N"
        client.peer.write(SSL_REQUEST)
        assert await client.peer.read(1) == b"S"
        await client.peer.start_tls(contexts()[1], HOST)
        client.peer.write(startup(user="app"))
        await logged_in(client)

    run(main)


def test_tls_from_the_first_byte_names_the_protocol():
    async def main():
        client = attempt(Upstream(Server()), tls=contexts()[0], tls_required=True)
        await client.peer.start_tls(direct_context("postgresql"), HOST)
        assert client.peer.tls is not None
        assert client.peer.tls.selected_alpn_protocol() == "postgresql"
        client.peer.write(startup(user="app"))
        await logged_in(client)

    run(main)


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)], ids=str)
def test_tls_from_the_first_byte_of_another_protocol_is_closed(protocols):
    async def main():
        upstream = Upstream(Server())
        client = attempt(upstream, tls=contexts()[0])
        await client.peer.start_tls(direct_context(*protocols), HOST)
        client.peer.write(startup(user="app"))
        assert "ALPN" in (await refused(client))[0]
        assert upstream.addresses == []

    run(main)


def test_tls_from_the_first_byte_without_a_certificate_is_closed():
    async def main():
        client = attempt(Upstream(Server()))
        with pytest.raises((PeerClosed, OSError)):
            await client.peer.start_tls(direct_context("postgresql"), HOST)
        assert await refused(client) == ("the first bytes are not PostgreSQL's protocol", {})

    run(main)


@pytest.mark.parametrize(
    "requests",
    [[SSL_REQUEST, SSL_REQUEST], [GSSENC_REQUEST, GSSENC_REQUEST], [SSL_REQUEST, GSSENC_REQUEST, SSL_REQUEST]],
    ids=["tls", "gss", "tls again"],
)
def test_a_second_request_for_encryption_is_an_unknown_protocol(requests):
    async def main():
        client = attempt(Upstream(Server()))
        for request in requests[:-1]:
            client.peer.write(request)
            assert await client.peer.read(1) == b"N"
        client.peer.write(requests[-1])
        reason, fields = await refused(client)
        assert "unsupported frontend protocol 1234.56" in reason
        assert fields["C"] == "0A000"

    run(main)


@pytest.mark.parametrize("request_", [SSL_REQUEST, GSSENC_REQUEST], ids=["tls", "gss"])
def test_a_request_for_encryption_inside_of_tls_is_an_unknown_protocol(request_):
    async def main():
        client = attempt(Upstream(Server()), tls=contexts()[0])
        client.peer.write(SSL_REQUEST)
        await client.peer.read(1)
        await client.peer.start_tls(contexts()[1], HOST)
        client.peer.write(request_)
        assert (await refused(client))[1]["C"] == "0A000"

    run(main)


def test_bytes_between_the_request_for_tls_and_its_answer_are_refused():
    async def main():
        upstream = Upstream(Server())
        client = attempt(upstream, tls=contexts()[0])
        client.peer.write(SSL_REQUEST + startup(user="app"))
        reason, fields = await refused(client)
        assert reason == "unencrypted bytes came after the request for TLS"
        assert fields["C"] == "08P01"
        assert upstream.addresses == []

    run(main)


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x15\x03\x03\x00\x02\x02\x28"]
)
def test_a_failed_handshake_is_closed_and_noted(sent):
    async def main():
        client = attempt(Upstream(Server()), tls=contexts()[0])
        client.peer.write(SSL_REQUEST)
        assert await client.peer.read(1) == b"S"
        client.peer.write(sent)
        client.peer.end()
        with pytest.raises((ClientRefused, PeerClosed)):
            await client.login

    run(main)


def test_without_tls_a_client_is_refused_before_it_gives_a_password():
    async def main():
        client = attempt(Upstream(Server()), secret=b"secret", tls=contexts()[0], tls_required=True)
        client.peer.write(startup(user="app"))
        reason, fields = await refused(client)
        assert "sslmode=verify-full" in reason
        assert fields == {"S": "FATAL", "V": "FATAL", "C": "28000", "M": reason}

    run(main)


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"\0\0\0\0\0\0\0\0", b"\0\0\0\7\0\3\0\0", b"\xff" * 8,
     struct.pack("!II", 10_001, 3 << 16)],
    ids=str,
)  # fmt: skip
def test_bytes_of_another_protocol_get_no_answer(sent):
    async def main():
        upstream = Upstream(Server())
        client = attempt(upstream)
        client.peer.write(sent)
        assert await refused(client) == ("the first bytes are not PostgreSQL's protocol", {})
        assert upstream.addresses == []

    run(main)


@pytest.mark.parametrize(("code", "version"), [(2 << 16, "2.0"), (1 << 16, "1.0"), ((4 << 16) + 1, "4.1"), (0, "0.0")])
def test_other_major_versions_are_refused(code, version):
    async def main():
        client = attempt(Upstream(Server()))
        client.peer.write(packet(b"\0" * 288, code))
        reason, fields = await refused(client)
        assert reason == f"unsupported frontend protocol {version}: the proxy supports protocol 3"
        assert fields["C"] == "0A000"

    run(main)


@pytest.mark.parametrize(
    "body",
    [b"user\0app\0", b"user\0app", b"user\0app\0database\0\0", b"user\0app\0\0more\0", b"user\0app\0\0\0", b"x", b"",
     b"\0\0", b"user\0\0", b"\0app\0\0"],
    ids=str,
)  # fmt: skip
def test_a_startup_packet_of_another_layout_is_refused(body):
    async def main():
        upstream = Upstream(Server())
        client = attempt(upstream)
        client.peer.write(packet(body))
        assert (await refused(client))[1]["C"] == "08P01"
        assert upstream.addresses == []

    run(main)


@pytest.mark.parametrize("length", [9_900, 9_984])
def test_a_startup_packet_is_passed_on_up_to_the_length_that_servers_take(length):
    text = "x" * (length - 8 - len("user\0app\0options\0\0\0"))

    async def main():
        server = Server()
        client = attempt(Upstream(server), listener=Listener("orders", user="a_longer_user"))
        client.peer.write(startup(user="app", options=text))
        await logged_in(client)
        return server.received[0]

    assert run(main) == startup(user="a_longer_user", options=text)


def test_a_startup_packet_that_the_user_makes_too_long_is_refused():
    text = "x" * (10_000 - 8 - len("user\0app\0options\0\0\0"))

    async def main():
        client = attempt(Upstream(Server()), listener=Listener("orders", user="a_longer_user"))
        client.peer.write(startup(user="app", options=text))
        assert (await refused(client))[1]["C"] == "08P01"

    run(main)


@pytest.mark.parametrize("user", ["", None])
def test_the_listener_s_user_needs_no_other(user):
    async def main():
        server = Server()
        client = attempt(Upstream(server), listener=Listener("orders", user="app"))
        client.peer.write(startup(database="shop") if user is None else startup(user=user, database="shop"))
        await logged_in(client)
        return server.received[0]

    assert run(main) == startup(user="app", database="shop")


def test_a_startup_packet_without_parameters_is_one():
    async def main():
        server = Server()
        client = attempt(Upstream(server), listener=Listener("orders", user="app"))
        client.peer.write(packet(b"\0"))
        await logged_in(client)
        return server.received[0]

    assert run(main) == startup(user="app")


@pytest.mark.parametrize("user", ["app", "größe", "with space", 'q"uote', "x" * 63])
def test_a_client_names_its_user_if_the_listener_names_none(user):
    async def main():
        server = Server()
        client = attempt(Upstream(server), listener=Listener("orders", users=frozenset({user, "other"})))
        client.peer.write(startup(user=user))
        opened = await logged_in(client)
        assert opened.user == user
        return server.received[0]

    assert run(main) == startup(user=user)


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (b"", "no PostgreSQL user name"),
        (b"root", 'no user "root"; it takes app, web'),
        (b"App", 'no user "App"'),
        (b"app ", 'no user "app "'),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 64, "longer than 63 bytes"),
        ("ö".encode() * 32, "longer than 63 bytes"),
    ],
)
def test_other_users_are_refused(user, reason):
    async def main():
        upstream = Upstream(Server())
        client = attempt(upstream, listener=Listener("orders", users=frozenset({"app", "web"})))
        client.peer.write(packet(b"user\0" + user + b"\0\0" if user else b"\0"))
        noted, fields = await refused(client)
        assert reason in noted
        assert fields["C"] == "28000"
        assert upstream.addresses == []

    run(main)


def test_the_secret_lets_a_client_in():
    async def main():
        client = attempt(Upstream(Server()), secret="größe".encode())
        client.peer.write(startup(user="app"))
        assert await client.message() == (b"R", struct.pack("!I", 3))
        client.peer.write(password("größe".encode()))
        await logged_in(client)

    run(main)


@pytest.mark.parametrize("secret", [b"secret", b""], ids=["secret", "no secret"])
@pytest.mark.parametrize(
    "sent", [b"", b"secre", b"secret ", b"Secret", b"secret\0", b"secret\0secret", b"\xff", b"x" * 9_000]
)
def test_another_password_is_refused(secret, sent):
    async def main():
        upstream = Upstream(Server())
        client = attempt(upstream, secret=secret, listener=Listener("orders", users=frozenset({"other"})))
        client.peer.write(startup(user="app"))
        await client.message()
        client.peer.write(password(sent))
        reason, fields = await refused(client)
        problem = "rdsiam proxy asks for its own password, and got another one"
        assert reason == f'password authentication failed for user "app": {problem}'
        assert fields["C"] == "28P01"
        assert upstream.addresses == []

    run(main)


@pytest.mark.parametrize(
    "sent", [message(b"p", b"secret"), message(b"p"), message(b"Q", b"SELECT 1\0"), b"p\0\0\0\3", b"p\x7f\xff\xff\xff"]
)
def test_anything_but_a_password_is_refused(sent):
    async def main():
        upstream = Upstream(Server())
        client = attempt(upstream, secret=b"secret")
        client.peer.write(startup(user="app"))
        await client.message()
        client.peer.write(sent)
        assert (await refused(client))[1]["C"] == "08P01"
        assert upstream.addresses == []

    run(main)


@pytest.mark.parametrize("sent", [b"", SSL_REQUEST[:4], SSL_REQUEST, startup(user="app")[:-1]], ids=str)
def test_a_client_that_leaves_before_its_startup_packet_is_forgotten(sent):
    async def main():
        client = attempt(Upstream(Server()))
        client.peer.write(sent)
        client.peer.close()
        with pytest.raises(PeerClosed):
            await asyncio.wait_for(client.login, 5)

    run(main)
