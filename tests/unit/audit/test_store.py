"""The objects of an audit in S3: a prefix for each run, and no object outside it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.audit.account import AccountContext
from rdsiam.audit.history import History
from rdsiam.audit.parts import AccountCounts, DatabaseEntry, DatabasePart, MigrationProgress
from rdsiam.audit.store import AuditStore, FinishedRun, RunSummary, is_id, new_id, part_order
from rdsiam.aws.rds import Database
from rdsiam.findings.finding import Finding
from rdsiam.state.schemas import OpenedSchemas
from tests.unit.bucket import Bucket
from tests.unit.databases import database

FIRST, SECOND, THIRD = (f"2026112{day}T040000Z-0000000{day}" for day in (1, 2, 3))


SUMMARY = cast("RunSummary", {"id": FIRST})


def part_of(resource_id: str) -> DatabasePart:
    one = database(resource_id)
    entry = DatabaseEntry(
        one.arn, one.identifier, one.engine, one.engine_version, resource_id, one.kind, one.status, {"env": "prod"},
        None, False, "audited", None, None, AccountCounts(2, 1, 1, 0),
        (MigrationProgress("etl", "etl_iam", "proven", "2026-11-21T04:00:00Z", None),),
        (OpenedSchemas("shop", ("app", "public"), 2),), 0.5,
    )  # fmt: skip
    finding = Finding("1", "user-without-iam", "high", one.arn, "etl", "title", {"tls": True})
    return DatabasePart(entry, (finding,), ("etl", "etl_iam"))


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def store(bucket) -> AuditStore:
    return AuditStore(bucket, "reports", lambda: datetime(2026, 11, 24, 12, tzinfo=UTC))


def test_ids_are_ordered_by_time_and_differ():
    early, late = datetime(2026, 11, 24, 9, tzinfo=UTC), datetime(2026, 11, 24, 10, tzinfo=UTC)
    assert new_id(early) < new_id(late)
    moments = [new_id(early.replace(microsecond=fraction)) for fraction in (0, 1, 15, 16, 999_999)]
    assert moments == sorted(moments)
    assert len({new_id(early) for _ in range(20)}) > 1
    assert is_id(new_id(early))


@given(st.text() | st.none() | st.integers() | st.from_regex(r"\d{8}T\d{6}Z-[0-9a-f]{8}."))
def test_a_text_that_is_no_id_makes_no_key(text):
    assert not is_id(text)
    bucket = Bucket()
    store = AuditStore(bucket, "reports")
    writes: list[Callable[[Any], None]] = [
        lambda id: store.put_context(id, AccountContext()),
        lambda id: store.put_history(id, History()),
        lambda id: store.finish(id, "all", SUMMARY),
    ]
    for write in writes:
        with pytest.raises(ValueError, match="not the id of an audit"):
            write(text)
    assert not bucket.objects


@pytest.mark.parametrize("resource_id", ["", "../x", "a/b", "db-A.json", "a" * 81, "db-Ä"])
def test_a_resource_id_that_rds_would_not_give_makes_no_key(store, bucket, resource_id):
    with pytest.raises(ValueError, match="resource id"):
        store.put_parts(FIRST, [(database(resource_id), part_of("x"))])
    assert not bucket.objects


def test_a_stored_batch_is_read_unchanged(store):
    batch = (database("db-A", tags={"env": "prod"}, pending=("Engine",)), database("db-B", replica_of="a"))
    store.put_batch(FIRST, 3, batch)
    assert store.batch(FIRST, 3) == tuple(Database.from_json(one.to_json()) for one in batch)
    assert [one.tags for one in store.batch(FIRST, 3)] == [{"env": "prod"}, {}]


@given(st.lists(st.from_regex(r"(db|cluster|prx)-[A-Z0-9-]{1,5}", fullmatch=True), unique=True, max_size=60), st.data())
def test_one_listing_finds_the_databases_of_a_batch_that_are_done(ids, data):
    bucket = Bucket()
    store = AuditStore(bucket, "reports")
    databases = sorted((database(one) for one in ids), key=part_order)
    batches = [databases[start : start + 7] for start in range(0, len(databases), 7)]
    done = {one.resource_id for one in databases if data.draw(st.booleans())}
    for batch in batches:
        left = data.draw(st.permutations([one for one in batch if one.resource_id in done]))
        while left:
            size = data.draw(st.integers(1, len(left)))
            store.put_parts(FIRST, [(one, part_of(one.resource_id)) for one in left[:size]])
            left = left[size:]
    for batch in batches:
        bucket.listings = 0
        assert store.done(FIRST, batch) == done & {one.resource_id for one in batch}
        assert bucket.listings == 1
        parts = {one.resource_id: part for one, part in store.parts(FIRST, batch)}
        assert parts == {
            one.resource_id: part_of(one.resource_id) if one.resource_id in done else None for one in batch
        }


def test_results_of_other_runs_are_ignored(store):
    store.put_parts(SECOND, [(database("db-A"), part_of("db-A"))])
    assert store.done(FIRST, [database("db-A")]) == set()


def test_a_run_is_finished_only_after_its_summary_is_stored(store):
    store.put_report(FIRST, "json", "{}")
    store.put_history(FIRST, History())
    assert store.finished_runs() == []
    store.finish(FIRST, "all", SUMMARY)
    assert store.finished_runs() == [FinishedRun(FIRST, "all")]
    assert store.summary(FinishedRun(FIRST, "all")) == SUMMARY


def test_only_finished_runs_are_listed_newest_first_with_their_scope(store, bucket):
    for audit, scope in ((SECOND, "some"), (THIRD, "all"), (FIRST, "all")):
        store.finish(audit, scope, SUMMARY)
    bucket.objects["audits/index/../x.all.json"] = bucket.objects[f"audits/index/{FIRST}.none.json"] = b"{}"
    assert store.finished_runs() == [FinishedRun(THIRD, "all"), FinishedRun(SECOND, "some"), FinishedRun(FIRST, "all")]


@pytest.mark.parametrize("planted", ["99991231T235959Z-ffffffff", "20261124T120101Z-00000000"])
def test_an_id_with_a_future_time_is_no_run(store, caplog, planted):
    for audit in (FIRST, "20261124T120059Z-00000000", planted):
        store.finish(audit, "all", SUMMARY)
    assert [run.id for run in store.finished_runs()] == ["20261124T120059Z-00000000", FIRST]
    assert f"{planted}.all.json is ignored" in caplog.text


def test_storing_a_report_returns_its_uri(store):
    assert store.put_report(FIRST, "html", "<html>") == f"s3://reports/audits/{FIRST}/report.html"
    assert store.report(FIRST, "html") == "<html>"
