"""Effective users: declared, not revoked, with the callers whose permission has not expired."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from rdsiam.access.users import DeclaredUser


def effective_users(declared: Iterable[DeclaredUser], revoked: Collection[str]) -> tuple[DeclaredUser, ...]:
    """Return the declared users without the revoked ones, and without callers whose `until` has passed.

    :param revoked: users that an operator has revoked.
    """
    now = datetime.now(UTC)
    return tuple(
        replace(user, callers=tuple(rule for rule in user.callers if rule.until is None or rule.until > now))
        for user in declared
        if user.name not in revoked
    )
