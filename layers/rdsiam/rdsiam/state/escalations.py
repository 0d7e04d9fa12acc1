"""Ways in which a user of a PostgreSQL server can act as one of its administrators, as onboarding found them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rdsiam.state.schemas import NO_SCHEMAS, ObservedSchemas

#: What is held: privileges on tables, privileges on tables that the owner creates later, the function of a trigger.
Held = Literal["tables", "future tables", "trigger"]

#: Maximum number of escalations that are recorded for a server.
_RECORDED = 200


@dataclass(frozen=True)
class Escalation:
    """A role that can have its code run as an administrator.

    :ivar database: where the tables are.
    :ivar owner: the administrator that owns them.
    :ivar grantee: who holds the privileges, or owns the trigger's function; empty for PUBLIC.
    :ivar privileges: `REFERENCES`, `TRIGGER`; empty for a trigger.
    :ivar objects: the first of them: schema and table, and the trigger's name; of future tables the schema, if the
        privileges are limited to one.
    :ivar count: how many there are.
    :ivar users: users that can act as `grantee`, the first of them.
    """

    database: str
    owner: str
    grantee: str
    held: Held
    privileges: tuple[str, ...]
    objects: tuple[tuple[str, ...], ...]
    count: int
    users: tuple[str, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Escalation":
        """Return what `asdict` was made from."""
        lists = {name: tuple(data[name]) for name in ("privileges", "users")}
        return cls(**{**data, **lists, "count": int(data["count"]), "objects": tuple(map(tuple, data["objects"]))})


@dataclass(frozen=True)
class Examined:
    """The ways to become an administrator, and the schemas, that an onboarding found.

    :ivar databases: where it looked, sorted; of all others nothing is known.
    """

    databases: tuple[str, ...]
    escalations: tuple[Escalation, ...]
    schemas: ObservedSchemas = NO_SCHEMAS

    @classmethod
    def merged(cls, known: "Examined | None", found: Iterable["Examined"], present: Collection[str]) -> "Examined":
        """Return what is known of a server after some of its databases were looked at.

        :param known: from earlier; None if nothing is.
        :param found: of the databases that were looked at now.
        :param present: the databases that count; nothing is known of others any longer.
        """
        found = list(found)
        anew = {name for examined in found for name in examined.databases}
        stays = frozenset(present) - anew
        before = [known] if known else []
        databases = {name for each in before for name in each.databases if name in stays} | anew
        escalations = [one for each in before for one in each.escalations if one.database in stays]
        escalations += [one for each in found for one in each.escalations]
        opened = [one for each in before for one in each.schemas.opened if one.database in stays]
        opened += [one for each in found for one in each.schemas.opened]
        public = [one for each in before for one in each.schemas.public if one.database in stays]
        public += [one for each in found for one in each.schemas.public]
        return cls(
            tuple(sorted(databases)),
            tuple(sorted(escalations, key=lambda one: (one.database, one.owner, one.grantee, one.held))[:_RECORDED]),
            ObservedSchemas.of(opened, public),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; `Examined.from_json` gives it back."""
        escalations = [
            asdict(one) | {"privileges": list(one.privileges), "users": list(one.users)}
            | {"objects": [list(name) for name in one.objects]}
            for one in self.escalations
        ]  # fmt: skip
        return {"databases": list(self.databases), "escalations": escalations, "schemas": self.schemas.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Examined":
        """Return what `to_json` was made from."""
        return cls(
            tuple(data["databases"]),
            tuple(map(Escalation.from_json, data["escalations"])),
            ObservedSchemas.from_json(data["schemas"]),
        )
