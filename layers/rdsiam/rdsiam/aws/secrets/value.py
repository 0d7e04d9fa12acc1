"""A database user's secret as Secrets Manager keeps it: JSON that others wrote, read as hostile input."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rdsiam.aws.rds import FAMILIES, Family
from rdsiam.errors import InvalidRequest

#: Secrets Manager's own limit for a value, in bytes.
_LARGEST = 65_536
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?")
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")
_SECRET_ARN = re.compile(r"arn:aws[a-z-]{0,12}:secretsmanager:[a-z0-9-]{1,32}:\d{12}:secret:[A-Za-z0-9/_+=.@!-]{1,519}")
_LONGEST_PASSWORD = 128


@dataclass(frozen=True)
class PasswordRules:
    """Rules for new passwords.

    :ivar length: number of characters, 8–128; the engine may allow fewer.
    :ivar excluded: characters that a password must not hold, besides those that are never used.
    """

    length: int = 32
    excluded: str = ""


@dataclass(frozen=True)
class Secret:
    """One version of a secret. Neither its text nor its password is in its representation.

    :ivar engine: as RDS names engines, one of `rds.FAMILIES`.
    :ivar host: as the secret says; connections use the endpoint that Describe returns.
    :ivar instance: `dbInstanceIdentifier`, if the secret names an instance.
    :ivar cluster: `dbClusterIdentifier`, if the secret names a cluster.
    :ivar master_arn: `masterarn`, the secret of the administrator that sets the passwords of alternating users.
    :ivar length: `passwordLength`, if the secret says how long its passwords are.
    :ivar excluded: `passwordExcludeCharacters`, if the secret says what its passwords must not hold.
    :ivar version: its id in Secrets Manager; None if it is not stored yet.
    """

    engine: str
    user: str
    password: str = field(repr=False)
    host: str | None = None
    port: int | None = None
    instance: str | None = None
    cluster: str | None = None
    database: str | None = None
    master_arn: str | None = None
    length: int | None = None
    excluded: str | None = None
    version: str | None = field(default=None, compare=False)
    _document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def family(self) -> Family:
        """Family of the engine, which decides its SQL."""
        return FAMILIES[self.engine]

    @property
    def place(self) -> tuple[object, ...]:
        """Database and administrator of the login: equal in every version of a rotation."""
        return (self.engine, self.host, self.port, self.instance, self.cluster, self.database, self.master_arn)

    @property
    def database_name(self) -> str:
        """Identifier of the database in the value, for messages; of a host its first label, as RDS forms names."""
        return self.instance or self.cluster or str(self.host).partition(".")[0]

    def with_login(self, user: str, password: str) -> "Secret":
        """Return the next version: another login, and all other keys unchanged, unknown ones too."""
        return read_secret(json.dumps({**self._document, "username": user, "password": password}))

    def text(self) -> str:
        """Return the JSON that Secrets Manager stores: it holds the password."""
        return json.dumps(dict(self._document))


def read_secret(text: object, version: str | None = None) -> Secret:
    """Read a version's JSON: `engine username password`, and `host` or an identifier; the rest is optional.

    :param version: its id.
    :raises InvalidRequest: naming the key that is wrong, never its value.
    """
    document = _document(text)
    engine = _string(document, "engine", 32)
    if engine not in FAMILIES:
        raise InvalidRequest("engine", f"must be one of {', '.join(sorted(FAMILIES))}")
    secret = Secret(
        engine=engine,
        user=_user(document),
        password=_string(document, "password", 4096),
        host=_matching(document, "host", _HOST, "a host name"),
        port=_number(document, "port", 1, 65_535),
        instance=_matching(document, "dbInstanceIdentifier", _IDENTIFIER, "an instance's identifier"),
        cluster=_matching(document, "dbClusterIdentifier", _IDENTIFIER, "a cluster's identifier"),
        database=_optional(document, "dbname", 64),
        master_arn=_matching(document, "masterarn", _SECRET_ARN, "a secret's ARN"),
        length=_number(document, "passwordLength", 8, _LONGEST_PASSWORD),
        excluded=_optional(document, "passwordExcludeCharacters", 128),
        version=version,
        _document=document,
    )
    if secret.host is None and secret.instance is None and secret.cluster is None:
        raise InvalidRequest("host", "is missing, and so are dbInstanceIdentifier and dbClusterIdentifier")
    return secret


@dataclass(frozen=True)
class MasterSecret:
    """An administrator's secret; a secret that RDS manages has a user name and a password only."""

    user: str
    password: str = field(repr=False)
    host: str | None = None


def read_master(text: object) -> MasterSecret:
    """Read the JSON of an administrator's secret.

    :raises InvalidRequest: naming the key that is wrong, never its value.
    """
    document = _document(text)
    return MasterSecret(
        _user(document),
        _string(document, "password", 4096),
        _matching(document, "host", _HOST, "a host name"),
    )


def _document(text: object) -> Mapping[str, Any]:
    if not isinstance(text, str) or len(text.encode("utf-8", "surrogatepass")) > _LARGEST:
        raise InvalidRequest("SecretString", "must be text of at most 64 KB")
    try:
        document = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        # Without its cause: a JSON error carries the whole text that it could not read.
        raise InvalidRequest("SecretString", "must be a JSON object, with no key twice") from None
    if not isinstance(document, dict):
        raise InvalidRequest("SecretString", "must be a JSON object")
    return document


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a repeated key: two readers might take two different values."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


def _user(document: Mapping[str, Any]) -> str:
    user = _string(document, "username", 80)
    if not user.isprintable():
        raise InvalidRequest("username", "must be printable")
    return user


def _string(document: Mapping[str, Any], key: str, longest: int) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= longest or "\0" in value:
        raise InvalidRequest(key, f"must be text of 1 to {longest} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(key, "must be text that UTF-8 can write") from None
    return value


def _optional(document: Mapping[str, Any], key: str, longest: int) -> str | None:
    return _string(document, key, longest) if document.get(key) not in (None, "") else None


def _matching(document: Mapping[str, Any], key: str, pattern: re.Pattern[str], what: str) -> str | None:
    value = document.get(key)
    if value in (None, ""):
        return None
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise InvalidRequest(key, f"must be {what}")
    return value


def _number(document: Mapping[str, Any], key: str, smallest: int, largest: int) -> int | None:
    """Read a number; AWS's own tools write the port as text."""
    value = document.get(key)
    if value in (None, ""):
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise InvalidRequest(key, f"must be a number from {smallest} to {largest}")
    return value
