"""The flow of an audit as a durable execution, without real databases."""

import json
import re
import threading
import time
from collections.abc import Callable
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner

from rdsiam.access.model import parse
from rdsiam.access.store import Versioned
from rdsiam.audit import batch, flow, steps
from rdsiam.audit.collect import SECOND
from rdsiam.audit.deployment import Deployment
from rdsiam.audit.steps import AuditServices
from rdsiam.audit.store import MOST_PARTS, AuditStore
from rdsiam.aws.iam import HeldPolicy, Holder
from rdsiam.aws.rds import Database, ResourceIds
from rdsiam.core import times
from rdsiam.engines.connection import Limits
from rdsiam.engines.facts import AccountFacts, ServerFacts, Unreadable
from rdsiam.events.audit_batch import batch_request
from rdsiam.state import fingerprint
from rdsiam.state.layout import Layout
from rdsiam.state.record import Applied, Record
from tests.unit.bucket import Bucket
from tests.unit.databases import database
from tests.unit.results import Results

FUNCTION, ONBOARD = "AuditBatchFunction", "OnboardFunction:audit"
ACCESS = """
version: 1
databases: [{match: {identifier: none}, users: [{name: app, privileges: readonly, on: [shop]}]}]
"""


class World:
    """An account with a fleet, an audit of it, and a receiver of notifications."""

    def __init__(self, patch: pytest.MonkeyPatch, databases: list[Database]) -> None:
        self.databases = databases
        self.bucket = Bucket()
        self.store = AuditStore(self.bucket, "reports")
        self.access = SimpleNamespace(current=lambda: Versioned(parse(ACCESS), "v1"))
        self.notified: list[tuple[dict[str, Any], frozenset[str], bool]] = []
        self.read: list[str] = []
        self.limits: list[Limits] = []
        self.reading: Callable[[Database], ServerFacts | Unreadable] = lambda _: facts("legacy")
        self.dying: Callable[[int, int], bool] = lambda *_: False
        self.attempts: dict[int, int] = {}
        self.slow: list[int] = []
        self.seconds = 20.0
        self.policies: Callable[[Any], Any] = lambda _: ()
        self.records: dict[str, Record] = {}
        self.started: list[dict[str, Any]] = []
        patch.setattr(batch, "read", self._read)
        patch.setattr(steps, "holders", lambda iam: self.policies(iam))

    def audit(self, *arns: str, daily: bool = False) -> dict[str, Any]:
        """Run an audit to its end and return the answer."""
        result = self.execute(list(arns) or None, daily)
        assert result.result is not None, result.error
        answer: dict[str, Any] = json.loads(result.result)
        return answer

    def execute(self, arns: list[str] | None, daily: bool = False) -> Any:
        """Run an audit to its end, whatever that is."""

        @durable_execution
        def handler(_: Any, context: DurableContext) -> dict[str, Any]:
            return flow.audit(context, self._services(), arns, daily).to_json()

        with DurableFunctionTestRunner(handler, poll_interval=0.01) as runner:
            runner.register_function(FUNCTION, self._batch)
            return runner.run("{}", execution_timeout=60)

    def report(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return the report of an audit."""
        found: dict[str, Any] = json.loads(self.store.report(answer["id"], "json"))
        return found

    def _batch(self, event: Any, _: Any) -> Any:
        request = batch_request(event)
        number = request.number
        self.attempts[number] = attempt = self.attempts.get(number, 0) + 1
        if request.slow:
            self.slow.append(number)
        if self.dying(number, attempt):
            raise RuntimeError("Task timed out")
        services: Any = SimpleNamespace(
            store=self.store,
            access=self.access,
            inventory=SimpleNamespace(
                items=lambda arns: {arn: {"it": self.records[arn]} for arn in arns if arn in self.records},
                record=lambda _, item: item["it"],
            ),
            logins=None,
        )
        return batch.audit_batch(services, request, self.seconds).to_json()

    def _read(self, one: Database, _: Any, limits: Limits) -> ServerFacts | Unreadable:
        self.read.append(one.identifier)
        self.limits.append(limits)
        return self.reading(one)

    def _services(self) -> AuditServices:
        known = {one.arn: one for one in self.databases}
        databases: Any = SimpleNamespace(
            list=lambda: iter(self.databases),
            describe=known.__getitem__,
            proxies=list,
            identities=lambda: ResourceIds({one.resource_id: one.arn for one in self.databases}, {}),
        )
        secrets: Any = SimpleNamespace(list=lambda _: iter(()))
        notifier: Any = SimpleNamespace(notify=lambda report, _, new, news: self.notified.append((report, new, news)))
        access: Any = self.access
        deployment = Deployment("aws", "eu-west-1", "123456789012")
        functions = SimpleNamespace(invoke=lambda **request: self.started.append(request))
        return AuditServices(
            databases,
            access,
            self.store,
            notifier,
            None,
            secrets,
            FUNCTION,
            deployment,
            Results(),
            functions,
            ONBOARD,
            at_once=3,
        )


def facts(*names: str) -> ServerFacts:
    return ServerFacts("18.1", True, (), tuple(AccountFacts(name, password=True) for name in names))


@pytest.fixture
def world(monkeypatch) -> World:
    monkeypatch.setattr(steps, "BATCH", 20)
    return World(monkeypatch, [database(f"db-{number:03}") for number in range(45)])


def test_every_database_is_read_once_and_reported(world):
    answer = world.audit()
    assert sorted(world.read) == [f"db-{number:03}" for number in range(45)]
    assert (answer["databases"], answer["audited"], answer["unreachable"]) == (45, 45, 0)
    found = world.report(answer)
    assert [one["identifier"] for one in found["databases"]] == sorted(world.read)
    assert found["summary"]["accounts"] == 45
    assert found["summary"]["share"] == 0
    assert found["access_version"] == "v1"
    assert answer["reports"]["csv"] == f"s3://reports/audits/{answer['id']}/report.csv"


def test_checkpoints_stay_small_with_a_large_fleet(monkeypatch):
    world = World(monkeypatch, [database(f"db-{number:04}") for number in range(400)])
    result = world.execute(None)
    assert json.loads(result.result)["audited"] == 400
    sizes = {one.name: len(str(getattr(one, "result", ""))) for one in result.operations}
    # Of a checkpoint's 256 KiB: 150 bytes for each batch of databases, and little else.
    assert sizes.pop("audit batches") < 20 * 150
    assert all(size < 1000 for size in sizes.values())


def test_a_batch_that_fails_is_repeated_and_keeps_its_results(world):
    world.dying = lambda number, attempt: number == 1 and attempt == 1
    assert world.audit()["unreachable"] == 0
    assert world.attempts == {0: 1, 1: 2, 2: 1}


def test_databases_of_a_batch_that_fails_twice_are_unknown_and_the_rest_is_reported(world):
    world.dying = lambda number, _: number == 1
    answer = world.audit()
    assert (answer["databases"], answer["audited"], answer["unreachable"]) == (45, 25, 20)
    assert world.attempts == {0: 1, 1: 2, 2: 1}
    unknown = [one for one in world.report(answer)["databases"] if one["read"] == "unknown"]
    assert {one["stage"] for one in unknown} == {"time"}
    assert all("failed twice" in one["cause"] for one in unknown)


def test_a_database_that_hangs_delays_no_other_and_its_late_result_is_ignored(world):
    released, hung = threading.Event(), threading.Event()

    def read(one: Database) -> ServerFacts:
        if one.identifier == "db-007":
            hung.set()
            released.wait(10)
        return facts("legacy")

    world.reading, world.seconds = read, 1.0
    answer = world.audit()
    assert hung.is_set()
    assert (answer["audited"], answer["unreachable"]) == (44, 1)
    key = f"audits/{answer['id']}/databases/db-007.json"
    before = world.bucket.objects[key]
    assert json.loads(before)["db-007"]["database"]["stage"] == "time"
    released.set()
    time.sleep(0.2)
    assert world.bucket.objects[key] == before


def stored(world: World) -> list[list[str]]:
    """Return the resource ids of the databases in each object with results."""
    names = [key.rpartition("/")[2] for key in list(world.bucket.objects) if "/databases/" in key]
    return [name.removesuffix(".json").split(".") for name in names]


def test_results_are_stored_ten_at_a_time(world):
    world.audit()
    objects = stored(world)
    assert sorted(chain(*objects)) == [f"db-{number:03}" for number in range(45)]
    assert max(map(len, objects)) == MOST_PARTS == 10


def test_results_are_stored_while_another_database_hangs(world):
    """So a function that ends suddenly loses few of them."""
    others = {f"db-{number:03}" for number in range(20)} - {"db-007"}
    seen = threading.Event()

    def read(one: Database) -> ServerFacts:
        if one.identifier == "db-007":
            for _ in range(200):
                if others <= set(chain(*stored(world))):
                    seen.set()
                    break
                time.sleep(0.05)
        return facts("legacy")

    world.reading = read
    assert world.audit()["unreachable"] == 0
    assert seen.is_set()


def slow_at_first(world: World, *identifiers: str, at_last: ServerFacts | Unreadable, patch: Any) -> None:
    """Let databases take longer than the first attempt allows, and answer like this at the second."""
    patch.setattr(batch, "FIRST", Limits(connect=0.05, statement=0.05))

    def read(one: Database) -> ServerFacts | Unreadable:
        if one.identifier not in identifiers:
            return facts("legacy")
        if world.read.count(one.identifier) > 1:
            return at_last
        time.sleep(0.1)
        return Unreadable("port", "timeout expired")

    world.reading = read


def test_slow_databases_are_tried_again_after_all_others_in_batches_of_their_own(world, monkeypatch):
    slow = [f"db-{number:03}" for number in range(0, 45, 2)]
    slow_at_first(world, *slow, at_last=facts("legacy"), patch=monkeypatch)
    answer = world.audit()
    assert (answer["databases"], answer["audited"], answer["unreachable"]) == (45, 45, 0)
    assert sorted(world.read) == sorted([*(f"db-{number:03}" for number in range(45)), *slow])
    assert sorted(world.read[-len(slow) :]) == slow
    assert sorted(world.slow) == [3, 4], "23 databases in batches of 20"
    assert set(world.limits[-len(slow) :]) == {SECOND}


def test_a_database_that_hangs_twice_is_unknown_with_the_last_cause(world, monkeypatch):
    slow_at_first(world, "db-007", "db-031", at_last=Unreadable("tls", "no answer"), patch=monkeypatch)
    answer = world.audit()
    assert (answer["audited"], answer["unreachable"]) == (43, 2)
    unknown = [one for one in world.report(answer)["databases"] if one["read"] == "unknown"]
    assert {(one["identifier"], one["stage"], one["cause"]) for one in unknown} == {
        ("db-007", "tls", "no answer"),
        ("db-031", "tls", "no answer"),
    }


def test_a_database_that_refuses_at_once_is_not_tried_again(world):
    world.reading = lambda one: Unreadable("login", "no such role") if one.identifier == "db-007" else facts("legacy")
    assert world.audit()["unreachable"] == 1
    assert len(world.read) == 45
    assert world.slow == []


def test_slow_databases_whose_batch_fails_twice_are_unknown_and_the_rest_is_reported(world, monkeypatch):
    slow_at_first(world, "db-007", at_last=facts("legacy"), patch=monkeypatch)
    world.dying = lambda number, _: number == 3
    answer = world.audit()
    assert (answer["audited"], answer["unreachable"]) == (44, 1)
    assert world.slow == [3, 3]


def test_a_batch_of_slow_databases_that_is_repeated_reads_none_with_a_result(world, monkeypatch):
    slow = ("db-000", "db-022", "db-044")
    slow_at_first(world, *slow, at_last=facts("legacy"), patch=monkeypatch)
    answer = world.audit()
    world.read.clear()
    event = {"audit": answer["id"], "batch": 3, "slow": True}
    assert world._batch(event, None) == {"audited": 0, "unknown": 0, "slow": 0}
    assert world.read == []


def test_databases_that_wait_for_a_thread_until_the_time_of_their_batch_is_over_are_read_later(world, monkeypatch):
    monkeypatch.setattr(batch, "THREADS", 1)
    released = threading.Event()

    def read(one: Database) -> ServerFacts | Unreadable:
        if one.identifier == "db-000" and world.read.count("db-000") == 1:
            released.wait(10)
        return facts("legacy")

    world.reading, world.seconds = read, 1.0
    answer = world.audit()
    released.set()
    assert (answer["audited"], answer["unreachable"]) == (45, 0)
    assert len(world.read) == 46


def test_a_database_on_which_rdsiam_fails_is_unknown_with_the_error_as_cause(world):
    def read(one: Database) -> ServerFacts:
        if one.identifier == "db-007":
            raise KeyError("secret-value")
        return facts("legacy")

    world.reading = read
    answer = world.audit()
    (unknown,) = [one for one in world.report(answer)["databases"] if one["read"] == "unknown"]
    assert unknown["identifier"] == "db-007"
    assert "KeyError" in unknown["cause"]
    assert "secret-value" not in unknown["cause"]


def test_a_repeated_batch_reads_no_database_with_a_result(world):
    answer = world.audit()
    world.read.clear()
    assert world._batch({"audit": answer["id"], "batch": 0}, None) == {"audited": 0, "unknown": 0, "slow": 0}
    assert world.read == []


def test_an_audit_ends_with_unknown_policies_if_they_can_not_be_read(world):
    def denied(_: Any) -> Any:
        raise PermissionError("not authorized to perform: iam:GetAccountAuthorizationDetails")

    world.policies = denied
    world.audit()
    told = world.notified[0][0]
    assert told["policies"]["read"] is False
    assert "GetAccountAuthorizationDetails" in told["policies"]["cause"]


def test_the_second_audit_notifies_only_of_new_findings(world):
    world.audit()
    assert len(world.notified[0][1]) == 45
    world.reading = lambda one: facts("legacy", "intruder") if one.identifier == "db-003" else facts("legacy")
    second = world.report(world.audit())
    new = {one["user"] for one in second["findings"] if one["id"] in world.notified[1][1]}
    assert new == {"intruder"}
    assert second["summary"]["new"] == 1
    assert len(second["trend"]) == 2


def test_an_audit_of_some_databases_has_no_news_and_is_not_compared_with(world):
    world.audit()
    world.reading = lambda _: facts("intruder")
    some = world.report(world.audit(world.databases[3].arn))
    assert (some["summary"]["databases"], some["summary"]["new"]) == (1, 1)
    assert [one["user"] for one in some["resolved"]] == ["legacy"]
    assert world.notified[1][2] is False
    world.reading = lambda _: facts("legacy")
    whole = world.report(world.audit())
    assert whole["summary"]["new"] == 0
    assert len(whole["trend"]) == 2


def test_a_run_that_a_later_one_has_overtaken_has_no_news(world, monkeypatch):
    monkeypatch.setattr(steps, "new_id", lambda _: "20210101T000000Z-00000000")
    world.audit()
    monkeypatch.setattr(steps, "new_id", lambda _: "20200101T000000Z-00000000")
    world.audit()
    assert [news for _, _, news in world.notified] == [True, False]
    assert len(world.report({"id": "20200101T000000Z-00000000"})["trend"]) == 1


def test_an_index_entry_with_a_future_time_suppresses_no_notification(world):
    world.audit()
    world.store.finish("99991231T235959Z-ffffffff", "all", {})
    world.audit()
    assert [news for _, _, news in world.notified] == [True, True]


def test_an_empty_fleet_after_findings_is_an_error_and_resolves_nothing(world):
    first = world.audit()
    world.databases = []
    failed = world.execute(None)
    assert failed.result is None
    assert "RDS lists no database" in str(failed.error)
    assert "check that the stack's region is right" in str(failed.error)
    assert [one.id for one in world.store.finished_runs()] == [first["id"]]


def test_an_account_without_databases_has_an_empty_report(monkeypatch):
    answer = World(monkeypatch, []).audit()
    assert (answer["databases"], answer["audited"], answer["unreachable"]) == (0, 0, 0)


def test_replicas_and_proxies_are_listed_and_not_connected_to(monkeypatch):
    replica = database("db-B", replica_of="db-A")
    proxy = database("prx-C", kind="proxy")
    world = World(monkeypatch, [database("db-A"), replica, proxy])
    answer = world.audit()
    assert world.read == ["db-A"]
    assert (answer["databases"], answer["audited"], answer["unreachable"]) == (1, 1, 0)
    assert {one["identifier"]: one["read"] for one in world.report(answer)["databases"]} == {
        "db-A": "audited",
        "db-B": "replica",
        "prx-C": "proxy",
    }


def test_the_master_and_rdsiams_own_users_are_not_counted(monkeypatch):
    world = World(monkeypatch, [database("db-A")])
    accounts = (
        AccountFacts("boss", password=True),
        AccountFacts("rdsiam_auditor", iam=True),
        AccountFacts("rdsiam_manager", iam=True),
        AccountFacts("app", iam=True),
        AccountFacts("both", iam=True, second_password=True),
        AccountFacts("maybe", password=None),
        AccountFacts("locked", unusable=True),
        AccountFacts("group", login=False),
    )
    world.reading = lambda _: ServerFacts("18.1", True, (), accounts)
    found = world.report(world.audit())
    assert found["databases"][0]["accounts"] == {"total": 4, "iam": 1, "password": 2, "unusable": 1}
    assert found["summary"]["share"] == 0.5


# --- Onboardings that an audit starts ---

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
