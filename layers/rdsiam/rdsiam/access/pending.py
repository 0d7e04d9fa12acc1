"""Gains that need confirmation: logins and rights that access.yaml gives only because a database changed.

Entries of access.yaml select a database by engine, identifier and tags. If these differ from the attributes that rdsiam
recorded for the database, or for the database that it is a copy of, an entry may match that did not match before. Its
users get nothing until an operator confirms the current attributes with `rdsiam onboard --confirm`; see
`access.selection`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rdsiam.access.callers import CallerRule
from rdsiam.access.model import AccessFile
from rdsiam.access.selection import NOTHING, Attributes, SelectedDatabase
from rdsiam.access.users import DeclaredUser, Grant, gives, named, schemas_lacking
from rdsiam.core.changes import Unconfirmed


@dataclass(frozen=True)
class Gain:
    """A login or a right that a database user would get by a confirmation.

    :ivar what: such as `readwrite on shop`, `role arn:…`, `caller {groups: oncall}`; empty if the user would get a
        login and nothing else.
    """

    user: str
    what: str

    def __str__(self) -> str:
        return f"{self.user}: {self.what}" if self.what else self.user


@dataclass(frozen=True)
class Pending:
    """The gains of a database that need confirmation.

    :ivar changed: the difference between the recorded attributes and the current ones, as a sentence.
    :ivar entries: the entries of access.yaml, such as `databases[7]`, that match the current attributes and don't match
        the recorded ones.
    """

    changed: str
    entries: tuple[str, ...]
    gains: tuple[Gain, ...]

    def __str__(self) -> str:
        return (
            f"{self.changed}; {', '.join(self.entries) or 'access.yaml'} would give {', '.join(map(str, self.gains))}"
        )


def pending(file: AccessFile, database: SelectedDatabase) -> Pending | None:
    """Return the gains that users would have if the current attributes were confirmed; None if there are none.

    :raises AccessFileInvalid: as `AccessFile.declared` does.
    """
    if not database.differs:
        return None
    # Before the confirmation, a user has only what access.yaml gives for the recorded and for the current attributes.
    effective = {user.name: user for user in file.declared(database)}
    gains = [
        gain
        for confirmed in file.declared(database.confirmed)
        for gain in _gains(effective.get(confirmed.name), confirmed)
    ]
    rotating = set(file.rotating(database))
    gains += [
        Gain(user.name, f"rotation every {user.every}")
        for user in file.rotating(database.confirmed)
        if user not in rotating
    ]
    if not gains:
        return None
    current, recorded = database.current_and_recorded
    entries = sorted(file.entries(current) - file.entries(recorded))
    return Pending(_difference(database), tuple(f"databases[{number}]" for number in entries), tuple(gains))


def unconfirmed(database: SelectedDatabase, waiting: Pending) -> Unconfirmed:
    """Return the gains that wait for confirmation, as an element of `incomplete` in OnboardFunction's answer."""
    return Unconfirmed(
        what=database.arn,
        reason=f"needs confirmation: {waiting}",
        remedy=f"if these users may have this: rdsiam onboard {database.arn} --confirm; otherwise restore the recorded "
        "attributes, or correct access.yaml",
        retry=False,
    )


def _gains(effective: DeclaredUser | None, user: DeclaredUser) -> Iterator[Gain]:
    """Yield what a user would have after the confirmation and doesn't have before it.

    :param effective: the user before the confirmation; None if it is not declared then.
    :param user: the user after the confirmation.
    """
    if effective is None:
        effective = DeclaredUser(user.name, (), (), (), False, user.replaces)  # has nothing
        # A new user gains its login. Grants, roles and callers imply the login, so it is listed only if there are none.
        if not (user.grants or user.roles or user.callers) or user.replaces:
            yield Gain(user.name, f"replaces {user.replaces}" if user.replaces else "")
    for grant in user.grants:
        if not gives(effective.grants, grant, effective.excluded_schemas):
            yield Gain(user.name, str(grant))
        elif opened := _opened(effective, user, grant):
            yield Gain(user.name, f"{grant}: {named(opened)}, no longer excluded")
    for role in user.roles:
        if role not in effective.roles:
            yield Gain(user.name, f"role {role}")
    for rule in user.callers:
        if rule not in effective.callers:
            yield Gain(user.name, f"caller {_caller(rule)}")
    if user.adopt and not effective.adopt and user.replaces is None:
        yield Gain(user.name, "adopt")


def _opened(effective: DeclaredUser, user: DeclaredUser, grant: Grant) -> list[str]:
    """Return the schemas that a grant no longer leaves out, and on which the user has not the same rights already."""
    if grant.schemas is not None:
        return []
    opened = {*effective.excluded_schemas} - {*user.excluded_schemas}
    return schemas_lacking(effective.grants, replace(grant, schemas=tuple(opened)), effective.excluded_schemas)


def _caller(rule: CallerRule) -> str:
    claims = ", ".join(f"{name}: {value}" for name, value in sorted((rule.claim or {}).items()))
    return rule.role or f"{{{claims}}}"


def _difference(database: SelectedDatabase) -> str:
    """Return the difference between the recorded attributes and the current ones, as a sentence."""
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
    return f"{current.identifier} differs from what is recorded for it, or for its source ({'; '.join(parts)})"
