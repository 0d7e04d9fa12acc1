"""The model of access.yaml: entries, users and callers, and what they declare for a database."""

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from rdsiam.access import fields, groups, schemas
from rdsiam.access.calendar import CYCLES
from rdsiam.access.callers import CallerRule, Principal
from rdsiam.access.document import Document, Path, fail, read, refuse
from rdsiam.access.groups import Groups
from rdsiam.access.rotation import CLONE, Rotate, RotatingUser, rotating_users
from rdsiam.access.rotation import problems_on as rotation_problems
from rdsiam.access.schema import without_null
from rdsiam.access.selection import SelectedDatabase
from rdsiam.access.users import DeclaredUser, in_common, merge
from rdsiam.aws.rds_models import FAMILIES, Database, Family
from rdsiam.core.similar import did_you_mean


def parse(text: str) -> "AccessFile":
    """Read access.yaml and check all that can be checked without a database.

    :raises AccessFileInvalid: with every problem found, each with line and key, never with a value of free text.
    """
    document = read(text)
    try:
        access = AccessFile.model_validate(document.data)
    except ValidationError as error:
        errors = error.errors(include_input=False, include_url=False, include_context=False)
    else:
        access._document = document
        fail([*access._case_collisions(), *access._useless_exclusions()])
        return access
    # Raised out here, so that pydantic's error, which may show more, does not travel along as context.
    refuse(document, errors, _KEYS, _VOCABULARIES)
    raise AssertionError("pydantic refused the file and named no problem")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of access.yaml, for editors; it can't express every rule that `parse` checks."""
    schema: dict[str, Any] = without_null(AccessFile.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "rdsiam access.yaml"}


class Place(NamedTuple):
    """The position of a declared user in the file, such as `databases[0].users[1]`."""

    entry: int
    user: int

    @property
    def parts(self) -> Path:
        return ("databases", self.entry, "users", self.user)

    def __str__(self) -> str:
        return f"databases[{self.entry}].users[{self.user}]"


class _Model(BaseModel):
    model_config = fields.STRICT


#: What the schema alone can't see: rights come from `privileges` and `on`, or from `replaces`.
_USER_SCHEMA: dict[str, Any] = {
    "required": ["name"],
    "oneOf": [{"required": ["privileges", "on"]}, {"required": ["replaces"]}],
}


class User(_Model):
    """A database user and who may log in as it."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(_USER_SCHEMA))

    name: fields.UserName
    privileges: fields.Privileges | None
    on: schemas.DatabaseNames | None
    replaces: fields.ExistingName | None = None
    roles: list[fields.RoleArn] = []
    callers: list[CallerRule] = []
    adopt: bool = False
    connections: fields.Connections | None = None

    @model_validator(mode="before")
    @classmethod
    def _may_leave_rights_out(cls, data: Any) -> Any:
        """Need neither privileges nor on where there is replaces: what is missing elsewhere is said key by key."""
        return {"privileges": None, "on": None} | data if isinstance(data, dict) and "replaces" in data else data

    @model_validator(mode="after")
    def _has_one_kind_of_rights(self) -> "User":
        if self.replaces is not None and (self.privileges is not None or self.on is not None):
            raise ValueError("replaces gives all that the other user may do: leave privileges and on out")
        if problem := schemas.problems_with_owner(self.on or (), self.privileges):
            raise ValueError(problem)
        return self


class Match(_Model):
    """Which databases an entry is about: those for which all of the given keys hold."""

    engine: fields.Engines | None = None
    identifier: fields.IdentifierPattern | None = None
    tags: Annotated[dict[fields.Label, str], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> "Match":
        if self.engine is None and self.identifier is None and self.tags is None:
            raise ValueError('needs engine, identifier or tags; for every database say identifier: "*"')
        return self

    def may_cover(self, identifier: str | None) -> bool:
        """Tell whether the entry can be about a database of that identifier, or of one that is not known."""
        # RDS writes identifiers in lower case, however they were typed.
        return identifier is None or self.identifier is None or fnmatchcase(identifier.lower(), self.identifier.lower())

    def covers(self, database: Database) -> bool:
        """Tell whether the entry is about this database; never for an engine without IAM authentication."""
        return (
            database.engine in FAMILIES
            and (self.engine is None or database.engine in self.engine)
            and self.may_cover(database.identifier)
            and all(database.tags.get(key) == value for key, value in (self.tags or {}).items())
        )


class Suppression(_Model):
    """A finding that the owner accepts, for a time and a reason."""

    finding: fields.FindingKind
    user: fields.Label | None = None
    reason: fields.Reason
    until: fields.Time


class Entry(_Model):
    """Users for the databases that match."""

    match: Match
    users: list[User] = []
    exclude_schemas: fields.SchemaNames = []
    adopt_groups: bool = False
    group_prefix: fields.GroupPrefix | None = None
    rotate: Rotate | None = None
    suppress: list[Suppression] = []


class AccessFile(_Model):
    """The whole of access.yaml."""

    version: fields.Version
    auditors: list[Principal] = []
    databases: Annotated[list[Entry], Field(min_length=1)]

    _document: Document = PrivateAttr(default_factory=lambda: Document(None, {}))

    @property
    def users_with_passwords(self) -> frozenset[str]:
        """Names of the users that keep a password, their clones', and names of users that are replaced."""
        rotating = {name for entry in self.databases if entry.rotate for name in entry.rotate.users}
        replaced = {user.replaces for entry in self.databases for user in entry.users if user.replaces is not None}
        return frozenset({*rotating, *(name + CLONE for name in rotating), *replaced})

    def declared(self, database: SelectedDatabase) -> tuple[DeclaredUser, ...]:
        """Return the users that this database should have, merged over all matching entries, sorted by name.

        Of two levels on the same database the stronger counts; SQL privileges add up. The order of entries does not
        matter. If identifier or tags are other than recorded, users have what both declare.

        :raises AccessFileInvalid: for what is wrong only here: a name too long for the engine, the master user's
            name, a role of another account, a privilege that the engine doesn't have.
        """
        users, *recorded = (self._declared(each) for each in database.current_and_recorded)
        return in_common(users, recorded[0]) if recorded else users

    def _declared(self, database: Database) -> tuple[DeclaredUser, ...]:
        merged: dict[str, list[User]] = {}
        declarations = self.declarations(database)
        for _, user in declarations:
            merged.setdefault(user.name, []).append(user)
        fail(self._replacing_problems(declarations))
        entries = [entry for _, entry in self._matching(database)]
        excluded = tuple(sorted({schema for entry in entries for schema in entry.exclude_schemas}))
        groups_there = _groups(entries)
        return tuple(_merged(name, merged[name], excluded, groups_there) for name in sorted(merged))

    def _matching(self, database: Database) -> list[tuple[int, Entry]]:
        """Return the entries that match a database as it is, with their numbers."""
        return [(number, entry) for number, entry in enumerate(self.databases) if entry.match.covers(database)]

    def rotating(self, database: SelectedDatabase) -> tuple[RotatingUser, ...]:
        """Return the users whose passwords are rotated on this database, sorted by name; empty if it has no users.

        If identifier or tags are other than recorded, those that both rotate alike.

        :raises AccessFileInvalid: as `declared` does, and for a user that is rotated and declared, or in two ways.
        """
        users, *recorded = (self._rotating(each) for each in database.current_and_recorded)
        return tuple(user for user in users if user in recorded[0]) if recorded else users

    def suppressions(self, database: SelectedDatabase) -> tuple[Suppression, ...]:
        """Return what is accepted on this database, by entries that match its recorded attributes as well."""
        return tuple(
            suppression
            for entry in self.databases
            if all(entry.match.covers(each) for each in database.current_and_recorded)
            for suppression in entry.suppress
        )

    def entries(self, database: Database) -> frozenset[int]:
        """Return the numbers of the entries that match a database as it is."""
        return frozenset(number for number, _ in self._matching(database))

    def _rotating(self, database: Database) -> tuple[RotatingUser, ...]:
        self.declarations(database)
        return rotating_users(self._rotations(database)) if database.has_users else ()

    def _rotations(self, database: Database) -> list[tuple[Path, Rotate]]:
        return [
            (("databases", number, "rotate"), entry.rotate)
            for number, entry in self._matching(database)
            if entry.rotate is not None
        ]

    def declarations(self, database: Database) -> list[tuple[Place, User]]:
        """Return the users of all matching entries, and where each is declared.

        :raises AccessFileInvalid: as `declared` does.
        """
        matching = self._matching(database)
        declarations = [
            (Place(number, index), user) for number, entry in matching for index, user in enumerate(entry.users)
        ]
        prefix = _groups(entry for _, entry in matching).prefix
        fail(
            self._document.problem((*place.parts, *more), text)
            for place, user in declarations
            for more, text in _problems_on(database, user, prefix)
        )
        fail(
            self._document.problem(("databases", number, *more), text)
            for number, entry in matching
            for more, text in _problems_with_family([database.family], entry)
        )
        prefixes = [(("databases", number, "group_prefix"), entry.group_prefix) for number, entry in matching]
        fail(self._document.problem(path, text) for path, text in groups.differing_prefixes(prefixes))
        rotated = rotation_problems(database, self._rotations(database), {user.name for _, user in declarations})
        fail(self._document.problem(path, text) for path, text in rotated)
        return declarations

    def _replacing_problems(self, declarations: Iterable[tuple[Place, User]]) -> Iterable[tuple[int, str]]:
        """Yield each user that is replaced by two others, or replaced and declared as well."""
        declared = {user.name: user for _, user in declarations}
        successors: dict[str, str] = {}
        for place, user in declarations:
            path = (*place.parts, "replaces")
            if declared[user.name].replaces != user.replaces:
                text = "another entry gives this user other rights: either privileges or replaces"
                yield self._document.problem(place.parts, text)
            if user.replaces is None:
                continue
            if user.replaces != user.name and user.replaces in declared:
                yield self._document.problem(path, f"{user.replaces} is declared itself: take one of the two out")
            if successors.setdefault(user.replaces, user.name) != user.name:
                yield self._document.problem(path, f"{successors[user.replaces]} replaces {user.replaces} already")

    def unknown_findings(self, kinds: Collection[str]) -> list[str]:
        """Return a line for each suppressed kind of finding that doesn't exist: it suppresses nothing.

        :param kinds: those that exist.
        """
        problems = []
        for number, entry in enumerate(self.databases):
            for index, suppression in enumerate(entry.suppress):
                if suppression.finding not in kinds:
                    advice = did_you_mean(suppression.finding, kinds) or "docs/findings.md lists all"
                    path = ("databases", number, "suppress", index, "finding")
                    text = f"no finding has the kind {suppression.finding}; {advice}"
                    problems.append(self._document.problem(path, text))
        return [text for _, text in sorted(problems)]

    def _useless_exclusions(self) -> Iterable[tuple[int, str]]:
        """Yield keys for PostgreSQL in entries that are about MySQL or MariaDB alone; of others a database tells."""
        for number, entry in enumerate(self.databases):
            families = {FAMILIES[engine] for engine in entry.match.engine or ()}
            if len(families) == 1:
                for more, text in _problems_with_family(families, entry):
                    yield self._document.problem(("databases", number, *more), text)

    def _case_collisions(self) -> Iterable[tuple[int, str]]:
        """Names that differ only in case are one name to some servers and clients, and to most people."""
        first: dict[str, str] = {}
        for number, entry in enumerate(self.databases):
            for index, user in enumerate(entry.users):
                if first.setdefault(user.name.lower(), user.name) != user.name:
                    yield self._document.problem(
                        ("databases", number, "users", index, "name"),
                        f"differs from {first[user.name.lower()]} only in case",
                    )


def _groups(entries: Iterable[Entry]) -> Groups:
    """Return the declaration of entries about groups."""
    return Groups.merged((entry.group_prefix, entry.adopt_groups) for entry in entries)


def _problems_with_family(families: Collection[Family], entry: Entry) -> Iterable[tuple[Path, str]]:
    """Yield the keys of an entry that the families of engines don't have."""
    yield from schemas.problems_with_exclusion(families, entry.exclude_schemas)
    yield from groups.problems_of(families, entry.group_prefix, entry.adopt_groups)


def _problems_on(database: Database, user: User, prefix: str) -> Iterable[tuple[Path, str]]:
    """Yield what is wrong with a declaration on this very database.

    :param prefix: begins the names of groups.
    """
    on = user.on or []
    names, roles = schemas.names(on), _roles(user)
    yield from fields.problems_on(database, user.name, user.privileges, names, roles, user.replaces, prefix)
    yield from schemas.problems_on(database.family, on)


def _roles(user: User) -> Iterable[tuple[Path, str]]:
    """Yield every role of a declaration, and where it stands in it."""
    for index, role in enumerate(user.roles):
        yield ("roles", index), role
    for index, rule in enumerate(user.callers):
        if rule.role is not None:
            yield ("callers", index, "role"), rule.role


def _merged(name: str, declarations: list[User], excluded: tuple[str, ...], groups_there: Groups) -> DeclaredUser:
    """Merge the declarations of a user on one database.

    :param excluded: schemas that grants leave out unless they name them.
    :param groups_there: what is declared about the groups of the server.
    """
    grants = merge(
        (
            grant
            for user in declarations
            if user.privileges is not None
            for grant in schemas.grants(user.on or (), user.privileges)
        ),
        excluded,
    )
    callers = {rule.model_dump_json(): rule for user in declarations for rule in user.callers}
    return DeclaredUser(
        name,
        grants,
        tuple(sorted({role for user in declarations for role in user.roles})),
        tuple(callers[text] for text in sorted(callers)),
        any(user.adopt or user.replaces == name for user in declarations),
        declarations[0].replaces,
        max((user.connections for user in declarations if user.connections is not None), default=None),
        excluded if any(grant.schemas is None for grant in grants) else (),
        groups_there,
    )


_MODELS = (AccessFile, Entry, Match, User, schemas.SchemasOf, CallerRule, Suppression, Rotate)
_KEYS = {key for model in _MODELS for key in model.model_fields}
_VOCABULARIES = {"privileges": {*fields.COVERED, *fields.ALL_PRIVILEGES}, "every": CYCLES}
