"""Onboardings that an audit starts."""

import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from rdsiam.access.model import parse
from rdsiam.access.store import Versioned
from rdsiam.audit import flow
from rdsiam.aws.iam import HeldPolicy, Holder
from rdsiam.aws.rds import Database
from rdsiam.core import times
from rdsiam.engines.facts import AccountFacts, ServerFacts
from rdsiam.state import fingerprint
from rdsiam.state.layout import Layout
from rdsiam.state.record import Applied, Record
from tests.unit.audit.world import ONBOARD, World

DECLARED = """
version: 1
databases:
  - match: {identifier: "db-*"}
    users: [{name: app, privileges: readonly, on: "*", roles: ["arn:aws:iam::123456789012:role/app"]}]
"""


def onboarded(world: World, *numbers: int, **more: Any) -> None:
    """Declare users of all databases, and record those of the given numbers as onboarded."""
    world.access = SimpleNamespace(current=lambda: Versioned(parse(DECLARED), "v1"))
    users = parse(DECLARED).declared(world.databases[0])  # type: ignore[arg-type]
    applied = Applied("v1", fingerprint.of_declared(users), 1, ("app",))
    for number in numbers:
        one = world.databases[number]
        known: dict[str, Any] = {"finished": True, "applied": applied, "layout": Layout("before", "owners")}
        world.records[one.arn] = Record(one.resource_id, **(known | more))


def reading(layout: Layout, *names: str) -> Callable[[Database], ServerFacts]:
    """Return facts with this layout and users that log in by token as declared."""
    users = tuple(AccountFacts(name, iam=True, password=False, tls=True) for name in names)
    return lambda _: ServerFacts("18.1", True, (), users, layout=layout)


def policies(*numbers: int) -> Callable[[Any], list[Holder]]:
    """Return a role with a policy for the logins of these databases."""
    arns = [f"arn:aws:rds-db:eu-west-1:123456789012:dbuser:db-{number:03}/app" for number in numbers]
    document = {"Statement": [{"Effect": "Allow", "Action": "rds-db:connect", "Resource": arns}]}
    holder = Holder(
        "arn:aws:iam::123456789012:role/app", "role", "app", "/", (HeldPolicy("rdsiam-app-1", None, document),)
    )
    return lambda _: [holder]


def started(world: World) -> list[str]:
    return sorted(json.loads(request["Payload"])["database"].rpartition(":")[2] for request in world.started)


def test_an_audit_has_databases_onboarded_that_have_more_schemas_than_the_last_run_saw(world):
    onboarded(world, 3, 21)
    world.policies = policies(3, 21)
    world.reading = reading(Layout("after", "owners"), "app")
    answer = world.audit()
    assert started(world) == ["db-003", "db-021"]
    listed = [{"database": world.databases[number].arn, "differences": ["databases"]} for number in (3, 21)]
    assert answer["onboardings"] == world.report(answer)["onboardings"] == listed
    assert f"audits/{answer['id']}/report.html" in answer["reports"]["html"]
    assert "Onboardings that this audit started" in world.store.report(answer["id"], "html")
    request = world.started[0]
    assert (request["FunctionName"], request["InvocationType"]) == (ONBOARD, "Event")
    assert set(json.loads(request["Payload"])) == {"database", "drift"}
    names = {request["DurableExecutionName"] for request in world.started}
    assert len(names) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) and answer["id"][-8:] in name for name in names)


@pytest.mark.parametrize(
    "facts_after", [reading(Layout("before", "others"), "app"), reading(Layout("before", "owners"))]
)
def test_only_the_daily_audit_has_databases_onboarded_whose_users_or_owners_differ(world, facts_after):
    onboarded(world, 3)
    world.policies = policies(3)
    world.reading = facts_after
    world.audit()
    assert world.started == []
    world.audit(daily=True)
    assert started(world) == ["db-003"]


def test_the_daily_audit_has_a_database_onboarded_whose_role_lost_its_logins(world):
    onboarded(world, 3, 4)
    world.policies = policies(3)
    world.reading = reading(Layout("before", "owners"), "app")
    answer = world.audit(daily=True)
    assert started(world) == ["db-004"]
    lost = [one for one in world.report(answer)["findings"] if one["kind"] == "connect-grant-missing"]
    assert [(one["database"], one["user"]) for one in lost] == [
        (world.databases[4].arn, "arn:aws:iam::123456789012:role/app")
    ]


def test_no_onboarding_is_started_again_for_a_drift_that_a_run_could_not_end(world):
    onboarded(world, 3)
    world.policies = policies(3)
    world.reading = reading(Layout("after", "owners"), "app")
    world.audit(daily=True)
    digest = json.loads(world.started[0]["Payload"])["drift"]
    onboarded(world, 3, handled=digest, handled_at=times.now_text())
    world.audit(daily=True)
    assert len(world.started) == 1
    world.reading = reading(Layout("after", "others"), "app")
    world.audit(daily=True)
    assert len(world.started) == 2


def test_an_audit_of_some_databases_starts_no_onboarding(world):
    onboarded(world, 3)
    world.reading = reading(Layout("after", "others"))
    world.audit(world.databases[3].arn, daily=True)
    assert world.started == []


def test_an_audit_that_can_start_no_onboarding_still_reports(world):
    onboarded(world, 3)
    world.reading = reading(Layout("after", "owners"), "app")

    def refuse(**_: Any) -> None:
        raise RuntimeError("throttled")

    world.started = SimpleNamespace(append=lambda request: refuse(**request))
    answer = world.audit()
    assert (answer["audited"], answer["onboardings"]) == (45, [])
    assert world.report(answer)["onboardings"] == []
    assert world.notified


def test_a_whole_fleet_that_drifted_is_started_in_several_steps_each_database_once(world, monkeypatch):
    monkeypatch.setattr(flow, "_BATCHES_AT_ONCE", 2)
    onboarded(world, *range(45))
    world.policies = policies(*range(45))
    world.reading = reading(Layout("after", "owners"), "app")
    result = world.execute(None, daily=True)
    assert started(world) == [f"db-{number:03}" for number in range(45)]
    steps = [one.name for one in result.operations if str(one.name).startswith("start onboardings")]
    assert steps == ["start onboardings from batch 0", "start onboardings from batch 2"]
    assert len(json.loads(result.result)["onboardings"]) == 45


def test_new_schemas_are_covered_though_policies_can_not_be_read(world):
    def refuse(_: Any) -> Any:
        raise RuntimeError("AccessDenied")

    onboarded(world, 3)
    world.policies = refuse
    world.reading = reading(Layout("after", "owners"), "app")
    world.audit(daily=True)
    assert started(world) == ["db-003"]
