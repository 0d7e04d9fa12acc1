"""The users of one real server, worked on as onboarding does: only AWS is not there."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from rdsiam.access.model import parse
from rdsiam.access.selection import Attributes
from rdsiam.access.store import Versioned
from rdsiam.access.users import Grant
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Change, Refusal, Unreached
from rdsiam.engines.logins import MANAGER, Password, Token
from rdsiam.onboarding.convergence import Convergence
from rdsiam.onboarding.database_users import Users
from rdsiam.onboarding.options import Options
from rdsiam.onboarding.privileges import Batch, Privileges
from rdsiam.state.escalations import Examined
from rdsiam.state.layout import Layout
from rdsiam.state.leases import Lease
from rdsiam.state.record import Ownership, Record
from tests.integration.place import Place, master_login


@dataclass
class Inventory:
    """The inventory, in memory.

    :ivar before_recording: called when ownership of accounts is about to be recorded.
    :ivar sources: resource id → the record of a database of which there are copies.
    """

    record: Record
    sources: Mapping[str, Record] = field(default_factory=dict)
    before_recording: Callable[[], None] = field(default=lambda: None)

    def get(self, _: str) -> Record:
        return self.record

    def of(self, _: Database) -> Record:
        return self.record

    def attributes_of(self, resource_id: str) -> Attributes | None:
        return self.record.recorded if self.record.resource_id == resource_id else None

    def select(self, database: Database, recorded: Attributes, copied: bool = False) -> None:
        self.record = replace(self.record, resource_id=database.resource_id, recorded=recorded, copied=copied)

    def record_ownership(self, database: Database, accounts: Mapping[str, Ownership], _: int = 0) -> None:
        self.before_recording()
        self.record = replace(self.record, resource_id=database.resource_id, accounts=dict(accounts), finished=False)

    def set_granted(self, _: Database, granted: Mapping[str, Iterable[Grant]]) -> None:
        self.record = replace(self.record, granted={user: tuple(grants) for user, grants in granted.items()})

    def granted_in(self, resource_id: str) -> Mapping[str, tuple[Grant, ...]]:
        return self.sources[resource_id].granted if resource_id in self.sources else {}

    def set_examined(self, _: Database, examined: Examined) -> None:
        self.record = replace(self.record, examined=examined)

    def set_layout(self, _: Database, layout: Layout) -> None:
        self.record = replace(self.record, layout=layout)

    def release_ownership(self, _: Database, accounts: Mapping[str, Ownership]) -> None:
        self.record = replace(self.record, accounts=dict(accounts))


class NoLeases:
    """Leases of a server on which one run works at a time."""

    def hold(self, database: Database, holder: str) -> Any:
        return nullcontext(Lease(database.resource_id, holder, "", 1, lambda: 0))


class Logins:
    """Logins that the server of a `Place` takes."""

    def manager(self, _: Database) -> Token:
        return Token(MANAGER, f"token-of-{MANAGER}")

    def master(self, _: Database) -> Password:
        return master_login()

    def proof(self, _: Database, user: str) -> Token:
        return Token(user, f"token-of-{user}")


class World:
    """One database with its inventory, and an access.yaml that declares users for it."""

    def __init__(self, place: Place, accounts: Iterable[str] = ()) -> None:
        self.database = place.database
        self.inventory = Inventory(Record(place.database.resource_id, accounts=dict.fromkeys(accounts, "created")))
        self.leases: Any = NoLeases()
        self.logins = Logins()
        self.declare()

    @property
    def databases(self) -> Any:
        return type("Databases", (), {"describe": lambda _, __: self.database})()

    @property
    def access(self) -> Any:
        return type("Access", (), {"current": lambda _: Versioned(self.file, "v1")})()

    def declare(self, *users: Mapping[str, Any], **more: Any) -> None:
        """Publish an access.yaml with these users and no others.

        :param more: other keys of the entry.
        """
        entry = {"match": {"identifier": self.database.identifier}, "users": list(users), **more}
        other = {"match": {"identifier": "no-such"}, "users": [{"name": "x", "privileges": "readonly", "on": ["shop"]}]}
        self.file = parse(json.dumps({"version": 1, "databases": [entry if users else other]}))

    def users(self, confirmed: bool = True) -> Users:
        return Users(self, self.database.arn, Options(confirmed=confirmed))  # type: ignore[arg-type]

    def onboard(self, apply: bool = True, confirmed: bool = True) -> "Onboarded":
        """Make users and groups, then the privileges of the first batch of databases."""
        users = self.users(confirmed).converge(apply)
        if users.refusal or not users.databases:
            return Onboarded(users)
        assert users.applied is not None
        privileges = Privileges(self, self.database.arn, Options(confirmed=confirmed), "a run")  # type: ignore[arg-type]
        return Onboarded(users, privileges.converge(users.applied.declared, apply))


@dataclass(frozen=True)
class Onboarded:
    """The result of both steps."""

    users: Convergence
    batch: Batch = field(default_factory=Batch)

    @property
    def refusal(self) -> Refusal | None:
        return self.users.refusal

    @property
    def changes(self) -> tuple[Change, ...]:
        return (*self.users.changes, *self.batch.changes)

    @property
    def missing(self) -> tuple[Unreached, ...]:
        return (*self.users.denied, *self.batch.missing)
