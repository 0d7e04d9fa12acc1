"""Users as all entries of access.yaml together declare them for one database, and what two declarations share."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from rdsiam.access import fields
from rdsiam.access.callers import CallerRule
from rdsiam.access.groups import NO_GROUPS, Groups

#: Maximum number of schemas that a text names.
_NAMED = 10
#: From weakest to strongest.
LEVELS = ("readonly", "readwrite", "owner")


@dataclass(frozen=True)
class Grant:
    """The rights of a user on one database (PostgreSQL) or schema (MySQL).

    :ivar on: its name, or `*` for all but the system's.
    :ivar privileges: `readonly`, `readwrite` or `owner`; or SQL privileges, sorted, in upper case.
    :ivar schemas: the schemas of the PostgreSQL database to which the rights are limited, sorted; None for all except
        the excluded ones.
    """

    on: str
    privileges: str | tuple[str, ...]
    schemas: tuple[str, ...] | None = None

    def to_json(self) -> list[Any]:
        """Return the grant as plain JSON, without `schemas` if it is not limited."""
        privileges = self.privileges if isinstance(self.privileges, str) else list(self.privileges)
        return [self.on, privileges, *([list(self.schemas)] if self.schemas is not None else [])]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> "Grant":
        """Return the grant from which `to_json` made this JSON."""
        on, privileges, *schemas = data
        return cls(
            on,
            privileges if isinstance(privileges, str) else tuple(privileges),
            tuple(schemas[0]) if schemas else None,
        )

    def __str__(self) -> str:
        privileges = self.privileges if isinstance(self.privileges, str) else ", ".join(self.privileges)
        limit = "" if self.schemas is None else f" ({named(self.schemas)})"
        return f"{privileges} on {self.on}{limit}"


@dataclass(frozen=True)
class DeclaredUser:
    """A user as all entries together declare it for one database; every tuple is sorted.

    :ivar roles: ARNs of the roles that may sign tokens themselves.
    :ivar callers: who may ask for tokens.
    :ivar adopt: take over a user of this name that somebody else has made.
    :ivar replaces: the user whose rights it has instead of grants of its own; itself where it only changes how it logs
        in; None for a user with grants.
    :ivar connections: how many sessions it may have at once; None if access.yaml doesn't say.
    :ivar excluded_schemas: schemas of PostgreSQL databases that its grants leave out unless they name them; sorted.
    :ivar groups: what is declared about the groups of a PostgreSQL server; the same for all of its users.
    """

    name: str
    grants: tuple[Grant, ...]
    roles: tuple[str, ...]
    callers: tuple[CallerRule, ...]
    adopt: bool
    replaces: str | None = None
    connections: int | None = None
    excluded_schemas: tuple[str, ...] = ()
    groups: Groups = NO_GROUPS

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
            (
                Grant(name, grant.privileges, grant.schemas)
                for grant in self.grants
                for name in (every if grant.on == "*" else [grant.on])
            ),
            self.excluded_schemas,
        )


class _Rights(NamedTuple):
    """Rights on one scope: a level, and SQL privileges that are listed."""

    level: str | None = None
    listed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, privileges: str | tuple[str, ...]) -> "_Rights":
        return cls(privileges) if isinstance(privileges, str) else cls(None, frozenset(privileges))

    def with_all_of(self, other: "_Rights") -> "_Rights":
        return _Rights(max(self.level, other.level, key=_rank), self.listed | other.listed)

    def in_common_with(self, other: "_Rights") -> "_Rights":
        lower = min(self.level, other.level, key=_rank)
        both = (self.listed | _covered(self.level)) & (other.listed | _covered(other.level))
        return _Rights(lower, both - _covered(lower))

    def includes(self, other: "_Rights") -> bool:
        return _rank(self.level) >= _rank(other.level) and other.listed <= self.listed | _covered(self.level)

    def grants(self) -> Iterator[str | tuple[str, ...]]:
        """Yield the level, and the listed privileges unless the level has them all."""
        if self.level is not None:
            yield self.level
        if not self.listed <= _covered(self.level):
            yield tuple(sorted(self.listed))


_NOTHING = _Rights()
#: A database or MySQL schema, and one schema of the database; None for all of them that are not excluded.
_Scope = tuple[str, str | None]


def merge(grants: Iterable[Grant], excluded: Iterable[str] = ()) -> tuple[Grant, ...]:
    """Return for each database its strongest level, and the SQL privileges of all lists unless the level has them.

    Rights on a schema are left out if the rights on all schemas include them.

    :param excluded: schemas that grants without `schemas` leave out.
    """
    scopes: dict[_Scope, _Rights] = {}
    for grant in grants:
        for scope in _scopes(grant):
            scopes[scope] = scopes.get(scope, _NOTHING).with_all_of(_Rights.of(grant.privileges))
    excluded = frozenset(excluded)
    limited: dict[tuple[str, str | tuple[str, ...]], set[str]] = {}
    result = []
    for (on, schema), rights in scopes.items():
        if schema is None:
            result += [Grant(on, privileges) for privileges in rights.grants()]
        elif schema in excluded or not scopes.get((on, None), _NOTHING).includes(rights):
            for privileges in rights.grants():
                limited.setdefault((on, privileges), set()).add(schema)
    result += [Grant(on, privileges, tuple(sorted(schemas))) for (on, privileges), schemas in limited.items()]
    return tuple(sorted(result, key=_order))


def gives(grants: Iterable[Grant], grant: Grant, excluded: Iterable[str] = ()) -> bool:
    """Return whether these grants together give all that the other one does.

    :param excluded: schemas that those of the grants without `schemas` leave out.
    """
    return not _lacking(grants, grant, excluded)


def schemas_lacking(grants: Iterable[Grant], grant: Grant, excluded: Iterable[str]) -> list[str]:
    """Return the schemas of a grant on which these grants together don't give all that it does; see `gives`."""
    return sorted(schema for _, schema in _lacking(grants, grant, excluded) if schema is not None)


def in_common(first: Iterable[DeclaredUser], second: Iterable[DeclaredUser]) -> tuple[DeclaredUser, ...]:
    """Return the users that both declare, with what both give them: no grant, role or caller of one alone."""
    others = {user.name: user for user in second}
    return tuple(
        user if user == others[user.name] else _common(user, others[user.name])
        for user in first
        if user.name in others and user.replaces == others[user.name].replaces
    )


def named(schemas: Collection[str]) -> str:
    """Return the first schemas as text: `schema app`, `schemas app, crm and 40 more`."""
    names = sorted(schemas)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"schema{'s' if len(names) > 1 else ''} {', '.join(names[:_NAMED])}{more}"


def _lacking(grants: Iterable[Grant], grant: Grant, excluded: Iterable[str]) -> list[_Scope]:
    held, needed = _Held(grants, excluded), _Rights.of(grant.privileges)
    return [scope for scope in _scopes(grant) if not held.on(scope).includes(needed)]


def _common(first: DeclaredUser, second: DeclaredUser) -> DeclaredUser:
    callers = {
        rule.model_dump_json(): rule
        for caller, other in product(first.callers, second.callers)
        if (rule := caller.narrowed(other)) is not None
    }
    excluded = sorted({*first.excluded_schemas, *second.excluded_schemas})
    return DeclaredUser(
        first.name,
        merge(_common_grants(first, second), excluded),
        tuple(sorted(set(first.roles) & set(second.roles))),
        tuple(callers[text] for text in sorted(callers)),
        first.adopt and second.adopt,
        first.replaces,
        min((user.connections for user in (first, second) if user.connections is not None), default=None),
        tuple(excluded),
        first.groups.in_common_with(second.groups),
    )


def _common_grants(first: DeclaredUser, second: DeclaredUser) -> Iterator[Grant]:
    """Yield what both users may do; what either excludes is left out of it unless both name it."""
    held, also_held = (_Held(user.grants, user.excluded_schemas) for user in (first, second))
    for on, schema in {scope for user in (first, second) for grant in user.grants for scope in _scopes(grant, True)}:
        for privileges in held.on((on, schema)).in_common_with(also_held.on((on, schema))).grants():
            yield Grant(on, privileges, None if schema is None else (schema,))


def _scopes(grant: Grant, whole: bool = False) -> Iterator[_Scope]:
    """Yield the scopes of a grant.

    :param whole: yield the whole database as well.
    """
    if grant.schemas is None or whole:
        yield grant.on, None
    for schema in grant.schemas or ():
        yield grant.on, schema


class _Held:
    """Rights by scope: one look-up, however many schemas a file names."""

    def __init__(self, grants: Iterable[Grant], excluded: Iterable[str]) -> None:
        self._excluded = frozenset(excluded)
        self._scopes: dict[_Scope, _Rights] = {}
        for grant in grants:
            for scope in _scopes(grant):
                self._scopes[scope] = self._scopes.get(scope, _NOTHING).with_all_of(_Rights.of(grant.privileges))

    def on(self, scope: _Scope) -> _Rights:
        """Return the rights on a scope, those of `*` and on all schemas included."""
        database, schema = scope
        result = self._scopes.get(scope, _NOTHING)
        if schema not in self._excluded:
            for whole in ((database, None), ("*", None)):
                result = result.with_all_of(self._scopes.get(whole, _NOTHING))
        return result


def _order(grant: Grant) -> tuple[object, ...]:
    return grant.on, grant.schemas is not None, isinstance(grant.privileges, tuple), grant.schemas or (), str(grant)


def _rank(level: str | None) -> int:
    return -1 if level is None else LEVELS.index(level)


def _covered(level: str | None) -> frozenset[str]:
    return frozenset() if level is None else fields.COVERED[level]
