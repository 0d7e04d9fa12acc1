"""The watching: what a look at the old user's sessions means, and for how long nobody must have logged in. No I/O."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from rdsiam.core.times import moment, text
from rdsiam.engines.migration import Observation
from rdsiam.state.migrations import Watch

#: So many looks at least are spread over the watching.
_LOOKS = 700
#: A pause that is longer than so many planned ones is time of which nobody knows what happened.
_MISSED = 4
_LEAST_GAP = timedelta(hours=1)
_MOST_SEEN = 10


def pause(seconds: int) -> int:
    """Return the seconds between two looks of a watching that lasts so long."""
    return max(1, seconds // _LOOKS)


def begin(before: Watch | None, seconds: int, at: datetime) -> Watch:
    """Return a watching that begins, or goes on where an earlier one stopped a moment ago."""
    watch = before or Watch(seconds, text(at))
    since = text(at) if _unseen(watch, at) else watch.quiet_since
    return replace(watch, seconds=seconds, quiet_since=since, held="")


def saw(watch: Watch, look: Observation) -> bool:
    """Tell whether the old user is logged in, or was since the last look, as far as the server counts logins."""
    counted = look.logins is not None and watch.logins is not None and look.logins != watch.logins and look.logins > 0
    return bool(look.clients) or counted


def looked(watch: Watch, look: Observation, at: datetime) -> Watch:
    """Return what is known after a look: a login begins the days anew, and so does a time that nobody saw."""
    now = text(at)
    seen = saw(watch, look)
    since = now if seen or _unseen(watch, at) else watch.quiet_since
    after = replace(watch, looks=watch.looks + 1, last_look=now, logins=look.logins, quiet_since=since)
    if look.clients:
        after = replace(after, seen=tuple(_shown(asdict(one)) for one in look.clients[:_MOST_SEEN]))
    return replace(after, last_seen=now) if seen else after


def is_over(watch: Watch, at: datetime) -> bool:
    """Tell whether nobody logged in for long enough."""
    return at >= moment(watch.quiet_since) + timedelta(seconds=watch.seconds)


def _unseen(watch: Watch, at: datetime) -> bool:
    gap = max(_LEAST_GAP, timedelta(seconds=_MISSED * pause(watch.seconds)))
    return at - moment(watch.last_look or watch.quiet_since) > gap


def _shown(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return it with the names that a client gave itself cut, and without what no terminal should see."""
    plain = {name: "".join(c for c in str(seen[name]) if c.isprintable())[:64] for name in ("application", "address")}
    return {**seen, **plain}
