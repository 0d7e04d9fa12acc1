"""Ways in which a user of a PostgreSQL server can act as one of its administrators, as onboarding found them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

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
    :ivar grantee: the role that holds the privileges, or owns the trigger's function; empty for PUBLIC.
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


class Examined(NamedTuple):
    """The ways to become an administrator, and the schemas, that an onboarding found.

    :ivar databases: where it looked, sorted; of all others nothing is known.
    """

    databases: tuple[str, ...]
    escalations: tuple[Escalation, ...]
    schemas: ObservedSchemas = NO_SCHEMAS

    @classmethod
    def merged(
        cls, known: "Examined | None", examinations: Iterable["Examined"], present: Collection[str]
    ) -> "Examined":
        """Return what is known of a server after some of its databases were looked at.

        :param known: from earlier; None if nothing is.
        :param examinations: of the databases that were examined now.
        :param present: the databases that count; nothing is known of others any longer.
        """
        examinations = list(examinations)
        anew = {name for examined in examinations for name in examined.databases}
        stays = frozenset(present) - anew
        before = [known] if known else []
        databases = {name for examined in before for name in examined.databases if name in stays} | anew
        escalations = [each for examined in before for each in examined.escalations if each.database in stays]
        escalations += [each for examined in examinations for each in examined.escalations]
        opened = [each for examined in before for each in examined.schemas.opened if each.database in stays]
        opened += [each for examined in examinations for each in examined.schemas.opened]
        public = [each for examined in before for each in examined.schemas.public if each.database in stays]
        public += [each for examined in examinations for each in examined.schemas.public]
        return cls(
            tuple(sorted(databases)),
            tuple(
                sorted(escalations, key=lambda each: (each.database, each.owner, each.grantee, each.held))[:_RECORDED]
            ),
            ObservedSchemas.of(opened, public),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; `Examined.from_json` gives it back."""
        escalations = [
            asdict(each) | {"privileges": list(each.privileges), "users": list(each.users)}
            | {"objects": [list(name) for name in each.objects]}
            for each in self.escalations
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
