"""Schemas of PostgreSQL databases as onboarding found them: those that levels open, and those open to everybody."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

#: Maximum number of databases, and of public schemas, that are named for one server.
NAMED_DATABASES = 50
#: Maximum number of schemas that are named for one database.
_NAMED = 20


@dataclass(frozen=True)
class OpenedSchemas:
    """The schemas of one database that a level without `schemas` covers.

    :ivar schemas: the first of them, sorted.
    :ivar count: their number.
    """

    database: str
    schemas: tuple[str, ...]
    count: int

    @classmethod
    def of(cls, database: str, schemas: Iterable[str]) -> "OpenedSchemas":
        """Return the first of these schemas, and their number."""
        names = sorted(schemas)
        return cls(database, tuple(names[:_NAMED]), len(names))

    def to_json(self) -> dict[str, Any]:
        """Return an element of `schemas` in answers and reports."""
        return {"database": self.database, "schemas": list(self.schemas), "count": self.count}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "OpenedSchemas":
        """Return what `to_json` was made from."""
        return cls(data["database"], tuple(data["schemas"]), int(data["count"]))

    def __str__(self) -> str:
        more = self.count - len(self.schemas)
        return f"{self.database}: {', '.join(self.schemas) or 'none'}" + (f" and {more} more" if more else "")


class PublicSchema(NamedTuple):
    """A schema in which every user that may connect to its database may create objects."""

    database: str
    schema: str
    owner: str


class ObservedSchemas(NamedTuple):
    """The schemas that an onboarding found.

    :ivar opened: the first databases, sorted.
    :ivar public: the first schemas, sorted.
    """

    opened: tuple[OpenedSchemas, ...] = ()
    public: tuple[PublicSchema, ...] = ()

    @classmethod
    def of(cls, opened: Iterable[OpenedSchemas], public: Iterable[PublicSchema]) -> "ObservedSchemas":
        """Return as many as are recorded."""
        return cls(
            tuple(sorted(opened, key=lambda each: each.database)[:NAMED_DATABASES]),
            tuple(sorted(public, key=lambda each: (each.database, each.schema))[:NAMED_DATABASES]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; `ObservedSchemas.from_json` gives it back."""
        return {"opened": [each.to_json() for each in self.opened], "public": [each._asdict() for each in self.public]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ObservedSchemas":
        """Return what `to_json` was made from."""
        return cls(
            tuple(map(OpenedSchemas.from_json, data["opened"])),
            tuple(PublicSchema(**each) for each in data["public"]),
        )


#: No schema was observed.
NO_SCHEMAS = ObservedSchemas()
