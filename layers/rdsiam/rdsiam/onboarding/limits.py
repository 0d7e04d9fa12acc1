"""Change limits: removing the login of many users at once needs confirmation."""

from collections.abc import Collection

from rdsiam.access.change_limit import Loss
from rdsiam.access.confirmed import CONFIRM
from rdsiam.core.counts import agreed, counted
from rdsiam.errors import NeedsConfirmation

#: Disabling more users than this needs confirmation; so does disabling more than a fifth, if that is more than one.
MOST_USERS = 3
_SHARE = 5


def limit_users(leaving: Collection[str], managed: int, declared: int) -> None:
    """Check how many users would be disabled.

    :param leaving: users that would be disabled.
    :param managed: number of managed users of the database that can log in, including those.
    :param declared: number of users that access.yaml declares for it now.
    :raises NeedsConfirmation: more than three, more than a fifth (of more than one), or all of them.
    """
    number = len(leaving)
    if number == 0:
        return
    if number > MOST_USERS or (number > 1 and number * _SHARE > managed) or declared == 0:
        names = ", ".join(sorted(leaving)[:10]) + (", …" if number > 10 else "")
        raise NeedsConfirmation(
            f"{number} of {counted(managed, 'user')} {agreed(number, 'is', 'are')} no longer declared "
            f"and would be disabled: {names}"
        )


def limit_file(before: int | None, now: int) -> None:
    """Check that access.yaml has not lost most of its entries.

    :param before: number of entries of the version that was last applied to the database; None if unknown.
    :raises NeedsConfirmation: more than half of them are gone.
    """
    if before is not None and now * 2 < before:
        raise NeedsConfirmation(
            f"access.yaml has {counted(now, 'entry', 'entries')}, and had {before} when it was last applied"
        )


def limit_callers(version: str, change: Loss) -> None:
    """Check that a version of access.yaml does not take most callers' logins.

    :param change: what callers lose against the applied version.
    :raises NeedsConfirmation: more than half of the rules by which callers get tokens are gone.
    """
    if change.needs_confirmation:
        raise NeedsConfirmation(
            f"version {version} of access.yaml waits, and tokens are vended by the applied one: {change}",
            CONFIRM,
        )


def limit_retirements(recent: Collection[str]) -> None:
    """Check how many users of a database lose their password within a day.

    :param recent: users that lost it within the last day.
    :raises NeedsConfirmation: one more would be more than three.
    """
    if len(recent) >= MOST_USERS:
        names = ", ".join(sorted(recent)[:10])
        raise NeedsConfirmation(
            f"{counted(len(recent), 'user')} of it were retired within the last day: {names}; "
            "the next user waits until it is over"
        )
