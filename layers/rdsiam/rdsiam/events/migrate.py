"""Requests to MigrateFunction."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rdsiam.errors import InvalidRequest
from rdsiam.events import fields

_LONGEST_USER = 80
_LONGEST_WATCH = 90 * 86400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class MigrateRequest:
    """A request to migrate a user from its password to tokens.

    :ivar database: ARN.
    :ivar watch: seconds without a login of the old user before its password is retired.
    :ivar continues: name of the execution whose watching is continued; empty for a request of an operator.
    """

    database: str
    user: str
    plan: bool = False
    confirm: bool = False
    in_place: bool = False
    undo: bool = False
    watch: int = 7 * 86400
    continues: str = ""


@dataclass(frozen=True)
class MigrationStatusRequest:
    """A request for the states of migrations.

    :ivar database: ARN; None for the whole fleet.
    """

    database: str | None = None


def migrate_request(event: Any) -> MigrateRequest | MigrationStatusRequest:
    """Read a request to MigrateFunction.

    `{"database": "<arn>", "user": "<name>"}` with `plan`, `confirm`, `in_place`, `undo` and `watch`, or
    `{"status": true, "database"?: "<arn>"}`.

    :raises InvalidRequest: naming the field.
    """
    if fields.names(event, "status"):
        fields.check(event, {"status", "database"})
        fields.must_be_true(event, "status")
        return MigrationStatusRequest(fields.database(event) if "database" in event else None)
    fields.check(event, {"database", "user", "plan", "confirm", "in_place", "undo", "watch", "continues"})
    return MigrateRequest(
        database=fields.database(event),
        user=_user(event),
        plan=fields.flag(event, "plan"),
        confirm=fields.flag(event, "confirm"),
        in_place=fields.flag(event, "in_place"),
        undo=fields.flag(event, "undo"),
        watch=_watch(event),
        continues=_continues(event),
    )


def _continues(event: Mapping[str, Any]) -> str:
    name = event.get("continues", "")
    if not isinstance(name, str) or not re.fullmatch("([0-9a-f]{16})?", name):
        raise InvalidRequest("continues", "must be the name of an execution")
    return name


def _user(event: Mapping[str, Any]) -> str:
    user = event.get("user")
    if not isinstance(user, str) or not 0 < len(user) <= _LONGEST_USER or not user.isprintable():
        raise InvalidRequest("user", f"must be the name of a database user, at most {_LONGEST_USER} characters")
    return user


def _watch(event: Mapping[str, Any]) -> int:
    """Return `watch` in seconds."""
    text = event.get("watch", "7d")
    match = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text) if isinstance(text, str) else None
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_WATCH:
        raise InvalidRequest("watch", "must be a number of s, m, h or d, such as 7d, and 90d at most")
    return seconds
