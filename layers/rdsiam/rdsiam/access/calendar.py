"""When passwords are rotated: a place in the calendar for each, so that neither a fleet nor a pair rotates at once.

A place is a cron expression of Secrets Manager, derived from the database's resource id and the user's name: the same
whenever it is asked for, whatever was rotated meanwhile. An expression in days (`rate`) would count from the last
rotation, so that after one in an emergency the whole fleet would rotate on one day for ever.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

#: A month has 28 days here: so every month has them all, and the days after are quiet.
_MONTH = 28
_WINDOW = re.compile(r"([01][0-9]|2[0-3]):00/([1-9]|1[0-9]|2[0-4])h", re.ASCII)
WHOLE_DAY = "00:00/24h"
#: How long each rotation's own window is: the shortest that there is.
DURATION = "1h"

Rules = Mapping[str, str]
Day = tuple[int, int]


class Cycle(NamedTuple):
    """A frequency: the number of days and of months.

    :ivar days: from one of its days to the next, 1–28.
    :ivar months: from one of its months to the next, 1–12.
    """

    days: int
    months: int

    @property
    def places(self) -> int:
        """In how many ways it lies in the calendar."""
        return self.days * self.months

    def on(self, place: int) -> frozenset[Day]:
        """Return the days (month, day of month) of a place, 0–`places`-1."""
        months = range(place // self.days + 1, 13, self.months)
        days = range(place % self.days + 1, _MONTH + 1, self.days)
        return frozenset((month, day) for month in months for day in days)


#: What `every` may be.
CYCLES: Mapping[str, Cycle] = {
    "1d": Cycle(1, 1),
    "7d": Cycle(7, 1),
    "14d": Cycle(14, 1),
    "30d": Cycle(28, 1),
    "60d": Cycle(28, 2),
    "90d": Cycle(28, 3),
    "180d": Cycle(28, 6),
    "365d": Cycle(28, 12),
}


def hours_of(window: str) -> range | None:
    """Return the hours, UTC, at which a rotation may begin; None for what is no window within one day.

    :param window: start and length, such as `02:00/4h`.
    """
    matched = _WINDOW.fullmatch(window)
    if matched is None or int(matched[1]) + int(matched[2]) > 24:
        return None
    return range(int(matched[1]), int(matched[1]) + int(matched[2]))


def rules(resource_id: str, users: Sequence[tuple[str, str, str]]) -> dict[str, Rules]:
    """Return the RotationRules of each rotating user of one database.

    No two of them rotate on the same day while the calendar has room: seven users always have theirs, more where they
    rotate less often than weekly. Daily rotations are on all days.

    :param users: name, one of `CYCLES`, window; each name once.
    :return: user → `ScheduleExpression` and `Duration`.
    """
    taken: list[frozenset[Day]] = []
    result: dict[str, Rules] = {}
    # Who rotates most often has the fewest places to choose from.
    for name, every, window in sorted(users, key=lambda user: (CYCLES[user[1]].places, _number(resource_id, user[0]))):
        cycle, number = CYCLES[every], _number(resource_id, name)
        days = _free(cycle, number, taken)
        if cycle.places > 1:
            taken.append(days)
        hours = hours_of(window)
        assert hours is not None
        hour = hours[number // cycle.places % len(hours)]
        result[name] = {"ScheduleExpression": _expression(cycle, days, hour), "Duration": DURATION}
    return result


def _free(cycle: Cycle, number: int, taken: Sequence[frozenset[Day]]) -> frozenset[Day]:
    """Return the days of the first place from `number` on of which no other has a day; its own if there is none."""
    for step in range(cycle.places):
        days = cycle.on((number + step) % cycle.places)
        if not any(days & other for other in taken):
            return days
    return cycle.on(number % cycle.places)


def _expression(cycle: Cycle, days: frozenset[Day], hour: int) -> str:
    month = "*" if cycle.months == 1 else _list({month for month, _ in days})
    day = "*" if cycle.days == 1 else _list({day for _, day in days})
    return f"cron(0 {hour} {day} {month} ? *)"


def _list(numbers: set[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


def _number(resource_id: str, user: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{resource_id} {user}".encode()).digest())
