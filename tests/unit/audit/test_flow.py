"""The flow of an audit as a durable execution, without real databases."""

import json
from typing import Any

from rdsiam.audit import steps
from rdsiam.engines.facts import AccountFacts, ServerFacts
from tests.unit.audit.world import World, facts
from tests.unit.databases import database


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
