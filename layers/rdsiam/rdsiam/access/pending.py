"""Gains that need confirmation: given by access.yaml for the current attributes of a database only."""

from collections.abc import Iterator
from dataclasses import dataclass

from rdsiam.access.callers import CallerRule
from rdsiam.access.model import AccessFile
from rdsiam.access.selection import NOTHING, Attributes, SelectedDatabase
from rdsiam.access.users import DeclaredUser, gives
from rdsiam.core.changes import Unreached


@dataclass(frozen=True)
class Gain:
    """A gain of one user of a database.

    :ivar what: such as `readwrite on shop`, `role arn:…`, `caller {groups: oncall}`; empty if it is the login alone.
    """

    user: str
    what: str

    def __str__(self) -> str:
        return f"{self.user}: {self.what}" if self.what else self.user


@dataclass(frozen=True)
class Pending:
    """The gains of a database that need confirmation.

    :ivar changed: how the attributes differ from the recorded ones.
    :ivar entries: the entries of access.yaml that match the current attributes only, such as `databases[7]`.
    """

    changed: str
    entries: tuple[str, ...]
    gains: tuple[Gain, ...]

    def __str__(self) -> str:
        return (
            f"{self.changed}; {', '.join(self.entries) or 'access.yaml'} would give {', '.join(map(str, self.gains))}"
        )


def pending(file: AccessFile, database: SelectedDatabase) -> Pending | None:
    """Return what the current attributes would give that the recorded ones don't; None if that is nothing.

    :raises AccessFileInvalid: as `AccessFile.declared` does.
    """
    if not database.differs:
        return None
    effective = {user.name: user for user in file.declared(database)}
    gains = [gain for user in file.declared(database.confirmed) for gain in _gains(effective.get(user.name), user)]
    rotating = set(file.rotating(database))
    gains += [
        Gain(user.name, f"rotation every {user.every}")
        for user in file.rotating(database.confirmed)
        if user not in rotating
    ]
    if not gains:
        return None
    current, recorded = database.guises
    entries = sorted(file.entries(current) - file.entries(recorded))
    return Pending(_changed(database), tuple(f"databases[{number}]" for number in entries), tuple(gains))


def unreached(database: SelectedDatabase, waiting: Pending) -> Unreached:
    """Return what waits as an element of `incomplete` in OnboardFunction's answer."""
    return Unreached(
        what=database.arn,
        reason=f"needs confirmation: {waiting}",
        remedy=f"if they may have that: rdsiam onboard {database.arn} --confirm; else take the change back, or correct "
        "access.yaml",
        retry=False,
    )


def _gains(effective: DeclaredUser | None, user: DeclaredUser) -> Iterator[Gain]:
    if effective is None:
        effective = DeclaredUser(user.name, (), (), (), False, user.replaces)
        if not (user.grants or user.roles or user.callers) or user.replaces:
            yield Gain(user.name, f"replaces {user.replaces}" if user.replaces else "")
    for grant in user.grants:
        if not gives(effective.grants, grant):
            yield Gain(user.name, str(grant))
    for role in user.roles:
        if role not in effective.roles:
            yield Gain(user.name, f"role {role}")
    for rule in user.callers:
        if rule not in effective.callers:
            yield Gain(user.name, f"caller {_caller(rule)}")
    if user.adopt and not effective.adopt and user.replaces is None:
        yield Gain(user.name, "adopt")


def _caller(rule: CallerRule) -> str:
    claims = ", ".join(f"{name}: {value}" for name, value in sorted((rule.claim or {}).items()))
    return rule.role or f"{{{claims}}}"


def _changed(database: SelectedDatabase) -> str:
    recorded, current = database.recorded, Attributes.of(database)
    if recorded is None or recorded == NOTHING:
        return f"{database.identifier} is a copy of a database that rdsiam does not know"
    parts = []
    if recorded.identifier != current.identifier:
        parts.append(f"identifier {recorded.identifier} → {current.identifier}")
    if recorded.engine != current.engine:
        parts.append(f"engine {recorded.engine} → {current.engine}")
    for key in sorted({*recorded.tags, *current.tags}):
        before, now = recorded.tags.get(key), current.tags.get(key)
        if before != now:
            parts.append(f"tag {key}: {before or 'none'} → {now or 'none'}")
    return f"recorded for it, or for its source, was another {'; '.join(parts)}"
