"""Change limits: removing the login of many users at once needs confirmation."""

from collections.abc import Collection

from rdsiam.errors import Refused

#: More users than that are not disabled unasked; nor is more than one of five, where it is more than one.
MOST_USERS = 3
_SHARE = 5
_CONFIRM = 'if that is meant, run it again with "confirm": true; else correct access.yaml'


class NeedsConfirmation(Refused):
    """A change exceeds a limit and needs confirmation."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, _CONFIRM, "needs-confirmation")


def limit_users(leaving: Collection[str], managed: int, declared: int) -> None:
    """Check that no surprising number of users is disabled.

    :param leaving: users that would be disabled.
    :param managed: how many users of rdsiam's the database has that can log in, those included.
    :param declared: how many access.yaml declares for it now.
    :raises NeedsConfirmation: more than three, more than a fifth (of more than one), or all of them.
    """
    number = len(leaving)
    if number == 0:
        return
    if number > MOST_USERS or (number > 1 and number * _SHARE > managed) or declared == 0:
        names = ", ".join(sorted(leaving)[:10]) + (", …" if number > 10 else "")
        raise NeedsConfirmation(f"{number} of {managed} users are no longer declared and would be disabled: {names}")


def limit_file(before: int | None, now: int) -> None:
    """Check that access.yaml has not lost most of its entries.

    :param before: entries of the version that the database followed last; None where that isn't known.
    :raises NeedsConfirmation: more than half of them are gone.
    """
    if before is not None and now * 2 < before:
        raise NeedsConfirmation(f"access.yaml has {now} entries, and had {before} when it was last applied")


def limit_retirements(recent: Collection[str]) -> None:
    """Check that no surprising number of users of a database loses its password within a day.

    :param recent: users that did within the last day.
    :raises NeedsConfirmation: one more would be more than three.
    """
    if len(recent) >= MOST_USERS:
        names = ", ".join(sorted(recent)[:10])
        raise NeedsConfirmation(
            f"{len(recent)} users of it were retired within the last day: {names}; the next one waits for its end"
        )
