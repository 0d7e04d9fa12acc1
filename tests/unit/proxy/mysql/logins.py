"""Scripts of MySQL's servers for a login, and the error with which one ends."""

import pytest

from tests.unit.proxy.mysql.fakes import (
    OK,
    greeting,
)

CLEARTEXT = b"\xfemysql_clear_password\0"
NO_SUCH_USER = b"\xff\x15\x04#28000Access denied for user 'rdsiam_proxy_no_login'"


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
