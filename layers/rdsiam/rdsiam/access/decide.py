"""Decisions: whether a caller gets a token for a user of a database."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from rdsiam.access import fields
from rdsiam.access.callers import Caller, has_role
from rdsiam.access.model import AccessFile, Place, User
from rdsiam.access.selection import SelectedDatabase
from rdsiam.errors import AccessFileInvalid, InvalidRequest

#: What a denied caller can do: give a reason, or sign with the credentials of its role.
Way = Literal["give-reason", "sign"]
UNDECLARED = "no entry lets this caller log in as this user here"


class Decision(NamedTuple):
    """A decision about one caller.

    :ivar rule: the rule that allows it, such as `databases[0].users[1].callers[0]`; or the reason of the denial.
    :ivar until: when the permission ends; None for never, and for denials.
    :ivar way: of a denied caller that an entry names for this user of this database; None for every other caller, and
        for those whose permission has ended.
    """

    allowed: bool
    rule: str
    until: datetime | None
    way: Way | None = None


def decide(
    access: AccessFile, database: SelectedDatabase, user: str, caller: Caller, reason: str | None, at: datetime
) -> Decision:
    """Decide whether `caller` gets a token for `user` on `database`; whatever is not allowed is denied.

    :param reason: the caller's reason, which counts if a rule requires one (1–500 printable characters).
    :param at: the time of the request, with a zone.
    :return: the rule that allows it, of several the one that allows it longest; or why it is denied.
    :raises InvalidRequest: `at` has no zone.
    """
    if at.tzinfo is None:
        raise InvalidRequest("at", "must have a time zone")
    decisions = []
    for selected in database.current_and_recorded:
        try:
            declarations = [
                (place, declared) for place, declared in access.declarations(selected) if declared.name == user
            ]
        except AccessFileInvalid:
            return Decision(False, "access.yaml is invalid for this database", None)
        decisions.append(_decide(declarations, caller, fields.is_reason(reason), at))
    current = decisions[0]
    # An entry names the caller only if it does so by the current and by the recorded attributes.
    named = all(decision.allowed or decision.way for decision in decisions)
    if not current.allowed or len(decisions) == 1:
        return current if named else current._replace(way=None)
    if not decisions[1].allowed:
        denial = f"{current.rule}: needs confirmation, since identifier or tags changed"
        return Decision(False, denial, None, decisions[1].way)
    ends = [decision.until for decision in decisions if decision.until is not None]
    return Decision(True, current.rule, min(ends, default=None))


def denied_anywhere(access: AccessFile, identifier: str | None, user: str, caller: Caller, at: datetime) -> str:
    """Return why `decide` denies without a way, whatever database of that identifier there is; empty if it may not.

    No lookup is needed for such a denial. To a caller whose rules have all ended, no entry gives anything.

    :param identifier: None if unknown.
    """
    declarations = [
        (Place(number, index), declared)
        for number, entry in enumerate(access.databases)
        if entry.match.may_cover(identifier)
        for index, declared in enumerate(entry.users)
        if declared.name == user
    ]
    decision = _decide(declarations, caller, True, at)
    return "" if decision.allowed or decision.way else decision.rule


def users_of(access: AccessFile, database: SelectedDatabase, caller: Caller, at: datetime) -> tuple[str, ...]:
    """Return the users that `decide` would let this caller log in as, given a reason if one is required."""
    names: set[str] | None = None
    for selected in database.current_and_recorded:
        try:
            declared = access.declarations(selected)
        except AccessFileInvalid:
            return ()
        declarations: dict[str, list[tuple[Place, User]]] = {}
        for place, user in declared:
            declarations.setdefault(user.name, []).append((place, user))
        allowed = {name for name, places in declarations.items() if _decide(places, caller, True, at).allowed}
        names = allowed if names is None else names & allowed
    return tuple(sorted(names or ()))


def _decide(declarations: Iterable[tuple[Place, User]], caller: Caller, has_reason: bool, at: datetime) -> Decision:
    """Decide by the declarations of one user on one database."""
    denied = Decision(False, UNDECLARED, None)
    allowed: list[Decision] = []
    for place, user in declarations:
        if denied.way is None and has_role(caller, user.roles):
            denied = denied._replace(way="sign")
        for index, rule in enumerate(user.callers):
            where = f"{place}.callers[{index}]"
            if not rule.admits(caller):
                continue
            if rule.until is not None and at >= rule.until:
                denied = denied if denied.way == "give-reason" else denied._replace(rule=f"{where}: has ended")
            elif rule.reason and not has_reason:
                denied = Decision(False, f"{where}: a reason is required", None, "give-reason")
            else:
                allowed.append(Decision(True, where, rule.until))
    if not allowed:
        return denied
    return max(allowed, key=lambda decision: (decision.until is None, decision.until or at))
