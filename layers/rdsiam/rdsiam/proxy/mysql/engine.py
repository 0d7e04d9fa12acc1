"""The login of a client of MySQL or MariaDB through the proxy."""

import asyncio
import contextlib
import shlex
from collections.abc import Iterator
from typing import Final

from rdsiam.proxy import tasks
from rdsiam.proxy.contracts import Client, Listener, Opened, Token, Upstream, UpstreamFailed
from rdsiam.proxy.mysql.client_login import ClientLogin
from rdsiam.proxy.mysql.commands import Commands
from rdsiam.proxy.mysql.compression import refuse_compressed
from rdsiam.proxy.mysql.handshake import COMPRESSION, QUERY_ATTRIBUTES
from rdsiam.proxy.mysql.idle import file_may_begin, is_idle
from rdsiam.proxy.mysql.packets import Malformed, error
from rdsiam.proxy.mysql.server_login import NoTokenAsked, ServerLogin, ServerRefused
from rdsiam.proxy.peer import PeerClosed

__all__ = ["MySQLEngine"]

#: Seconds in which a health check that says nothing is known by its end, before the database is asked.
_LOOK: Final = 0.002
#: Seconds for a client's part of the login. A server waits for 10 (`connect_timeout`).
_CLIENT_LIMIT: Final = 8.0
#: Seconds for a token, for the same reason.
_TOKEN_LIMIT: Final = 8.0
#: Seconds for a server to greet, and to answer a login.
_SERVER_LIMIT: Final = 10.0

_DENIED: Final = (1045, "28000")
_TOO_MANY: Final = (1040, "08004")
_ENDED: Final = (1053, "08S01")
#: Code of rdsiam → number and SQLSTATE. All others are failures of the connection.
_NUMBERS: Final = {
    "access-ended": _ENDED,
    "expired-credentials": _DENIED,
    "login": _DENIED,
    "login-timeout": (1159, "08S01"),
    "not-allowed": _DENIED,
    "reason-required": _DENIED,
    "shutting-down": _ENDED,
    "too-many-connections": _TOO_MANY,
    "too-many-new-connections": _TOO_MANY,
    "try-again": _TOO_MANY,
    "user-revoked": _DENIED,
}
_CONNECTION_FAILURE: Final = (1105, "08S01")


class MySQLEngine:
    """The protocol of MySQL and MariaDB; see `Engine`.

    A server speaks first, and its greeting has the number of the connection, which a client needs to cancel a
    statement (KILL QUERY). So the proxy connects to the database before it greets the client.
    """

    async def login(self, client: Client, upstream: Upstream) -> Opened | None:
        """Take a client's login, log in upstream, and tell the client; see `Engine.login`."""
        await _wait_for_silence(client)
        login = ClientLogin(client)
        with _translate_errors(login, upstream, client.listener):
            server = await ServerLogin.reach(upstream, _SERVER_LIMIT)
        try:
            await _take_client(login, server)
            with _translate_errors(login, upstream, client.listener):
                await server.start_tls(upstream, login.response)
                server, token = await _get_token(login, server, upstream)
                async with asyncio.timeout(_SERVER_LIMIT):
                    answer = await server.log_in(token)
        except asyncio.CancelledError:
            login.fail(1159, "08S01", "the login took too long for rdsiam proxy, or it is shutting down")
            await server.give_up()
            raise
        except Exception:
            await server.give_up()
            raise
        try:
            login.accept(answer)
        except PeerClosed:
            server.quit()
            raise
        attributes = login.response.capabilities & server.greeting.capabilities & QUERY_ATTRIBUTES
        peer = server.peer
        inspect = Commands(bool(attributes), lambda: file_may_begin(peer.tail)).inspect
        return Opened(
            peer,
            login.user,
            refuse_compressed(client.peer, inspect) if login.response.capabilities & COMPRESSION else inspect,
            idle=lambda: client.peer.silent or is_idle(peer.tail),
            answered=lambda: not peer.tail,
        )

    def failed(self, message: str, code: str) -> bytes:
        """Return an error before a login; see `Engine.failed`. A client expects no SQLSTATE before the greeting."""
        payload = error(_NUMBERS.get(code, _CONNECTION_FAILURE)[0], "", message)
        return len(payload).to_bytes(3, "little") + b"\0" + payload


async def _wait_for_silence(client: Client) -> None:
    """Return if a client waits for the greeting, as all do.

    Otherwise each look at an open port would open a connection to the database, and end it before a login.

    :raises PeerClosed: the client has gone: a health check, a scan of ports.
    :raises ClientRefused: it speaks first, which clients of MySQL don't.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOOK):
            await client.peer.peek(1)
            raise ClientLogin(client).refuse(1043, "", "Bad handshake: this port speaks MySQL's protocol")


async def _get_token(login: ClientLogin, server: ServerLogin, upstream: Upstream) -> tuple[ServerLogin, Token]:
    """Return a token, and the server to send it to.

    If tokens are so scarce that the server would not wait for this one, the connection is given up, and there is
    another for the token. The client has the number of the first one, by which it then can't cancel statements.
    """
    asking = asyncio.ensure_future(upstream.token(login.user))
    try:
        await asyncio.wait([asking], timeout=_TOKEN_LIMIT)
        if asking.done():
            return server, await asking
        await server.give_up()
        token = await asking
    finally:
        await tasks.end(asking)
    server = await ServerLogin.reach(upstream, _SERVER_LIMIT)
    try:
        await server.start_tls(upstream, login.response)
    except BaseException:
        server.peer.close()
        raise
    return server, token


async def _take_client(login: ClientLogin, server: ServerLogin) -> None:
    try:
        async with asyncio.timeout(_CLIENT_LIMIT):
            await login.take(server.greeting)
    except TimeoutError:
        message = "Got timeout reading communication packets: the client's login took too long"
        raise login.refuse(1159, "08S01", message) from None


@contextlib.contextmanager
def _translate_errors(login: ClientLogin, upstream: Upstream, listener: Listener) -> Iterator[None]:
    """Tell the client what the database, or rdsiam, refuses.

    :raises UpstreamFailed: that happened.
    """
    try:
        yield
    except UpstreamFailed as failure:
        login.fail(*_NUMBERS.get(failure.code, _CONNECTION_FAILURE), str(failure))
        raise
    except ServerRefused as refusal:
        # Known errors are found by their number as well: servers speak many languages.
        message = upstream.explain(f"{refusal.number} {refusal.text}").removeprefix(f"{refusal.number} ")
        login.fail(refusal.number, refusal.state or "HY000", message)
        raise UpstreamFailed(message, "login") from None
    except (NoTokenAsked, Malformed, PeerClosed, TimeoutError) as problem:
        (number, state), message = _sentence(problem, login.user, listener)
        login.fail(number, state, message)
        raise UpstreamFailed(message, "login") from None


def _sentence(problem: Exception, user: str, listener: Listener) -> tuple[tuple[int, str], str]:
    """Return the number and the message of a login that a server didn't answer as it should."""
    match problem:
        case NoTokenAsked():
            return _DENIED, (
                f"Access denied for user {user!r}: the database asks for no token, so there is no such user, or none "
                f"with AWSAuthenticationPlugin; rdsiam doctor {listener.database} {shlex.quote(user)}"
            )
        case Malformed():
            return _CONNECTION_FAILURE, f"the database doesn't speak MySQL's protocol as expected: {problem}"
        case TimeoutError():
            return _NUMBERS["login-timeout"], "the database didn't answer in time"
        case _:
            return _CONNECTION_FAILURE, "the database closed the connection during the login"
