"""A version of access.yaml that waits for confirmation takes effect in no database; an answer names it if it would."""

import pytest

from rdsiam.access.store import Versioned
from tests.unit.databases import ORDERS
from tests.unit.onboarding.world import USERS, World


def publish_waiting(world: World, *users: str) -> None:
    """Publish a version for these users, which waits for confirmation."""
    applied = world.file
    world.declare(*users)
    world.newer = Versioned(world.file, "v9")
    world.file = applied


@pytest.mark.parametrize("plan", [False, True])
def test_a_version_that_waits_is_named_and_takes_no_login(world, plan):
    publish_waiting(world, "app")
    answer = world.onboard(plan=plan)
    assert answer["status"] == "incomplete"
    [part] = answer["incomplete"]
    assert (part["what"], part["retry"]) == (ORDERS.arn, False)
    assert part["reason"].startswith("version v9 of access.yaml waits for confirmation")
    assert "rdsiam access publish FILE --confirm" in part["remedy"]
    assert not [step for step in world.done if step.startswith("remove")]
    assert set(world.record.leaving) == set()


def test_a_version_that_waits_and_declares_the_same_is_not_named(world):
    publish_waiting(world, *USERS)
    answer = world.onboard()
    assert (answer["status"], answer["incomplete"]) == ("onboarded", [])


def test_a_database_that_only_a_waiting_version_declares_says_what_it_waits_for(world):
    world.inventory.forget(ORDERS.arn)
    world.declare()
    publish_waiting(world, "app")
    answer = world.onboard()
    assert (answer["status"], answer["code"]) == ("ignored", "not-declared")
    assert "version v9 of access.yaml waits for confirmation" in answer["reason"]
    assert "rdsiam access publish FILE --confirm" in answer["remedy"]
