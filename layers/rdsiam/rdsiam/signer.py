"""Login tokens for RDS: SigV4-presigned `connect` requests, made without a network call and without boto3."""

import hmac
import re
import time
from calendar import timegm
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from rdsiam.errors import InvalidRequest

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["LIFETIME", "Credentials", "TokenSigner", "signing_key"]

#: Seconds for which RDS accepts a token after its signing, provided that the credentials live as long.
LIFETIME = 900


@dataclass(frozen=True)
class Credentials:
    """AWS credentials that sign; their repr shows the access key's id only.

    :ivar session_token: of temporary credentials; None for a user's own key. An empty one counts as None.
    :raises InvalidRequest: one of them is empty or can't be encoded as UTF-8.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.session_token:
            object.__setattr__(self, "session_token", None)
        for name in ("access_key", "secret_key", "session_token"):
            value = getattr(self, name)
            if not _is_text(value) and (name, value) != ("session_token", None):
                raise InvalidRequest(name, "must be non-empty text")


class TokenSigner:
    """Signs login tokens for one region with one set of credentials; any number of threads may share it.

    What tokens have in common is hashed once: the signing key and both of its HMAC pads for the day, the canonical
    request up to the host for each second and user. A token then costs little more than hashing what is its own.
    Memory is bounded: one day, one second with up to 1,024 users, and 1,024 endpoints are kept.

    :param region: of the database, from its ARN: the host name does not always tell it.
    :raises InvalidRequest: the region is not the name of one.
    """

    def __init__(self, credentials: Credentials, region: str) -> None:
        if not isinstance(region, str) or not _REGION.fullmatch(region):
            raise InvalidRequest("region", "must be a region's name, such as eu-central-1")
        self._credentials = credentials
        self._region = region
        session = credentials.session_token
        self._session_part = f"&X-Amz-Security-Token={_encode(session)}" if session else ""
        self._endpoints: dict[tuple[str, int], tuple[str, bytes]] = {}
        self._second = self._make_second(int(time.time()), None)

    def token(self, host: str, port: int, user: str, at: datetime | None = None) -> str:
        """Return a token that logs `user` in to `host:port`; the same bytes as boto3's `generate_db_auth_token`.

        :param host: the endpoint as RDS reports it, in any case; a CNAME or an IP address makes a token that RDS
            refuses.
        :param port: TCP port, 1–65535.
        :param user: the database user, case-sensitive.
        :param at: time of signing, with a zone; now when omitted. RDS accepts the token for 900 s from then.
        :return: about 350 characters, 1–2 KB with a session token; a secret until it expires.
        :raises InvalidRequest: `user` is empty or holds `*` or `?`, which IAM would read as wildcards; or host, port
            or time can't be signed for.

        Source: "Generating an IAM authentication token", Amazon RDS User Guide; "Create a signed AWS API request",
        IAM User Guide (authentication in the query string).
        """
        moment = int(time.time()) if at is None else _seconds(at)
        second = self._second
        if second.moment != moment:
            # Threads may race here: each goes on with a whole _Second of its own, and one of them is kept.
            second = self._second = self._make_second(moment, second)
        if type(port) is not int:  # before the look-up: True and 1.0 are equal to 1 and would find its entry
            raise InvalidRequest("port", "must be a whole number from 1 to 65535, an int and not text")
        netloc, rest = self._endpoints.get((host, port)) or self._add_endpoint(host, port)
        query, begun = second.users.get(user) or self._add_user(second, user)
        request = begun.copy()
        request.update(rest)
        inner = second.key.inner.copy()
        inner.update(second.string_to_sign)
        inner.update(request.hexdigest().encode())
        outer = second.key.outer.copy()
        outer.update(inner.digest())
        return f"{netloc}/?{query}&X-Amz-Signature={outer.hexdigest()}"

    def _add_endpoint(self, host: str, port: int) -> tuple[str, bytes]:
        """Return, and keep, `host:port` and the rest of the canonical request from the host on."""
        if not isinstance(host, str) or len(host) > 253 or not _HOST.fullmatch(host):
            raise InvalidRequest("host", "must be a host name")
        if not 1 <= port <= 65535:
            raise InvalidRequest("port", "must be a whole number from 1 to 65535, an int and not text")
        netloc = f"{host.lower()}:{port}"
        # boto3 signs as for https, and so leaves out its default port. (RDS itself has no ports below 1150.)
        signed_host = netloc.removesuffix(":443")
        endpoint = netloc, f"host:{signed_host}\n\nhost\n{_SHA256_OF_NOTHING}".encode()
        _keep(self._endpoints, (host, port), endpoint)
        return endpoint

    def _add_user(self, second: "_Second", user: str) -> tuple[str, "_Hash"]:
        """Return, and keep, a user's query string and the hash of the canonical request up to the host."""
        if not _is_text(user) or "*" in user or "?" in user:
            raise InvalidRequest("user", "must be non-empty text without * and ?, which IAM reads as wildcards")
        action = f"Action=connect&DBUser={_encode(user)}&{second.query}"
        # The canonical request is sorted by name, the token in the order of boto3, which RDS doesn't mind.
        canonical = f"GET\n/\n{action}{self._session_part}&X-Amz-SignedHeaders=host\n"
        entry = f"{action}&X-Amz-SignedHeaders=host{self._session_part}", sha256(canonical.encode())
        _keep(second.users, user, entry)
        return entry

    def _make_second(self, moment: int, previous: "_Second | None") -> "_Second":
        year, month, day_of_month, hour, minute, second = time.gmtime(moment)[:6]
        day = f"{year:04}{month:02}{day_of_month:02}"
        stamp = f"{day}T{hour:02}{minute:02}{second:02}Z"
        key = previous.key if previous and previous.key.day == day else self._make_key(day)
        scope = f"{day}/{self._region}/rds-db/aws4_request"
        query = (
            f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={_encode(f'{self._credentials.access_key}/{scope}')}"
            f"&X-Amz-Date={stamp}&X-Amz-Expires={LIFETIME}"
        )
        return _Second(moment, key, query, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n".encode())

    def _make_key(self, day: str) -> "_Key":
        return _Key(day, signing_key(self._credentials.secret_key, day, self._region, "rds-db"))


def signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    """Return the key that signs requests of one day to one service in one region; 32 bytes, a secret.

    :param day: `YYYYMMDD`, in UTC.
    """
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class _Key:
    """A day's key for HMAC-SHA-256, its two pads hashed already, as RFC 2104, section 4, suggests."""

    __slots__ = ("day", "inner", "outer")

    def __init__(self, day: str, key: bytes) -> None:
        key = key.ljust(64, b"\0")  # 32 bytes, as a derived key always has
        self.day = day
        self.inner = sha256(bytes(byte ^ 0x36 for byte in key))
        self.outer = sha256(bytes(byte ^ 0x5C for byte in key))


class _Second:
    """The parts that all tokens of one second share, and the users seen in it; its hashes are copied, never updated."""

    __slots__ = ("key", "moment", "query", "string_to_sign", "users")

    def __init__(self, moment: int, key: _Key, query: str, string_to_sign: bytes) -> None:
        self.moment = moment
        self.key = key
        self.query = query
        self.string_to_sign = string_to_sign
        self.users: dict[str, tuple[str, _Hash]] = {}


_K = TypeVar("_K")
_V = TypeVar("_V")
_LIMIT = 1024
_SHA256_OF_NOTHING = sha256().hexdigest()
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _encode(text: str) -> str:
    """Percent-encode as RFC 3986 does: all but letters, digits and `-._~`."""
    return quote(text, safe="")


def _is_text(value: object) -> bool:
    """Tell whether it is non-empty text that UTF-8 can write: an encoding error would carry the whole value."""
    return isinstance(value, str) and bool(value) and not _SURROGATE.search(value)


def _seconds(at: datetime) -> int:
    if at.tzinfo is None or at.utcoffset() is None:
        raise InvalidRequest("at", "must have a time zone")
    try:
        return timegm(at.utctimetuple())
    except OverflowError:
        raise InvalidRequest("at", "is outside the calendar in UTC") from None


def _keep(cache: dict[_K, _V], key: _K, value: _V) -> None:
    if len(cache) >= _LIMIT:
        cache.clear()
    cache[key] = value
