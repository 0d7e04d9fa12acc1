"""Runs that the audit starts for a drift, databases without IAM authentication, and notices."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from rdsiam.aws.iam_support import IamSupport
from rdsiam.core.changes import Unreached
from rdsiam.errors import DatabaseNotFound
from rdsiam.onboarding import flow
from rdsiam.onboarding.convergence import Convergence
from rdsiam.onboarding.notices import notice
from rdsiam.onboarding.options import Options
from tests.unit.databases import ORDERS
from tests.unit.onboarding.world import REFUSED, SPOILED, USERS, World

DRIFT = "0d" * 32


def onboard(world: World, drift: str = DRIFT, plan: bool = False) -> str:
    answer = world.run(
        lambda context, services: flow.onboard(context, services, ORDERS.arn, Options(plan=plan, drift=drift))
    )
    return str(answer["status"])


def test_a_drift_that_a_run_ended_may_come_again(world):
    world.inventory.set_handled(ORDERS.arn, DRIFT, "2026-11-24T04:00:00Z")
    world.declare(*USERS, "newcomer")
    assert onboard(world) == "onboarded"
    assert world.record.handled == ""


def refuse(world: World) -> None:
    world.planned, world.withdraws = REFUSED, False


def spoil(world: World) -> None:
    world.converged = [Convergence(refusal=SPOILED)]


def leave_a_part(world: World) -> None:
    closed = Unreached("shop", "the database is closed", "let rdsiam_manager connect", retry=False)
    world.converged = [Convergence(denied=(closed,))]


@pytest.mark.parametrize(
    ("prepare", "statuses"),
    [(refuse, {"refused"}), (spoil, {"refused", "incomplete"}), (leave_a_part, {"incomplete"})],
)
def test_a_drift_that_only_the_owner_can_end_is_recorded(world, prepare, statuses):
    world.declare(*USERS, "newcomer")
    prepare(world)
    assert onboard(world) in statuses
    assert world.record.handled == DRIFT


def test_a_run_that_finds_nothing_to_do_records_the_drift(world):
    world.planned = {"status": "unchanged", "reason": "", "changes": []}
    assert onboard(world) == "unchanged"
    assert world.record.handled == DRIFT


def test_a_database_that_is_not_ready_and_a_plan_leave_the_drift_to_the_next_audit(world):
    world.database = replace(ORDERS, status="stopped")
    assert onboard(world) == "ignored"
    world.database = ORDERS
    onboard(world, plan=True)
    assert world.record.handled == ""


def test_a_run_that_nobody_started_for_a_drift_leaves_what_is_recorded(world):
    world.inventory.set_handled(ORDERS.arn, DRIFT, "2026-11-24T04:00:00Z")
    world.declare(*USERS, "newcomer")
    onboard(world, "")
    assert world.record.handled == DRIFT


# --- Versions without IAM authentication ---


def without_iam(world: World, **record: Any) -> None:
    """Let the database be of a version without IAM authentication, and forget what is recorded of it."""
    world.inventory.forget(ORDERS.arn)
    world.database = replace(ORDERS, engine="mariadb", engine_version="10.6.24", iam_enabled=False, **record)
    databases: Any = SimpleNamespace(
        describe=lambda _: world.database,
        of_resource=lambda _: None,
        iam_support=lambda _: IamSupport(False, "10.11.4"),
    )
    world.services = replace(world.services, databases=databases)


def test_a_version_without_iam_authentication_is_ignored_with_an_upgrade_and_recorded_as_ignored(world):
    without_iam(world)
    answer = world.onboard()
    assert (answer["status"], answer["code"], answer["remedy"]) == (
        "ignored",
        "iam-unavailable",
        "upgrade it to 10.11.4 or later",
    )
    assert world.done == [], "nothing is tried"
    ignored = world.record.ignored_fingerprint
    assert ignored
    world.database = replace(world.database, engine_version="10.6.25")
    world.onboard()
    assert world.record.ignored_fingerprint != ignored, "another version is looked at again"


def test_a_plan_for_such_a_version_records_nothing(world):
    without_iam(world)
    assert world.onboard(plan=True)["status"] == "ignored"
    assert world.inventory.get(ORDERS.arn) is None


# --- Notices ---


def test_a_notice_is_recorded_and_published(world):
    published: list[Any] = []

    def put_events(**request: Any) -> dict[str, int]:
        published.extend(request["Entries"])
        return {"FailedEntryCount": 0}

    world.services = replace(world.services, events=SimpleNamespace(put_events=put_events))
    answer = world.run(lambda context, services: notice(context, services, ORDERS.arn, "RDS-EVENT-0404"))
    assert answer["status"] == "unchanged"
    assert set(world.record.notices) == {"RDS-EVENT-0404"}
    assert [entry["DetailType"] for entry in published] == ["rdsiam.database.notice"]
    assert world.done == [], "nothing is onboarded"


def test_a_notice_about_a_database_that_is_gone_is_ignored(world):
    def describe(_: str) -> Any:
        raise DatabaseNotFound("orders does not exist")

    world.services = replace(world.services, databases=SimpleNamespace(describe=describe))
    answer = world.run(lambda context, services: notice(context, services, ORDERS.arn, "RDS-EVENT-0016"))
    assert (answer["status"], answer["code"]) == ("ignored", "database-not-found")
    assert world.record.notices == {}
