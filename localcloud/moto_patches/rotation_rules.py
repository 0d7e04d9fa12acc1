"""Schedules of rotations as Secrets Manager reads them: their validation, and the latest time of the next rotation.

Source: "Schedule expressions in Secrets Manager rotation", AWS Secrets Manager User Guide.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
_RATE = re.compile(r"rate\(([1-9][0-9]{0,3}) (hour|hours|day|days)\)")
_CRON = re.compile(r"cron\(0 (\S+) (\S+) (\S+) (\S+) \*\)")


class WrongRules(Exception):
    """Secrets Manager refuses these rules; its words are the message."""


def check(rules: Mapping[str, Any]) -> None:
    """Check RotationRules as RotateSecret does.

    :raises WrongRules: Secrets Manager would refuse the rules.
    """
    days, expression = rules.get("AutomaticallyAfterDays"), rules.get("ScheduleExpression")
    if (days is None) == (expression is None):
        raise WrongRules("You must specify either AutomaticallyAfterDays or ScheduleExpression, and not both.")
    if days is not None and not 1 <= days <= 1000:
        raise WrongRules("RotationRules.AutomaticallyAfterDays must be within 1-1000.")
    hours = _duration(rules)
    if expression is None:
        return
    start = 0
    if (rate := _RATE.fullmatch(expression)) is not None:
        if rate[2].startswith("hour") and int(rate[1]) < 4:
            raise WrongRules("RotationRules.ScheduleExpression must be at least 4 hours.")
    else:
        start = max(_cron(expression)[0])
    if hours is not None and start + hours > 24:
        raise WrongRules("The rotation window must not extend into the next UTC day.")


def latest(rules: Mapping[str, Any], after: datetime) -> datetime | None:
    """Return when the window of the next rotation closes; None if there are no rules.

    :param after: now, or the last rotation; with a zone.
    """
    days, expression = rules.get("AutomaticallyAfterDays"), str(rules.get("ScheduleExpression") or "")
    if days is None and not expression:
        return None
    if (rate := _RATE.fullmatch(expression)) is not None and rate[2].startswith("hour"):
        return after + timedelta(hours=int(rate[1]))
    if rate is not None or days is not None:
        ahead = int(rate[1]) if rate is not None else int(days or 0)
        opens = datetime.combine(after.date() + timedelta(days=ahead), time(), UTC)
    else:
        opens = _next_window(expression, after)
    hours = _duration(rules)
    if hours is None:
        return datetime.combine(opens.date(), time(23, 59, 59), UTC)
    return opens + timedelta(hours=hours) - timedelta(seconds=1)


def _duration(rules: Mapping[str, Any]) -> int | None:
    text = rules.get("Duration")
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,2}h", text) is None or not 1 <= int(text[:-1]) <= 24:
        raise WrongRules("RotationRules.Duration must be a number of hours such as 3h.")
    return int(text[:-1])


def _next_window(expression: str, after: datetime) -> datetime:
    hours, days, months, weekdays = _cron(expression)
    for ahead in range(4 * 366):
        day = after.date() + timedelta(days=ahead)
        weekday = day.isoweekday() % 7 + 1
        if day.month not in months or day.day not in days or weekday not in weekdays:
            continue
        for hour in sorted(hours):
            opens = datetime.combine(day, time(hour), UTC)
            if opens > after:
                return opens
    raise WrongRules("RotationRules.ScheduleExpression never comes.")


def _cron(expression: str) -> tuple[set[int], set[int], set[int], set[int]]:
    """Return hours, days of the month, months and weekdays. The wildcards L and # are not known here."""
    match = _CRON.fullmatch(expression)
    if match is None:
        raise WrongRules("RotationRules.ScheduleExpression must be rate(...) or cron(0 hours day month weekday *).")
    hours, day, month, weekday = match.groups()
    if (day == "?") == (weekday == "?"):
        raise WrongRules("Of day-of-month and day-of-week just one must be ? in RotationRules.ScheduleExpression.")
    return _field(hours, 0, 23), _field(day, 1, 31), _field(month, 1, 12, _MONTHS), _field(weekday, 1, 7, _WEEKDAYS)


def _field(text: str, first: int, last: int, names: Mapping[str, int] | None = None) -> set[int]:
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        try:
            if low in {"*", "?"}:
                begin, end = first, last
            else:
                begin = _number(low, names)
                end = _number(high, names) if high else last if step else begin
            if not first <= begin <= end <= last:
                raise ValueError
            values |= set(range(begin, end + 1, int(step or 1)))
        except ValueError:
            raise WrongRules(f"RotationRules.ScheduleExpression has a field that is not understood: {text}") from None
    return values


def _number(text: str, names: Mapping[str, int] | None) -> int:
    return (names or {}).get(text.upper()) or int(text)
