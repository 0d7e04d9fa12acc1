"""Roles that other runs work on, roles that are full, and users that are made in several steps."""

import pytest

from rdsiam.core.changes import Change, Unreached
from rdsiam.onboarding.convergence import Convergence
from rdsiam.onboarding.server_removal import Removal
from rdsiam.state.record import Applied
from tests.unit.onboarding.world import LOCKED, SPOILED, USERS


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
