"""Checks of the fields of a request. Errors name the field and never repeat its value."""

import re
from collections.abc import Mapping
from typing import Any

from rdsiam.errors import InvalidRequest

#: The maximum number of databases and of users in a request.
MOST_DATABASES, MOST_USERS = 1000, 100
_FLAGS = ("plan", "confirm", "beyond_limit", "in_place", "undo", "slow")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,79}")
_ARN = re.compile(r"arn:aws[a-z-]{0,12}:rds:[a-z0-9-]{1,32}:\d{12}:[a-z-]{1,20}:[A-Za-z0-9:._-]{1,255}")
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SECRET = re.compile(r"arn:aws[a-z-]{0,12}:secretsmanager:[a-z0-9-]{1,32}:\d{12}:secret:[A-Za-z0-9/_+=.@!-]{1,519}")


def names(event: Any, field: str) -> bool:
    """Return whether the event is an object with that field."""
    return isinstance(event, Mapping) and field in event


def check(event: Any, known: set[str]) -> None:
    """Check that the event is an object of known fields, and that its flags are flags.

    :raises InvalidRequest: naming the field.
    """
    if not isinstance(event, Mapping):
        raise InvalidRequest("event", "must be a JSON object")
    for name in sorted(set(map(str, event)) - known):
        # Only a plain name is repeated: the caller may have put a value in place of a name.
        raise InvalidRequest(name if re.fullmatch(r"[A-Za-z_-]{1,40}", name) else "event", "unknown field")
    for name in _FLAGS:
        if not isinstance(event.get(name, False), bool):
            raise InvalidRequest(name, "must be true or false")


def flag(event: Mapping[str, Any], field: str) -> bool:
    """Return a flag that `check` has checked; False if it is missing."""
    return event.get(field, False) is True


def must_be_true(event: Mapping[str, Any], field: str) -> None:
    """Check a field whose presence selects the kind of request.

    :raises InvalidRequest: its value is not true.
    """
    if event[field] is not True:
        raise InvalidRequest(field, "must be true")


def database(event: Mapping[str, Any], field: str = "database") -> str:
    """Return the ARN of a database.

    :raises InvalidRequest: naming the field.
    """
    if event.get(field) is None:
        raise InvalidRequest(field, "is missing; it must be the ARN of a database")
    return _arn(field, event[field])


def databases(event: Mapping[str, Any], field: str = "databases") -> tuple[str, ...] | None:
    """Return the ARNs of databases, sorted, each once; None if the field is missing, which means all.

    :raises InvalidRequest: naming the field. An empty list is an error: it means neither all nor none.
    """
    if field not in event:
        return None
    listed = event[field]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_DATABASES:
        raise InvalidRequest(field, f"must be a list of 1–{MOST_DATABASES} ARNs; leave it out for all")
    return tuple(sorted({_arn(field, arn) for arn in listed}))


def users(event: Mapping[str, Any], field: str, fewest: int = 1) -> tuple[str, ...]:
    """Return names of database users, sorted, each once.

    :raises InvalidRequest: naming the field.
    """
    listed = event[field]
    if not isinstance(listed, list) or not fewest <= len(listed) <= MOST_USERS:
        raise InvalidRequest(field, f"must be a list of {fewest}–{MOST_USERS} users")
    if not all(isinstance(name, str) and _USER.fullmatch(name) for name in listed):
        raise InvalidRequest(field, "must have names of users as access.yaml has them")
    return tuple(sorted(set(listed)))


def secret(event: Mapping[str, Any], field: str) -> str:
    """Return the ARN of a secret.

    :raises InvalidRequest: naming the field.
    """
    arn = event.get(field)
    if not isinstance(arn, str) or _SECRET.fullmatch(arn) is None:
        raise InvalidRequest(field, "must be the ARN of a secret")
    return arn


def digest(event: Mapping[str, Any], field: str) -> str:
    """Return a SHA-256 digest in hexadecimal; empty if the field is missing.

    :raises InvalidRequest: naming the field.
    """
    text = event.get(field, "")
    if field in event and not (isinstance(text, str) and _DIGEST.fullmatch(text)):
        raise InvalidRequest(field, "must be a SHA-256 digest")
    return str(text)


def line(event: Mapping[str, Any], field: str, longest: int) -> str | None:
    """Return a text that is written into logs, one printable line; None if the field is missing.

    :raises InvalidRequest: naming the field.
    """
    text = event.get(field)
    if text is not None and not (isinstance(text, str) and 0 < len(text) <= longest and text.isprintable()):
        raise InvalidRequest(field, f"must be one line of 1–{longest} printable characters")
    return text


def _arn(field: str, value: Any) -> str:
    if not isinstance(value, str) or _ARN.fullmatch(value) is None:
        raise InvalidRequest(field, "must be the ARN of a database, arn:aws:rds:REGION:ACCOUNT:db:IDENTIFIER")
    # RDS writes the identifiers of instances and clusters in lower case, and records are found by them.
    place, kind, identifier = value.rsplit(":", 2)
    return f"{place}:{kind}:{identifier.lower()}" if kind in ("db", "cluster") else value
