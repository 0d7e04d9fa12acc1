"""Logins of users that leave are removed first, in whatever state the database, its policies or other runs are."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner
from moto import mock_aws

from rdsiam.access.model import parse
from rdsiam.access.selection import Attributes
from rdsiam.access.store import Versioned
from rdsiam.core.changes import Change, Refusal, Unconfirmed, Unreached
from rdsiam.errors import AccessFileUnavailable, ConnectionFailed, DatabaseNotFound
from rdsiam.onboarding import flow, revocation
from rdsiam.onboarding.answer import Answer
from rdsiam.onboarding.convergence import Convergence
from rdsiam.onboarding.database_users import Users
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.options import Options
from rdsiam.onboarding.removal import DatabaseRemoval
from rdsiam.onboarding.server_removal import Removal
from rdsiam.state.inventory import Inventory
from rdsiam.state.leases import Leases
from rdsiam.state.record import RETURNED, Applied, Record, SecretRecord
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

    @property
    def record(self) -> Record:
        record = self.inventory.get(ORDERS.arn)
        assert record is not None
        return record


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb", "eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
        client.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "database", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "database", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


@pytest.fixture
def world(dynamodb, monkeypatch) -> Iterator[World]:
    made = World(dynamodb)

    def remove(_: DatabaseRemoval, names: Any, apply: bool) -> Removal:
        assert set(names) <= set(made.record.leaving) or not apply, "users that leave are recorded before"
        if made.meanwhile:
            made.meanwhile.pop(0)()
        made.done.append(f"remove {','.join(sorted(names))}")
        return made.removals.pop(0) if made.removals else Removal()

    def converge(_: Users, apply: bool, just_switched: bool = False) -> Convergence:
        made.done.append("converge")
        result = made.converged.pop(0) if made.converged else Convergence()
        if isinstance(result, Exception):
            raise result
        users = tuple(user.name for user in made.file.declared(ORDERS))
        applied = None if result.refusal else Applied(f"v{made.version}", "now", 2, users)
        return replace(result, applied=applied)

    monkeypatch.setattr(DatabaseRemoval, "remove", remove)
    monkeypatch.setattr(Users, "converge", converge)
    monkeypatch.setattr(Users, "prove", lambda _: ())
    monkeypatch.setattr(Users, "enabled", lambda _: made.enabled)
    yield made
    made.inventory.forget(ORDERS.arn)
    made.leases.forget(ORDERS.resource_id)


def test_policies_are_withdrawn_first_then_logins_are_locked_then_users_are_made(world):
    world.declare(*USERS[1:])
    world.removals = [Removal((LOCKED,))]
    answer = world.onboard()
    assert world.done == ["withdraw", "remove app", "converge", "write"]
    assert (answer["status"], answer["incomplete"]) == ("onboarded", [])
    assert [change["target"] for change in answer["changes"]] == ["withdraw", "app", "write"]
    assert world.record.leaving == {}
    assert world.record.applied is not None
    assert set(world.record.applied.users) == set(USERS[1:])


def test_no_login_is_removed_if_no_user_leaves(world):
    world.declare(*USERS, "newcomer")
    assert world.onboard()["status"] == "onboarded"
    assert world.done == ["withdraw", "converge", "write"]


def test_a_role_that_refuses_the_run_delays_no_removal(world):
    world.declare(*USERS[1:])
    world.planned = REFUSED
    world.removals = [Removal((LOCKED,))]
    answer = world.onboard()
    assert world.done == ["withdraw", "remove app"]
    assert answer["status"] == "incomplete", "something was changed"
    assert [each["reason"] for each in answer["incomplete"]] == ["role x is not tagged"]
    assert world.record.leaving == {}, "the login is gone"


@pytest.mark.parametrize("stopped", ["unready", "policies", "database"])
def test_rotations_that_are_no_longer_declared_end_whatever_stops_the_rest(world, stopped):
    record = SecretRecord(ORDERS.resource_id, "arn:aws:secretsmanager:eu-west-1:123456789012:secret:s-AbCdEf", "single")
    world.inventory.set_secret(ORDERS.arn, "etl_password", record, None)
    if stopped == "unready":
        world.database = replace(ORDERS, status="stopped")
    elif stopped == "policies":
        world.planned = REFUSED
    else:
        world.converged = [Convergence(refusal=SPOILED)]
    world.onboard()
    assert "end rotations" in world.done
    assert "follow rotations" not in world.done


def test_refused_means_that_nothing_was_changed(world):
    world.planned = REFUSED
    world.withdraws = False
    world.declare(*USERS, "newcomer")
    answer = world.onboard()
    assert (answer["status"], answer["code"]) == ("refused", "role-not-managed")
    assert (answer["reason"], answer["remedy"]) == ("role x is not tagged", "tag it")
    assert (answer["changes"], answer["incomplete"]) == ([], [])


def test_a_refusal_inside_the_database_after_a_part_was_made_is_incomplete(world):
    world.withdraws = False
    world.declare(*USERS, "newcomer")
    manager = Change("create-manager", "rdsiam_manager", "CREATE ROLE rdsiam_manager LOGIN")
    world.converged = [Convergence((manager,), refusal=FOREIGN)]
    answer = world.onboard()
    assert (answer["status"], answer["code"]) == ("incomplete", "refused")
    assert answer["changes"] == [manager.to_json()]
    assert [(part["reason"], part["remedy"]) for part in answer["incomplete"]] == [(FOREIGN.problem, FOREIGN.remedy)]


def test_a_database_that_is_gone_keeps_its_record_if_its_policies_are_not_removed(world):
    def describe(_: Any, arn: str) -> Any:
        raise DatabaseNotFound(f"{arn} does not exist")

    databases = type("Databases", (), {"describe": describe, "of_resource": lambda _, __: None})()
    world.services = replace(world.services, databases=databases)
    world.removed = REFUSED | {"reason": "role x does not exist", "code": "role-not-found"}
    answer = world.onboard()
    assert (answer["status"], answer["code"], answer["changes"]) == ("refused", "role-not-found", [])
    assert world.record.accounts


def test_a_database_that_fails_delays_no_policy_and_is_named(world):
    world.declare(*USERS[1:])
    failed = ConnectionFailed("orders", 5432, "port", "timeout")
    world.removals = [Removal(unreached=(DOWN,))] * 2
    world.converged = [failed] * 6
    answer = world.onboard()
    assert world.done[:2] == ["withdraw", "remove app"]
    assert answer["status"] == "incomplete"
    assert DOWN.to_json() in answer["incomplete"]
    assert "timeout" in world.record.leaving["app"]

    # The next run, which a reconcile starts, continues although access.yaml is the same.
    world.done.clear()
    world.removals = [Removal((LOCKED,))]
    assert world.onboard()["status"] == "onboarded"
    assert "remove app" in world.done
    assert world.record.leaving == {}


def test_a_removal_that_fails_is_tried_again_in_the_same_run(world):
    world.declare(*USERS[1:])
    world.removals = [Removal(unreached=(DOWN,)), Removal(unreached=(DOWN,)), Removal((LOCKED,))]
    answer = world.onboard()
    assert world.done == ["withdraw", "remove app", "converge", "write", "remove app", "remove app"]
    assert answer["status"] == "onboarded"
    assert world.record.leaving == {}


def test_a_removal_that_can_not_succeed_is_not_tried_again_in_the_same_run(world):
    world.declare(*USERS[1:])
    world.removals = [Removal(unreached=(replace(DOWN, retry=False),))]
    answer = world.onboard()
    assert world.done.count("remove app") == 1
    assert answer["status"] == "incomplete"
    assert "app" in world.record.leaving


def test_a_replica_of_another_region_is_named_and_not_tried_again(world):
    world.declare(*USERS[1:])
    elsewhere = "arn:aws:rds:us-east-1:123456789012:db:orders-copy"
    world.removals = [Removal((LOCKED,), (Unreached(elsewhere, "of another region", "revoke there", retry=False),))]
    answer = world.onboard()
    assert [each["what"] for each in answer["incomplete"]] == [elsewhere]
    assert world.record.leaving == {}


def test_users_are_locked_if_their_policies_can_not_be_withdrawn_at_first(world):
    world.declare(*USERS[1:])
    world.withdrawals = [RuntimeError("IAM is down"), None]
    answer = world.onboard()
    assert world.done[:2] == ["withdraw", "remove app"]
    assert world.done.count("withdraw") == 2
    assert answer["status"] == "onboarded"


def test_a_stopped_database_loses_its_policies_and_is_incomplete_until_it_runs(world):
    world.declare(*USERS[1:])
    world.database = replace(ORDERS, status="stopped")
    world.removals = [Removal(unreached=(DOWN,))]
    answer = world.onboard()
    assert world.done == ["withdraw", "remove app"]
    assert answer["status"] == "incomplete"
    world.database = ORDERS
    assert world.onboard()["status"] == "onboarded"


def test_the_change_limit_is_checked_before_any_login_is_removed(world):
    world.declare(*USERS[3:])
    answer = world.onboard()
    assert (answer["status"], answer["changes"], world.done) == ("refused", [], [])
    assert (answer["code"], '"confirm": true' in answer["remedy"]) == ("needs-confirmation", True)
    world.removals = [Removal(unreached=(DOWN,))] * 5
    assert world.onboard(confirmed=True)["status"] == "incomplete"
    # Removals that were confirmed continue without another confirmation.
    world.done.clear()
    assert world.onboard()["status"] == "onboarded"
    assert "remove app,etl,report" in world.done


def test_users_of_a_former_database_of_the_same_name_do_not_count_for_the_change_limit(world):
    world.database = replace(ORDERS, resource_id="db-NEXT")
    world.declare()
    assert world.onboard()["status"] == "onboarded"
    assert (world.record.is_of(world.database), world.record.accounts) == (True, {})
    assert not any(done.startswith("remove") for done in world.done)


def test_exceeding_the_change_limit_confirms_no_attributes(world):
    """The operator of a migration or a remediation may not know that the tags of the database changed."""
    world.inventory.select(ORDERS, Attributes.of(ORDERS))
    world.database = replace(ORDERS, tags={"env": "dev"})
    world.declare(*USERS[3:])
    answer = world.onboard(beyond_limit=True)
    assert (answer["status"], answer["reason"]) == ("onboarded", "")
    assert "remove app,etl,report" in world.done
    assert world.record.recorded == Attributes.of(ORDERS)
    assert world.onboard(confirmed=True)["status"] == "onboarded"
    assert world.record.recorded == Attributes.of(world.database)


def test_after_an_unfinished_run_the_database_says_which_users_leave(world):
    world.inventory.record_ownership(
        ORDERS, dict.fromkeys(("rdsiam_manager", *USERS, "newcomer", "shop_readonly"), "created")
    )
    world.enabled = frozenset({*USERS, "newcomer"})
    assert world.onboard()["status"] == "onboarded"
    assert "remove newcomer" in world.done
    world.inventory.record_ownership(ORDERS, dict.fromkeys(("rdsiam_manager", *USERS, "a", "b", "c", "d"), "created"))
    world.enabled = frozenset({*USERS, "a", "b", "c", "d"})
    world.done.clear()
    assert (world.onboard()["status"], world.done) == ("refused", [])


def test_the_record_says_which_users_leave_if_the_database_can_not_be_read(world):
    world.inventory.record_ownership(ORDERS, dict.fromkeys(("rdsiam_manager", *USERS, "shop_readonly"), "created"))
    world.enabled = None
    world.declare(*USERS[1:])
    world.onboard()
    assert world.done[:2] == ["withdraw", "remove app"]


def test_a_user_that_is_declared_again_is_no_longer_leaving(world):
    world.declare(*USERS[1:])
    world.removals = [Removal(unreached=(DOWN,))] * 9
    world.onboard()
    assert "app" in world.record.leaving
    world.declare(*USERS)
    world.done.clear()
    assert world.onboard()["status"] == "onboarded"
    assert world.record.leaving == {}
    assert not [each for each in world.done if each.startswith("remove")]


def test_a_refusal_inside_the_database_after_a_removal_is_incomplete(world):
    world.declare(*USERS[1:], "newcomer")
    world.removals = [Removal((LOCKED,))]
    world.converged = [Convergence(refusal=FOREIGN)]
    answer = world.onboard()
    assert answer["status"] == "incomplete"
    assert answer["changes"] != []
    assert world.record.leaving == {}


def test_a_plan_removes_no_login(world):
    world.declare(*USERS[1:])
    world.removals = [Removal((LOCKED,))]
    answer = world.onboard(plan=True)
    assert answer["status"] == "planned"
    assert [change["target"] for change in answer["changes"]] == ["app"]
    assert world.record.leaving == {}
    assert "withdraw" not in world.done


def test_a_plan_names_pending_gains_and_a_refused_rotation(world):
    world.file = parse(
        "version: 1\ndatabases:\n  - match: {identifier: orders}\n    users:\n"
        + "".join(f"      - {{name: {user}, privileges: readonly, on: [shop]}}\n" for user in USERS)
        + "    rotate: {users: [legacy], every: 30d}\n"
    )
    world.rotated = REFUSED | {"reason": "legacy: there is no such user", "code": "user-missing"}
    waits = Unconfirmed(ORDERS.arn, "needs confirmation: another tag", "confirm it", retry=False)
    world.converged = [Convergence(pending=waits)]

    answer = world.onboard(plan=True)

    assert answer["status"] == "incomplete"
    reasons = [part["reason"] for part in answer["incomplete"]]
    assert reasons == ["needs confirmation: another tag", "rotation: legacy: there is no such user"]


DENIED = Unreached("objects of gis in shop", "boss may not act for gis", "as a superuser run: …", retry=False)


def test_parts_that_the_database_denies_are_named_and_all_else_is_done_and_recorded(world):
    world.declare(*USERS, "newcomer")
    world.converged = [Convergence((LOCKED,), denied=(DENIED,)), Convergence(denied=(DENIED,))]
    answer = world.onboard()
    assert (answer["status"], answer["incomplete"]) == ("incomplete", [DENIED.to_json()])
    assert answer["changes"]
    assert world.done == ["withdraw", "converge", "write"]
    assert world.record.finished
    assert "newcomer" in world.record.applied.users
    again = world.onboard()
    assert (again["status"], again["incomplete"]) == ("incomplete", [DENIED.to_json()])


def test_a_plan_names_what_the_database_is_likely_to_deny(world):
    world.converged = [Convergence((LOCKED,), denied=(DENIED,))]
    answer = world.onboard(plan=True)
    assert (answer["status"], answer["incomplete"]) == ("planned", [DENIED.to_json()])


def test_a_revoked_user_is_locked_at_once_and_again_under_the_lease(world):
    world.removals = [Removal((LOCKED,))]
    answer = world.revoke("app")
    assert world.done == ["withdraw", "remove app", "remove app"]
    assert (answer["status"], answer["incomplete"]) == ("revoked", [])
    assert world.record.revoked == {"app": "why"}
    assert world.record.leaving == {}


def test_revoking_a_successor_says_that_it_may_have_set_a_password(world):
    """On PostgreSQL a successor acts as the user that it replaces, which may alter its own password."""
    world.file = parse(
        "version: 1\ndatabases:\n  - match: {identifier: orders}\n    users: [{name: app, replaces: legacy}]\n"
    )
    answer = world.revoke("app")
    assert answer["status"] == "revoked"
    assert "the password of legacy may be known" in answer["reason"]


def test_a_revocation_names_the_parts_that_it_does_not_reach(world):
    world.removals = [Removal(unreached=(DOWN,))] * 4
    answer = world.revoke("app")
    assert (answer["status"], answer["incomplete"]) == ("incomplete", [DOWN.to_json()])
    assert "timeout" in world.record.leaving["app"]
    assert world.record.revoked == {"app": "why"}


def test_a_lease_of_another_run_delays_no_revocation(world):
    world.leases.take(ORDERS, "execution that hangs")
    world.removals = [Removal((LOCKED,))]
    answer = world.revoke("app")
    assert world.done[:2] == ["withdraw", "remove app"]
    assert [change["target"] for change in answer["changes"]] == ["withdraw", "app"]
    assert answer["status"] == "revoked", "whatever that run had read before the revocation is over by now"


def test_a_user_is_revoked_while_access_yaml_can_not_be_read(world):
    world.readable = False
    world.removals = [Removal((LOCKED,))]
    assert world.revoke("app")["status"] == "revoked"


def test_the_next_run_continues_the_removals_of_a_killed_run(world):
    """The users that leave are recorded; the next run finds them, even if access.yaml is unchanged."""
    world.inventory.set_leaving(ORDERS.arn, {"formerly": "its removal has begun"})
    world.onboard()
    assert "remove formerly" in world.done
    assert world.record.leaving == {}


def test_recording_a_removal_keeps_a_newer_record_of_users(world):
    """Users that left are removed from the users of the version that was read, not of a newer version."""
    world.inventory.set_leaving(ORDERS.arn, {"app": "its removal has begun"})
    newer = Applied("v9", "newer", 2, ("app",))
    get = Inventory.get

    def overtaken(self: Inventory, arn: str) -> Record | None:
        record = get(self, arn)
        self.onboarded(ORDERS, newer, "newer", "2026-01-02T00:00:00Z")
        return record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inventory, "get", overtaken)
        world.inventory.set_left(ORDERS.arn, ["app"], "v0")
    assert world.record.applied == newer


# --- Runs beside each other, of one access.yaml and the next ---------------------------------------------------------


def publish(world: World, *users: str) -> None:
    world.version += 1
    world.declare(*users)


def test_a_run_that_ends_late_takes_no_user_from_the_record_of_a_newer_one(world):
    """Otherwise the change limit would count one user less of those that the next access.yaml removes."""

    def declared_again() -> None:
        publish(world, *USERS)
        assert world.onboard()["status"] == "onboarded"

    publish(world, *USERS[1:])
    world.meanwhile = [declared_again]
    world.onboard()
    assert set(world.record.applied.users) == set(USERS)
    assert world.record.leaving == {}
    publish(world, *USERS[2:])
    world.done.clear()
    answer = world.onboard()
    assert (answer["status"], answer["code"], world.done) == ("refused", "needs-confirmation", [])


def test_a_user_that_is_declared_again_is_not_locked_by_an_older_run(world):
    """Its removal failed at first, and is tried again after a newer run has enabled the user."""

    def declared_again() -> None:
        publish(world, *USERS)
        world.onboard()

    publish(world, *USERS[1:])
    world.meanwhile = [declared_again]
    world.removals = [Removal(unreached=(DOWN,))]
    world.onboard()
    assert [done for done in world.done if done.startswith("remove")] == ["remove app"]
    assert world.record.leaving == {}


@pytest.mark.parametrize("stop", ["refused", "not ready"])
def test_a_user_that_is_declared_again_is_enabled_by_the_next_run_if_this_one_stops(world, stop):
    """The declaration is that of the last onboarding again, so nothing else would start a run."""
    world.inventory.set_leaving(ORDERS.arn, {"app": "its removal has begun"})
    if stop == "refused":
        world.planned = REFUSED
    else:
        world.database = replace(ORDERS, status="stopped")
    world.onboard()
    assert "converge" not in world.done
    assert world.record.leaving == {"app": RETURNED}, "the next reconcile starts a run"
    assert world.record.departing == frozenset()
    world.planned, world.database = {"status": "planned", "reason": "", "changes": []}, ORDERS
    world.onboard()
    assert world.record.leaving == {}


def test_a_user_that_returned_and_was_not_enabled_yet_counts_for_the_change_limit(world):
    world.inventory.set_leaving(ORDERS.arn, {"app": RETURNED})
    publish(world, *USERS[2:])
    answer = world.onboard()
    assert (answer["status"], world.done) == ("refused", [])


def test_a_record_of_an_older_run_does_not_replace_that_of_a_newer_one(world):
    """The older run made users first and records that last."""
    older, newer = Applied("v1", "older", 2, USERS[1:], turn=1), Applied("v2", "newer", 2, USERS, turn=2)
    for applied in (newer, older):
        world.inventory.onboarded(ORDERS, applied, applied.declared, "2026-01-02T00:00:00Z")
    assert (world.record.applied, world.record.fingerprint) == (newer, "newer")
    world.inventory.record_ownership(ORDERS, world.record.accounts, turn=4)
    third = replace(older, turn=3)
    world.inventory.onboarded(ORDERS, third, "third", "2026-01-02T00:00:00Z")
    assert not world.record.finished, "the run that made users since records them, or the next one looks"
    world.inventory.onboarded(ORDERS, replace(newer, turn=4), "fourth", "2026-01-02T00:00:00Z")
    assert (world.record.finished, world.record.fingerprint) == (True, "fourth")


def test_leases_of_a_server_are_numbered(world):
    first = world.leases.take(ORDERS, "one")
    world.leases.release(first)
    with world.leases.hold(ORDERS, "two") as second:
        assert (first.turn, second.turn) == (1, 2)


# --- Roles that other runs work on, and roles that are full ----------------------------------------------------------


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr("rdsiam.onboarding.invocations._pause", lambda *_: 1)


def test_policies_wait_for_their_turn(world, quick):
    world.busy = ["write"] * 3
    world.declare(*USERS, "newcomer")
    assert (world.onboard()["status"], world.done[-4:]) == ("onboarded", ["write"] * 4)


def test_policies_that_get_no_turn_are_named_and_tried_again(world, quick, monkeypatch):
    monkeypatch.setattr("rdsiam.onboarding.invocations._TURNS", 2)
    world.busy = ["write"] * 3
    world.declare(*USERS, "newcomer")
    answer = world.onboard()
    assert answer["status"] == "incomplete"
    assert [(part["reason"], part["retry"]) for part in answer["incomplete"]] == [
        ("another run works on role/app", True)
    ]
    assert world.record.fingerprint == "before"


def test_a_login_is_locked_before_its_policy_has_its_turn(world):
    world.busy = ["withdraw"]
    world.removals = [Removal((LOCKED,))]
    answer = world.revoke("app")
    assert world.done == ["withdraw", "remove app", "withdraw"]
    assert (answer["status"], answer["incomplete"]) == ("revoked", [])


def test_logins_without_room_are_named_and_the_next_reconcile_looks_again(world):
    part = Unreached("role/app", "role/app has no room for db-ONE/newcomer", "declare a second role")
    world.without_room = [part.to_json()]
    world.declare(*USERS, "newcomer")
    answer = world.onboard()
    assert (answer["status"], answer["incomplete"]) == ("incomplete", [part.to_json()])
    assert (world.record.finished, world.record.fingerprint) == (True, "unresolved")
    world.planned = {"status": "unchanged", "reason": "", "changes": [], "incomplete": [part.to_json()]}
    assert world.onboard()["incomplete"] == [part.to_json()]
    assert world.onboard(plan=True)["incomplete"] == [part.to_json()]
    world.planned = {"status": "unchanged", "reason": "", "changes": []}
    assert world.onboard()["incomplete"] == []
    assert world.record.fingerprint not in ("before", "unresolved")


def test_users_are_made_in_as_many_steps_as_they_need(world):
    more = [Change("grant", "app", f"GRANT {number}") for number in range(3)]
    world.converged = [Convergence((more[0],), unfinished=True), Convergence((more[1],), unfinished=True)]
    world.converged += [Convergence((more[2],), applied=Applied("v1", "declared", 2, USERS))]
    answer = world.onboard()
    assert answer["status"] == "onboarded"
    assert [change["statement"] for change in answer["changes"] if change["kind"] == "grant"] == [
        change.statement for change in more
    ]


def test_a_step_of_users_that_is_refused_names_what_was_made_before(world):
    made = Change("grant", "app", "GRANT 1")
    world.converged = [Convergence((made,), unfinished=True), Convergence(refusal=SPOILED)]
    answer = world.onboard()
    assert answer["status"] == "incomplete"
    assert "GRANT 1" in [change["statement"] for change in answer["changes"]]
