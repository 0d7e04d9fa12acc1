"""The attributes by which entries of access.yaml select a database: those recorded for its resource id, and its own.

Tags and identifiers can be changed by people to whom access.yaml gives nothing. So an entry gives something only if
it does so for the recorded attributes as well as for the current ones: what the current ones no longer select is lost
at once, what only they select needs confirmation, which records them. See docs/decisions/0037-recorded-attributes.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rdsiam.aws.rds_models import Database


@dataclass(frozen=True)
class Attributes:
    """The attributes of a database that entries of access.yaml can match."""

    engine: str
    identifier: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, database: Database) -> "Attributes":
        """Return the attributes that a database has now."""
        return cls(database.engine, database.identifier, dict(database.tags))

    def to_json(self) -> dict[str, Any]:
        """Return them as plain JSON."""
        return {"engine": self.engine, "identifier": self.identifier, "tags": dict(self.tags)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Attributes":
        """Return what `to_json` was made from."""
        return cls(data["engine"], data["identifier"], dict(data["tags"]))


#: Attributes that no entry matches, since no engine is called so: of a copy whose source is unknown.
NOTHING = Attributes(engine="", identifier="")


@dataclass(frozen=True)
class SelectedDatabase(Database):
    """A database about which access.yaml can be asked.

    :ivar recorded: attributes confirmed for its resource id; None if there are none yet, so that its own decide.
    """

    recorded: Attributes | None = None

    @property
    def differs(self) -> bool:
        """Whether other attributes were recorded than it has now, so that entries may need confirmation."""
        return self.recorded is not None and self.recorded != Attributes.of(self)

    @property
    def current_and_recorded(self) -> tuple["SelectedDatabase", ...]:
        """The database as it is and, if that differs, as it was recorded: an entry has to give something for both."""
        current = self.confirmed
        if not self.differs or self.recorded is None:
            return (current,)
        recorded = self.recorded
        return current, replace(
            current, engine=recorded.engine, identifier=recorded.identifier, tags=dict(recorded.tags)
        )

    @property
    def confirmed(self) -> "SelectedDatabase":
        """The database as it would be if its current attributes were confirmed."""
        return self if self.recorded is None else replace(self, recorded=None)


def select(database: Database, recorded: Attributes | None) -> SelectedDatabase:
    """Return the database with the attributes that are recorded for its resource id.

    :param recorded: None if its own decide: nothing was recorded yet, or they are confirmed.
    """
    described = {each.name: getattr(database, each.name) for each in fields(Database)}
    return SelectedDatabase(**described, recorded=recorded)
