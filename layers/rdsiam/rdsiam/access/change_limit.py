"""The change limit of vending: a version of access.yaml that takes most callers' logins needs confirmation."""

import json
from datetime import datetime
from typing import NamedTuple

from rdsiam.access.callers import Principal
from rdsiam.access.model import AccessFile
from rdsiam.core.counts import agreed, counted


class Rule(NamedTuple):
    """A rule by which a caller gets tokens: the entry, the caller and the user.

    The entry is known by what it matches and the caller by its role or claims, not by their places in the file: a file
    in another order has the same rules.
    """

    entry: str
    caller: str
    user: str


class Loss(NamedTuple):
    """The rules that a version of access.yaml lacks, compared with another version.

    :ivar lost: number of rules that it lacks.
    :ivar before: number of rules of the other version.
    """

    lost: int
    before: int

    @property
    def needs_confirmation(self) -> bool:
        """Whether more than half of the rules disappeared."""
        return self.lost * 2 > self.before

    def __str__(self) -> str:
        disappear = agreed(self.lost, "disappears", "disappear")
        return f"{self.lost} of {counted(self.before, 'rule')} by which callers get tokens {disappear}"


def rules(file: AccessFile, at: datetime) -> frozenset[Rule]:
    """Return the rules that give a caller tokens at that time; rules that have ended give none."""
    return frozenset(
        Rule(_text(entry.match.model_dump(exclude_none=True)), caller_name(caller), user.name)
        for entry in file.databases
        for user in entry.users
        for caller in user.callers
        if caller.until is None or at < caller.until
    )


def loss(before: AccessFile, now: AccessFile, at: datetime) -> Loss:
    """Return what callers lose if one version of access.yaml replaces another."""
    held = rules(before, at)
    return Loss(len(held - rules(now, at)), len(held))


def caller_name(caller: Principal) -> str:
    """Return the role of a caller, or its claims as JSON."""
    return caller.role if caller.role is not None else _text(caller.claim)


def _text(data: object) -> str:
    return json.dumps(data, sort_keys=True, ensure_ascii=False)
