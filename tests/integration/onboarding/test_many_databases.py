"""500 databases on one PostgreSQL server: few sessions, a time for each that does not grow, and no more memory."""

import json
import threading
import time
from dataclasses import dataclass

import psutil
import pytest

from tests.integration.account import Account, processes_of
from tests.integration.rdsadmin import as_rdsadmin

#: Numbers of databases at which a run is measured.
SIZES = (100, 500)
READER = {"name": "reader", "privileges": "readonly", "on": "*"}


@dataclass
class Measured:
    """Figures of one run: seconds, the most sessions at once, and the most megabytes of OnboardFunction."""

    databases: int
    seconds: float = 0
    sessions: int = 0
    megabytes: float = 0

    @property
    def milliseconds_each(self) -> float:
        return 1000 * self.seconds / self.databases


def measured(account: Account, arn: str, databases: int, **options: bool) -> tuple[dict[str, object], Measured]:
    """Onboard, and watch sessions and memory meanwhile."""
    result = Measured(databases)
    over = threading.Event()

    def watch() -> None:
        function = account.cloud.functions["OnboardFunction"].partition(":")[0]
        with as_rdsadmin(account, arn) as another:
            while not over.wait(0.05):
                rows = another.run("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rdsiam'")
                result.sessions = max(result.sessions, rows[0][0])
                for process in processes_of(function):
                    try:
                        result.megabytes = max(result.megabytes, process.memory_info().rss / 1e6)
                    except psutil.NoSuchProcess:
                        continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    try:
        client = account.cloud.client("lambda", read_timeout=1800)
        payload = json.dumps({"database": arn} | options)
        given = client.invoke(FunctionName=account.cloud.functions["OnboardFunction"], Payload=payload)
        answer: dict[str, object] = json.load(given["Payload"])
    finally:
        result.seconds = time.monotonic() - started
        over.set()
        watcher.join()
    return answer, result


@pytest.mark.stress
def test_500_databases_take_no_more_sessions_and_memory_than_100_and_the_same_time_each(account, record_property):
    arn = account.create("many-databases")
    account.wait(arn)
    runs: dict[tuple[str, int], Measured] = {}
    made = 0
    for size in SIZES:
        with as_rdsadmin(account, arn) as another:
            while made < size:
                another.run(f"CREATE DATABASE tenant_{made:04} OWNER boss STRATEGY file_copy")
                made += 1
        # Another level each time, so that as many statements are made for each database.
        level = {100: "readonly", 500: "readwrite"}[size]
        account.declare("many-databases", READER | {"privileges": level})
        plan, runs["plan", size] = measured(account, arn, size, plan=True)
        assert plan.get("status") == "planned", plan
        answer, runs["run", size] = measured(account, arn, size)
        assert answer.get("status") == "onboarded", answer
        again, runs["again", size] = measured(account, arn, size)
        assert again.get("status") == "unchanged", again
        with as_rdsadmin(account, arn, f"tenant_{size - 1:04}") as another:
            assert another.run("SELECT has_schema_privilege('reader', 'public', 'USAGE')") == [(True,)]
    for (kind, size), run in runs.items():
        record_property(f"{kind} {size}", str(run))
        print(f"{kind} of {size}: {run.seconds:.1f} s, {run.milliseconds_each:.0f} ms each, "  # noqa: T201 figures
              f"{run.sessions} sessions, {run.megabytes:.0f} MB")  # fmt: skip
    assert all(1 <= run.sessions <= 4 for run in runs.values())
    for kind in ("plan", "run", "again"):
        few, many = (runs[kind, size] for size in SIZES)
        assert many.milliseconds_each <= 1.5 * few.milliseconds_each, kind
        assert many.megabytes <= few.megabytes + 60, kind
