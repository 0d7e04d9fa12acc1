"""Logins of users that leave are removed first, in whatever state the database, its policies or other runs are."""

from dataclasses import replace
from typing import Any

import pytest

from rdsiam.access.model import parse
from rdsiam.access.selection import Attributes
from rdsiam.core.changes import Change, Unconfirmed, Unreached
from rdsiam.errors import ConnectionFailed, DatabaseNotFound
from rdsiam.onboarding.convergence import Convergence
from rdsiam.onboarding.server_removal import Removal
from rdsiam.state.inventory import Inventory
from rdsiam.state.record import Applied, Record, SecretRecord
from tests.unit.databases import ORDERS
from tests.unit.onboarding.world import DOWN, FOREIGN, LOCKED, REFUSED, SPOILED, USERS


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
