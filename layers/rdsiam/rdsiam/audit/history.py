"""A run and the one before it: which findings are new, which are resolved, since when one is open."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rdsiam.findings.finding import Finding

#: So many past runs make the trend.
LONGEST_TREND = 90


@dataclass(frozen=True)
class Open:
    """A finding that was open when a run ended, as history remembers it.

    :ivar policy: it was found in the account's policies, not in a database.
    """

    id: str
    kind: str
    severity: str
    database: str | None
    user: str | None
    title: str
    first_seen: str
    suppressed: bool = False
    policy: bool = False


@dataclass(frozen=True)
class History:
    """What is open after a run, and how past runs ended, oldest first."""

    open: Mapping[str, Open] = field(default_factory=dict)
    trend: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; `History.from_json` gives it back."""
        found = [vars(one) for one in sorted(self.open.values(), key=lambda one: one.id)]
        return {"schema_version": 1, "open": found, "trend": list(self.trend)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "History":
        """Return what `to_json` was made from."""
        found = (Open(**one) for one in data["open"])
        return cls({one.id: one for one in found}, tuple(data["trend"]))


@dataclass(frozen=True)
class Seen:
    """What a run looked at, and so may say that something there is resolved.

    :ivar read: ARNs of the databases that were read, or whose state alone says all there is to say.
    :ivar unread: ARNs of the databases that could not be read.
    :ivar unread_too: kinds of findings that are seen in a database that could not be read, too.
    :ivar policies: the account's policies were read.
    :ivar whole: the run was of the whole fleet: what is neither read nor unread exists no more.
    """

    read: frozenset[str]
    unread: frozenset[str]
    unread_too: frozenset[str]
    policies: bool
    whole: bool


@dataclass(frozen=True)
class Compared:
    """A run compared with the one before.

    :ivar findings: those of this run, each with the time at which a run first found it.
    :ivar new: ids of those that the run before did not have and nobody accepted.
    :ivar resolved: those of the run before that are gone.
    :ivar open: what is open now: this run's, and what nobody could look into.
    """

    findings: tuple[Finding, ...]
    new: frozenset[str]
    resolved: tuple[Open, ...]
    open: Mapping[str, Open]


def compare(
    before: History, of_databases: Iterable[Finding], of_policies: Iterable[Finding], seen: Seen, at: str
) -> Compared:
    """Compare the findings of a run with what was open before it.

    What nobody could look into this time stays open: unknown is never in order.

    :param at: when the run started, RFC 3339.
    """
    found: list[Finding] = []
    now: dict[str, Open] = {}
    new: set[str] = set()
    for policy, findings in ((False, of_databases), (True, of_policies)):
        for finding in findings:
            if finding.id in now:
                continue  # the same problem, met twice
            known = before.open.get(finding.id)
            dated = replace(finding, first_seen=known.first_seen if known else at)
            found.append(dated)
            now[finding.id] = _remember(dated, policy)
            # One that was accepted for a time, and is no more, is news as well.
            if finding.suppressed is None and (known is None or known.suppressed):
                new.add(finding.id)
    resolved = []
    for known in before.open.values():
        if known.id not in now:
            if _is_gone(known, seen):
                resolved.append(known)
            else:
                now[known.id] = known
    return Compared(tuple(found), frozenset(new), tuple(sorted(resolved, key=lambda one: one.id)), now)


def extend(trend: Sequence[Mapping[str, Any]], last: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the trend with one run more at its end."""
    return (*trend, last)[-LONGEST_TREND:]


def _is_gone(known: Open, seen: Seen) -> bool:
    if known.policy:
        # A run of some databases has judged the policies too, but keeps only what concerns them.
        return seen.policies and (seen.whole or known.database in seen.read | seen.unread)
    if known.database in seen.unread:
        return known.kind in seen.unread_too
    return seen.whole or known.database in seen.read


def _remember(finding: Finding, policy: bool) -> Open:
    assert finding.first_seen is not None
    return Open(
        id=finding.id,
        kind=finding.kind,
        severity=finding.severity,
        database=finding.database,
        user=finding.user,
        title=finding.title,
        first_seen=finding.first_seen,
        suppressed=finding.suppressed is not None,
        policy=policy,
    )
