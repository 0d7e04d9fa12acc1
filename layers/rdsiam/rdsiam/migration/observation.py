"""Observations of a user's sessions: how they extend the quiet period after which the user is retired. No I/O."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from rdsiam.core.times import moment, text
from rdsiam.engines.migration import Observation
from rdsiam.state.migrations import QuietPeriod

#: Least number of observations in a quiet period.
_OBSERVATIONS = 700
#: A gap between observations is unobserved time if it is longer than this multiple of the planned pause.
_MISSED = 4
_LEAST_GAP = timedelta(hours=1)
_MOST_CLIENTS = 10


def pause(seconds: int) -> int:
    """Return the seconds between two observations of a quiet period of that length."""
    return max(1, seconds // _OBSERVATIONS)


def begin(before: QuietPeriod | None, seconds: int, at: datetime) -> QuietPeriod:
    """Return a quiet period that begins, or that continues if the earlier one was observed until now."""
    period = before or QuietPeriod(seconds, text(at))
    since = text(at) if _unobserved(period, at) else period.quiet_since
    return replace(period, seconds=seconds, quiet_since=since, held="")


def has_logged_in(period: QuietPeriod, observation: Observation) -> bool:
    """Tell whether the user is logged in, or was since the last observation if the server counts its statements.

    Logins that failed are none: a client with a wrong password, or anybody who tries one, extends nothing.
    """
    statements, before = observation.statements, period.statements
    counted = statements is not None and before is not None and statements != before and statements > 0
    return bool(observation.clients) or counted


def observed(period: QuietPeriod, observation: Observation, at: datetime) -> QuietPeriod:
    """Return the period after an observation: a login, or unobserved time before it, lets the period begin anew."""
    now = text(at)
    logged_in = has_logged_in(period, observation)
    since = now if logged_in or _unobserved(period, at) else period.quiet_since
    after = replace(
        period,
        observations=period.observations + 1,
        last_observation=now,
        statements=observation.statements,
        quiet_since=since,
    )
    if observation.clients:
        clients = tuple(_printable(asdict(client)) for client in observation.clients[:_MOST_CLIENTS])
        after = replace(after, clients=clients)
    return replace(after, last_seen=now) if logged_in else after


def is_over(period: QuietPeriod, at: datetime) -> bool:
    """Tell whether nobody has logged in for long enough."""
    return at >= moment(period.quiet_since) + timedelta(seconds=period.seconds)


def _unobserved(period: QuietPeriod, at: datetime) -> bool:
    gap = max(_LEAST_GAP, timedelta(seconds=_MISSED * pause(period.seconds)))
    return at - moment(period.last_observation or period.quiet_since) > gap


def _printable(client: Mapping[str, Any]) -> dict[str, Any]:
    """Return a client with the names that it chose itself cut, and without characters that a terminal would obey."""
    names = {name: "".join(c for c in str(client[name]) if c.isprintable())[:64] for name in ("application", "address")}
    return {**client, **names}
