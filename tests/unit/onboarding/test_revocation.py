"""A revocation locks users at once, in whatever state the database, access.yaml or other runs are."""

import pytest

from rdsiam.access.model import parse
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.onboarding.server_removal import Removal
from tests.unit.databases import ORDERS
from tests.unit.onboarding.world import DOWN, LOCKED, REFUSED


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


@pytest.mark.parametrize("plan", [True, False])
@pytest.mark.parametrize("users", [("nosuch",), ("APP",), (MANAGER,), (AUDITOR,), ("app", "nosuch")])
def test_no_revocation_of_an_unknown_user_is_lifted_or_planned(world, users, plan):
    world.inventory.revoke(ORDERS.arn, {"app": "key leaked"}, ())
    answer = world.lift(*users, plan=plan)
    assert (answer["status"], answer["code"], answer["changes"]) == ("refused", "user-not-managed", [])
    assert users[-1] in answer["reason"]
    assert "correct the name" in answer["remedy"]
    assert world.done == []
    assert world.record.revoked == {"app": "key leaked"}


def test_a_user_that_is_no_longer_declared_can_be_lifted(world):
    world.inventory.revoke(ORDERS.arn, {"former": "key leaked"}, ())
    assert world.lift("former")["status"] in {"onboarded", "unchanged"}
    assert world.record.revoked == {}


def test_a_lift_whose_onboarding_is_refused_says_that_the_revocation_has_ended(world):
    """`refused` would say that nothing was changed."""
    world.revoke("app")
    world.planned, world.withdraws = REFUSED, False
    answer = world.lift("app")
    assert world.record.revoked == {}
    assert (answer["status"], answer["code"]) == ("incomplete", "role-not-managed")
    (part,) = answer["incomplete"]
    assert part["what"] == "app"
    assert part["reason"].startswith(
        "the revocation is lifted, but the database was not onboarded: role x is not tagged"
    )
    assert part["remedy"] == "tag it; then onboard the database"


def test_a_lift_says_that_the_user_was_not_revoked(world):
    """Another user's name would look like a success."""
    assert world.lift("app")["reason"] == "app was not revoked"
