"""A database that is onboarded for six users, without a server: runs of OnboardFunction whose actions are listed."""

import json
from collections.abc import Callable
from typing import Any

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner

from rdsiam.access.model import parse
from rdsiam.access.store import Versioned
from rdsiam.core.changes import Change, Refusal, Unreached
from rdsiam.errors import AccessFileUnavailable
from rdsiam.onboarding import flow, revocation
from rdsiam.onboarding.answer import Answer
from rdsiam.onboarding.convergence import Convergence
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.options import Options
from rdsiam.onboarding.server_removal import Removal
from rdsiam.state.applied_access import AppliedAccess
from rdsiam.state.inventory import Inventory
from rdsiam.state.leases import Leases
from rdsiam.state.record import Applied, Record
from tests.unit.databases import ORDERS
from tests.unit.results import Results

TABLE = "inventory"
USERS = ("app", "report", "etl", "web", "jobs", "batch")
LOCKED = Change("disable-user", "app", "ALTER ROLE app NOLOGIN")
#: The answer of PolicyFunction, or of SecretsFunction, if it refuses.
REFUSED = {
    "status": "refused",
    "code": "role-not-managed",
    "reason": "role x is not tagged",
    "remedy": "tag it",
    "changes": [],
}
SPOILED = Refusal("a tenant spoiled the server", "", "refused")
FOREIGN = Refusal("a role newcomer exists that rdsiam did not create", "set adopt: true", "refused")
DOWN = Unreached(ORDERS.arn, "connecting to orders failed at port: timeout", "see that it is available")


class World:
    """A database that is onboarded for six users; `done` lists the actions of its runs."""

    def __init__(self, dynamodb: Any) -> None:
        self.database = ORDERS
        self.inventory = Inventory(dynamodb, TABLE)
        self.leases = Leases(dynamodb, TABLE)
        self.done: list[str] = []
        self.removals: list[Removal] = []
        self.converged: list[Exception | Convergence] = []
        self.planned = {"status": "planned", "reason": "", "changes": []}
        self.removed: dict[str, Any] = {}
        self.withdraws = True
        self.withdrawals: list[Exception | None] = []
        #: Answers of PolicyFunction that come before its usual ones.
        self.busy: list[str] = []
        self.without_room: list[dict[str, Any]] = []
        self.enabled: frozenset[str] | None = frozenset(USERS)
        #: Actions of others while a login is removed.
        self.meanwhile: list[Callable[[], Any]] = []
        self.readable = True
        self.version = 1
        #: A newer version, which waits for confirmation.
        self.newer: Versioned | None = None
        self.declare(*USERS)
        self.inventory.record_ownership(ORDERS, dict.fromkeys(("rdsiam_manager", *USERS, "shop_readonly"), "created"))
        self.inventory.set_roles(ORDERS.arn, ORDERS.resource_id, ["arn:aws:iam::123456789012:role/app"], {})
        self.inventory.onboarded(ORDERS, Applied("v0", "before", 2, USERS), "before", "2026-01-01T00:00:00Z")
        self.rotated: dict[str, Any] = {"status": "unchanged", "reason": "", "changes": []}
        self.services = OnboardingServices(
            connect_role_shards=1,
            databases=type(
                "Databases", (), {"describe": lambda _, __: self.database, "of_resource": lambda _, __: None}
            )(),
            access=self,  # type: ignore[arg-type]
            newest=self,  # type: ignore[arg-type]
            applied=AppliedAccess(dynamodb, TABLE),
            inventory=self.inventory,
            leases=self.leases,
            logins=None,  # type: ignore[arg-type]
            results=Results(),
            events=type("Events", (), {"put_events": lambda _, **__: {"FailedEntryCount": 0}})(),
            functions=None,
            policy_function="policies",
            secrets_function="secrets",
            onboard_function="onboard",
        )

    def declare(self, *users: str) -> None:
        lines = [f"{{name: {user}, privileges: readonly, on: [shop]}}" for user in users or ("nobody",)]
        match = "orders" if users else "another"
        other = "  - match: {identifier: other}\n    users: [{name: x, privileges: readonly, on: [shop]}]\n"
        self.file = parse(
            f"version: 1\ndatabases:\n  - match: {{identifier: {match}}}\n    users: [{', '.join(lines)}]\n{other}"
        )

    def current(self) -> Versioned:
        if not self.readable:
            raise AccessFileUnavailable("access.yaml can't be read")
        return Versioned(self.file, f"v{self.version}")

    def waiting(self) -> Versioned | None:
        return self.newer

    def policies(self, event: Any, _: Any) -> dict[str, Any]:
        if event.get("plan"):
            return self.planned
        if self.removed and "plan" in event:
            return self.removed
        name = "withdraw" if event.get("withdraw") else "write"
        self.done.append(name)
        if name == "withdraw" and self.withdrawals and (error := self.withdrawals.pop(0)):
            raise error
        if name == "withdraw" and not self.withdraws:
            return {"status": "unchanged", "reason": "", "changes": []}
        if name in self.busy:
            self.busy.remove(name)
            return {"status": "busy", "reason": "another run works on role/app", "changes": []}
        changes = [Change("update-policy", name, name).to_json()]
        without_room = self.without_room if name == "write" else []
        return {"status": "written", "reason": "", "changes": changes, "incomplete": without_room}

    def rotations(self, event: Any, _: Any) -> dict[str, Any]:
        self.done.append("end rotations" if event.get("withdraw") else "follow rotations")
        return self.rotated

    def run(self, work: Callable[[DurableContext, OnboardingServices], Answer]) -> dict[str, Any]:
        @durable_execution
        def handler(_: Any, context: DurableContext) -> dict[str, Any]:
            return work(context, self.services).to_json()

        with DurableFunctionTestRunner(handler, poll_interval=0.01) as runner:
            runner.register_function("policies", self.policies)
            runner.register_function("secrets", self.rotations)
            result = runner.run("{}", execution_timeout=60)
        assert result.result is not None, result.error
        answer: dict[str, Any] = json.loads(result.result)
        return answer

    def onboard(self, confirmed: bool = False, plan: bool = False, beyond_limit: bool = False) -> dict[str, Any]:
        return self.run(
            lambda context, services: flow.onboard(
                context, services, ORDERS.arn, Options(plan, confirmed, beyond_limit)
            )
        )

    def revoke(self, *users: str) -> dict[str, Any]:
        return self.run(lambda context, services: revocation.revoke(context, services, ORDERS.arn, users, "why", False))

    def lift(self, *users: str, plan: bool = False) -> dict[str, Any]:
        return self.run(lambda context, services: revocation.lift(context, services, ORDERS.arn, users, plan))

    @property
    def record(self) -> Record:
        record = self.inventory.get(ORDERS.arn)
        assert record is not None
        return record
