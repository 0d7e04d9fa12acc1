"""The client's side of a login: TLS, the startup packet, the shared secret, and the user."""

import hmac
import ssl

from rdsiam.proxy.contracts import Client, Listener
from rdsiam.proxy.postgres.messages import (
    ASK_FOR_PASSWORD,
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    MAX_STARTUP,
    MAX_USER,
    SSL_REQUEST,
    CancelRequest,
    Malformed,
    Startup,
    parse_cancel_request,
    parse_startup,
    read_message,
    read_startup_packet,
)

#: Type of the first record of a TLS handshake.
_TLS_RECORD = b"\x16"
_ALPN = "postgresql"


class Refusal(Exception):
    """The proxy refuses a client.

    :ivar sqlstate: of the answer; None: the connection is closed without one.
    """

    def __init__(self, message: str, sqlstate: str | None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


async def read_startup(client: Client) -> Startup | CancelRequest | None:
    """Negotiate encryption, and return the first packet that asks for something; None for a malformed cancel request.

    Requests for TLS and for GSSAPI's encryption come in any order, each at most once, as a server takes them. A client
    may begin with TLS at once, as PostgreSQL 17's can.

    :raises Refusal: TLS failed, or the bytes are not the protocol's.
    """
    requests: set[int] = set()
    if client.tls is not None and await client.peer.peek(1) == _TLS_RECORD:
        await _start_tls(client, client.tls, direct=True)
        requests |= {SSL_REQUEST, GSSENC_REQUEST}
    while True:
        try:
            code, body = await read_startup_packet(client.peer)
            if code == CANCEL_REQUEST:
                return parse_cancel_request(body)
            if code not in {SSL_REQUEST, GSSENC_REQUEST} or body or code in requests:
                return parse_startup(code, body)
        except Malformed as malformed:
            raise Refusal(str(malformed), malformed.sqlstate) from None
        requests.add(code)
        if code == SSL_REQUEST and client.tls is not None:
            if client.peer.buffered:
                # Somebody between client and proxy may have put them into the stream (CVE-2021-23214).
                raise Refusal("unencrypted bytes came after the request for TLS", "08P01")
            client.peer.write(b"S")
            await _start_tls(client, client.tls)
            requests.add(GSSENC_REQUEST)  # refused inside of TLS
        else:
            client.peer.write(b"N")


async def _start_tls(client: Client, context: ssl.SSLContext, direct: bool = False) -> None:
    """Change to TLS.

    :param direct: the client has not asked for it in the protocol, so it has to name the protocol in the handshake:
        else a web browser could be led here (ALPACA).
    """
    context.set_alpn_protocols([_ALPN])
    try:
        await client.peer.start_tls(context)
    except OSError as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise Refusal(f"TLS with the client failed: {reason}", None) from None
    if direct and (client.peer.tls is None or client.peer.tls.selected_alpn_protocol() != _ALPN):
        raise Refusal(f'TLS from the first byte needs the protocol "{_ALPN}" in ALPN', None)


async def admit(client: Client, startup: Startup) -> str:
    """Check a client's encryption, secret and user, in this order, and return the database user that it becomes.

    :raises Refusal: one of them is not as the listener requires.
    """
    if client.tls_required and client.peer.tls is None:
        raise Refusal("this proxy takes connections with TLS only; connect with sslmode=verify-full", "28000")
    if client.secret is not None:
        await _check_secret(client, client.secret, startup)
    return _user(client.listener, startup)


async def _check_secret(client: Client, secret: bytes, startup: Startup) -> None:
    client.peer.write(ASK_FOR_PASSWORD)
    try:
        answer = await read_message(client.peer, MAX_STARTUP)
    except Malformed as malformed:
        raise Refusal(str(malformed), malformed.sqlstate) from None
    if answer.kind != b"p" or not answer.body.endswith(b"\0"):
        raise Refusal("expected a password", "08P01")
    password = answer.body[:-1]
    if not password or not hmac.compare_digest(password, secret):
        name = startup.user.decode(errors="replace")
        problem = "rdsiam proxy asks for its own password, and got another one"
        raise Refusal(f'password authentication failed for user "{name}": {problem}', "28P01")


def _user(listener: Listener, startup: Startup) -> str:
    if listener.user is not None:
        return listener.user
    if not startup.user:
        raise Refusal("no PostgreSQL user name specified in startup packet", "28000")
    try:
        user = startup.user.decode()
    except UnicodeDecodeError:
        raise Refusal("the user's name is not UTF-8", "28000") from None
    if len(startup.user) > MAX_USER:
        raise Refusal(f"the user's name is longer than {MAX_USER} bytes", "28000")
    if listener.users and user not in listener.users:
        raise Refusal(f'this proxy has no user "{user}"; it takes {", ".join(sorted(listener.users))}', "28000")
    return user
