"""Who of the declared users stands: not revoked, and vended only to callers whose time has not passed."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from rdsiam.access.users import DeclaredUser


def effective_users(declared: Iterable[DeclaredUser], revoked: Collection[str]) -> tuple[DeclaredUser, ...]:
    """Return the declared users as they are to be made now; when an `until` passes it is something else.

    :param revoked: users that an operator has revoked.
    """
    now = datetime.now(UTC)
    return tuple(
        replace(user, callers=tuple(rule for rule in user.callers if rule.until is None or rule.until > now))
        for user in declared
        if user.name not in revoked
    )
