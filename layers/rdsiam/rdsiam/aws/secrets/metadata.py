"""Secrets that hold database logins: user, database, state of the rotation. Passwords are never read into anything."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeAlias

from rdsiam.aws.secrets.client import CURRENT, PENDING, PREVIOUS, Description, SecretsManager, Value
from rdsiam.aws.secrets.errors import SecretDenied, SecretInWrongState, SecretNotFound
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.core import times

logger = logging.getLogger(__name__)

#: The only keys of a secret's value that are read.
_KEYS = frozenset({"username", "host", "port", "engine", "dbInstanceIdentifier", "dbClusterIdentifier", "masterarn"})
_PORT = re.compile(r"\d{1,5}", re.ASCII)
#: A longer text, or one with spaces, may be a password that was put into the wrong key, unless it is a known name.
_NAME = re.compile(r"\S{1,255}")
#: Tells whether a text is the name of a database user.
IsUser: TypeAlias = Callable[[str], bool]
#: A secret with one of these errors is counted as skipped, and the others are read.
_UNREADABLE = (SecretDenied, SecretInWrongState, SecretNotFound)
#: A rotation takes seconds. If it has not ended so long after the last change of its secret, it has failed at least
#: once; after the second time it never ends by itself.
_FAILING_AFTER, _STUCK_AFTER = timedelta(minutes=5), timedelta(hours=1)


class Secrets:
    """The secrets of this account and region that hold database logins.

    :param is_user: asked about a user name with spaces only, which is not read otherwise.
    :ivar skipped: number of secrets that could not be read in the last listing; nothing is known of them.
    """

    def __init__(self, secrets_manager: SecretsManager, is_user: IsUser) -> None:
        self._secrets_manager = secrets_manager
        self._is_user = is_user
        self.skipped = 0

    def list(self, at: datetime, tag: str | None = None) -> Iterator[SecretFacts]:
        """Yield the secrets that hold a database login, page by page, without those of AWS's services.

        :param at: time of the audit, with a zone: it decides whether a rotation is stuck.
        :param tag: only secrets that have a tag of this name; None for all.
        """
        self.skipped = 0
        for description in self._secrets_manager.list(tag):
            if description.owner:
                continue
            login = self._read(description.arn)
            if login is None:
                self.skipped += 1
            elif login.get("username") or login.get("host"):
                yield _facts(description, login, at)

    def get(self, arn: str, at: datetime) -> SecretFacts | None:
        """Return one secret; None if it is gone, scheduled for deletion, or unreadable.

        :param at: as in `list`.
        """
        login = self._read(arn)
        return None if login is None else _facts(self._secrets_manager.describe(arn), login, at)

    def _read(self, arn: str) -> Mapping[str, str] | None:
        try:
            return _login(self._secrets_manager.value(arn), self._is_user)
        except _UNREADABLE as error:
            logger.info("secret %s can't be read: %s", arn, error.aws_code)
            return None


def _login(value: Value, is_user: IsUser) -> Mapping[str, str]:
    """Return the keys of a value that are read; empty if it is no JSON object. Its errors never show its text."""
    try:
        # Other keys are dropped while the JSON is parsed, so that no password becomes a value.
        login = json.loads(value.text, object_pairs_hook=partial(_known_keys, is_user))
    except (ValueError, RecursionError):
        return {}
    return login if isinstance(login, dict) else {}


def _known_keys(is_user: IsUser, pairs: "list[tuple[str, Any]]") -> dict[str, str]:
    # A port is a number in some secrets and text in others.
    texts = (
        (key, str(value) if key == "port" and type(value) is int else value) for key, value in pairs if key in _KEYS
    )
    return {
        key: value
        for key, value in texts
        if isinstance(value, str) and (_NAME.fullmatch(value) or (key == "username" and is_user(value)))
    }


def _may_still_end(description: Description, at: datetime, age: timedelta) -> bool:
    """Tell whether a pending rotation may still end; if rotation is off, nothing will end it."""
    return description.rotates and description.changed is not None and description.changed + age >= at


def _facts(description: Description, login: Mapping[str, str], at: datetime) -> SecretFacts:
    current = description.version(CURRENT)
    pending = description.version(PENDING, other_than=current)
    return SecretFacts(
        arn=description.arn,
        name=description.name,
        username=login.get("username"),
        host=login.get("host"),
        port=int(login["port"]) if _PORT.fullmatch(login.get("port", "")) else None,
        engine=login.get("engine"),
        rotation_enabled=description.rotates,
        rotation_lambda=description.function,
        last_rotated=_text(description.last_rotated),
        next_rotation=_text(description.next_rotation),
        administrator=login.get("masterarn"),
        rotation_rules=description.rules,
        pending_failing=pending is not None and not _may_still_end(description, at, _FAILING_AFTER),
        pending_stuck=pending is not None and not _may_still_end(description, at, _STUCK_AFTER),
        tags=description.tags,
        owning_service=description.owner,
        instance=login.get("dbInstanceIdentifier") or login.get("dbClusterIdentifier"),
        pending_version=pending,
        current_version=current,
        previous_version=description.version(PREVIOUS),
    )


def _text(time: datetime | None) -> str | None:
    return times.text(time) if time else None
