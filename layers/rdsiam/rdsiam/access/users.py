"""Users as all entries of access.yaml together declare them for one database, and what two declarations share."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from rdsiam.access import fields
from rdsiam.access.callers import CallerRule

#: From weakest to strongest.
LEVELS = ("readonly", "readwrite", "owner")


@dataclass(frozen=True)
class Grant:
    """The rights of a user on one database (PostgreSQL) or schema (MySQL).

    :ivar on: its name, or `*` for all but the system's.
    :ivar privileges: `readonly`, `readwrite` or `owner`; or SQL privileges, sorted, in upper case.
    """

    on: str
    privileges: str | tuple[str, ...]

    def __str__(self) -> str:
        privileges = self.privileges if isinstance(self.privileges, str) else ", ".join(self.privileges)
        return f"{privileges} on {self.on}"


@dataclass(frozen=True)
class DeclaredUser:
    """A user as all entries together declare it for one database; every tuple is sorted.

    :ivar roles: ARNs of the roles that may sign tokens themselves.
    :ivar callers: who may ask for tokens.
    :ivar adopt: take over a user of this name that somebody else has made.
    :ivar replaces: the user whose rights it has instead of grants of its own; itself where it only changes how it logs
        in; None for a user with grants.
    :ivar connections: how many sessions it may have at once; None if access.yaml doesn't say.
    """

    name: str
    grants: tuple[Grant, ...]
    roles: tuple[str, ...]
    callers: tuple[CallerRule, ...]
    adopt: bool
    replaces: str | None = None
    connections: int | None = None

    @property
    def predecessor(self) -> str | None:
        """The other user whose rights it has; None for one that replaces nobody, or itself."""
        return None if self.replaces == self.name else self.replaces

    def grants_on(self, existing: Iterable[str]) -> tuple[Grant, ...]:
        """Return the grants with `*` spelled out, merged for each database.

        :param existing: the databases or schemas there are; the system's are left out.
        :return: also grants on databases that are named but don't exist.
        """
        every = [name for name in existing if name.lower() not in fields.SYSTEM_DATABASES]
        return merge(
            Grant(name, grant.privileges)
            for grant in self.grants
            for name in (every if grant.on == "*" else [grant.on])
        )


def merge(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """Return for each database its strongest level, and the SQL privileges of all lists unless the level has them."""
    levels: dict[str, str] = {}
    lists: dict[str, set[str]] = {}
    for grant in grants:
        if isinstance(grant.privileges, str):
            levels[grant.on] = max(levels.get(grant.on, LEVELS[0]), grant.privileges, key=LEVELS.index)
        else:
            lists.setdefault(grant.on, set()).update(grant.privileges)
    result = [Grant(on, level) for on, level in levels.items()]
    for on, privileges in lists.items():
        if not privileges <= fields.COVERED.get(levels.get(on, ""), frozenset()):
            result.append(Grant(on, tuple(sorted(privileges))))
    return tuple(sorted(result, key=lambda grant: (grant.on, isinstance(grant.privileges, tuple))))


def gives(grants: Iterable[Grant], grant: Grant) -> bool:
    """Return whether these grants together give all that the other one does."""
    level, listed = _on(grants, grant.on)
    if isinstance(grant.privileges, str):
        return _rank(level) >= _rank(grant.privileges)
    return set(grant.privileges) <= listed | _covered(level)


def in_common(one: Iterable[DeclaredUser], other: Iterable[DeclaredUser]) -> tuple[DeclaredUser, ...]:
    """Return the users that both declare, with what both give them: no grant, role or caller of one alone."""
    others = {user.name: user for user in other}
    return tuple(
        user if user == others[user.name] else _common(user, others[user.name])
        for user in one
        if user.name in others and user.replaces == others[user.name].replaces
    )


def _common(one: DeclaredUser, other: DeclaredUser) -> DeclaredUser:
    callers = {
        rule.model_dump_json(): rule
        for first, second in product(one.callers, other.callers)
        if (rule := first.narrowed(second)) is not None
    }
    return DeclaredUser(
        one.name,
        merge(_common_grants(one.grants, other.grants)),
        tuple(sorted(set(one.roles) & set(other.roles))),
        tuple(callers[text] for text in sorted(callers)),
        one.adopt and other.adopt,
        one.replaces,
        min((user.connections for user in (one, other) if user.connections is not None), default=None),
    )


def _common_grants(one: Iterable[Grant], other: Iterable[Grant]) -> Iterator[Grant]:
    one, other = tuple(one), tuple(other)
    for on in {grant.on for grant in (*one, *other)}:
        level, listed = _on(one, on)
        other_level, other_listed = _on(other, on)
        lower = min(level, other_level, key=_rank)
        if lower is not None:
            yield Grant(on, lower)
        both = (listed | _covered(level)) & (other_listed | _covered(other_level)) - _covered(lower)
        if both:
            yield Grant(on, tuple(sorted(both)))


def _on(grants: Iterable[Grant], on: str) -> tuple[str | None, frozenset[str]]:
    """Return the strongest level and all listed privileges on a database, those of `*` included."""
    held = [grant.privileges for grant in grants if grant.on in (on, "*")]
    levels = [one for one in held if isinstance(one, str)]
    listed = frozenset(privilege for one in held if not isinstance(one, str) for privilege in one)
    return max(levels, key=_rank, default=None), listed


def _rank(level: str | None) -> int:
    return -1 if level is None else LEVELS.index(level)


def _covered(level: str | None) -> frozenset[str]:
    return frozenset() if level is None else fields.COVERED[level]
