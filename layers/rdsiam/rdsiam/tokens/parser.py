"""Reads a login token without keeping or showing any of its secret parts."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

from rdsiam.errors import InvalidRequest

#: Programs that truncate passwords, and the length; the login then fails with "PAM authentication failed".
TRUNCATION: tuple[tuple[int, str], ...] = (
    (100, "psql's prompt before 14"),
    (128, "MySQL Shell's password store"),
    (160, "pgbouncer"),
    (256, "pgagroal, and phpMyAdmin before 5.2"),
    (1000, "phpMyAdmin 5.2"),
    (1024, "Redshift's ODBC driver"),
    (2000, "phpMyAdmin"),
)


@dataclass(frozen=True)
class TokenFacts:
    """The readable parts of a token.

    :ivar expires: 900 s after signing at most; the credentials that signed it may end before, which it doesn't say.
    :ivar temporary: signed with temporary credentials.
    :ivar length: in characters.
    """

    host: str
    port: int
    user: str
    region: str
    access_key: str
    signed: datetime
    expires: datetime
    temporary: bool
    length: int

    @property
    def cut_by(self) -> tuple[str, ...]:
        """The programs that are known to cut a password of this length."""
        return tuple(f"{server} ({limit})" for limit, server in TRUNCATION if self.length > limit)


def read_token(text: str) -> TokenFacts:
    """Read a token.

    :raises InvalidRequest: it is none, is cut off, or was percent-encoded once more. The message shows nothing of it.
    """
    text = text.strip()
    if "%25" in text or "%3D" in text.partition("/?")[2][:40]:
        raise InvalidRequest("token", "is percent-encoded twice: encode it only inside a URL, and once")
    endpoint, separator, query = text.removeprefix("https://").partition("/?")
    if not separator:
        raise InvalidRequest("token", "is no login token: it has no /?Action=connect")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if given.get("Action") != "connect":
        raise InvalidRequest("token", "is no login token: its action is not connect")
    if len(given.get("X-Amz-Signature", "")) != 64:
        raise InvalidRequest("token", f"is cut off after {len(text)} characters: its signature is not whole")
    host, _, port = endpoint.rpartition(":")
    scope = given.get("X-Amz-Credential", "").split("/")
    try:
        signed = datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        life = timedelta(seconds=int(given["X-Amz-Expires"]))
        access_key, _, region, service, _ = scope
        facts = TokenFacts(
            host=host,
            port=int(port),
            user=given["DBUser"],
            region=region,
            access_key=access_key,
            signed=signed,
            expires=signed + life,
            temporary=bool(given.get("X-Amz-Security-Token")),
            length=len(text),
        )
    except (KeyError, ValueError, OverflowError):
        # Without the cause: its text holds what could not be read.
        raise InvalidRequest("token", "is malformed, or cut off") from None
    if not host or service != "rds-db":
        raise InvalidRequest("token", "is not signed for rds-db, or names no host and port")
    return facts
