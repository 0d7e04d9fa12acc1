"""Runs beside each other, of one access.yaml and the next: the newer one decides."""

from dataclasses import replace

import pytest

from rdsiam.onboarding.server_removal import Removal
from rdsiam.state.record import RETURNED, Applied
from tests.unit.databases import ORDERS
from tests.unit.onboarding.world import DOWN, REFUSED, USERS, World


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
