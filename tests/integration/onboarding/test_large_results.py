"""Servers with more schemas and users than a checkpoint or an answer can hold changes."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

import psutil
import pytest

from tests.integration.account import Account, until

#: Bytes that Lambda accepts as the result of a step, and of a list that answers hold.
STEP, LIST = 256 * 1024, 100_000


@pytest.fixture
def make(account: Account) -> Iterator[Callable[..., str]]:
    """Make an instance that is onboarded only if a test does it, and that is gone after the test."""
    made: list[str] = []

    def make(identifier: str, engine: str = "postgres") -> str:
        arn = account.create(identifier, engine)
        made.append(identifier)
        account.wait(arn)
        until(lambda: account.record(arn) is not None, 60)  # the run of its event has ended
        return arn

    yield make
    for identifier in made:
        del account.entries[identifier]
        account.cloud.client("rds").delete_db_instance(DBInstanceIdentifier=identifier, SkipFinalSnapshot=True)
    account.publish_entries()


def all_changes(account: Account, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the whole list of changes of an answer that has room for a part."""
    assert len(json.dumps(answer)) < STEP
    assert len(json.dumps(answer["changes"])) <= LIST
    bucket, _, key = answer["changes_at"].removeprefix("s3://").partition("/")
    body = account.cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    changes: list[dict[str, Any]] = json.loads(body)
    assert len(changes) == answer["changes_total"] > len(answer["changes"])
    assert changes[: len(answer["changes"])] == answer["changes"]
    return changes


def statements(changes: list[dict[str, Any]]) -> set[str]:
    """Return the statements of changes, without the escapes of MySQL's patterns."""
    return {change["statement"].replace("\\_", "_") for change in changes}


def plan_and_onboard(account: Account, arn: str, grants: list[str]) -> None:
    """Plan, onboard, and onboard again: plan and run say the same, each grant among it.

    :param grants: parts of statements, one for each schema.
    """
    plan = account.onboard(arn, plan=True)
    assert plan["status"] == "planned", plan
    planned = statements(all_changes(account, plan))
    assert [grant for grant in grants if not any(grant in statement for statement in planned)] == []
    whole = account.rdsiam("onboard", arn, "--plan", "--all", "--output", "json")
    assert whole.returncode == 3, whole.stderr
    assert statements(json.loads(whole.stdout)["changes"]) == planned
    assert "--all fetches them" not in whole.stderr
    answer = account.onboard(arn)
    assert answer["status"] == "onboarded", answer
    assert statements(all_changes(account, answer)) >= planned
    assert account.onboard(arn)["status"] == "unchanged"


def users(*levels: tuple[str, str], on: Any) -> list[dict[str, Any]]:
    return [{"name": name, "privileges": level, "on": copy(on)} for name, level in levels]


TWO = (("app", "readwrite"), ("bi", "readonly"))


class Watch:
    """The largest environment of a function, and the most sessions of rdsiam, while something runs."""

    def __init__(self, account: Account, arn: str) -> None:
        self.memory = self.sessions = 0
        self.seconds = 0.0
        self._master = account.as_master(arn)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watch":
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
        self._over.set()
        self._thread.join()
        self._master.close()

    def _watch(self) -> None:
        own = "SELECT count(*) FROM information_schema.PROCESSLIST WHERE USER LIKE 'rdsiam%'"
        while not self._over.wait(0.5):
            self.sessions = max(self.sessions, int(self._master.run(own)[0][0]))
            for process in psutil.process_iter(["cmdline", "memory_info"]):
                if "app.handler" in (process.info["cmdline"] or ()):
                    self.memory = max(self.memory, process.info["memory_info"].rss)


def measured(account: Account, arn: str, function: str, payload: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Return the answer of a function and the seconds that it took; check sessions, memory and the answer's size."""
    client = account.cloud.client("lambda", read_timeout=900)
    with Watch(account, arn) as watch:
        name = account.cloud.functions[function]
        answer: dict[str, Any] = json.load(client.invoke(FunctionName=name, Payload=json.dumps(payload))["Payload"])
    sys.stderr.write(f"{payload}: {watch.seconds:.1f} s, {watch.memory >> 20} MB, {watch.sessions} sessions\n")
    assert watch.sessions <= 4
    assert watch.memory < 512 << 20
    assert len(json.dumps(answer)) < STEP
    return answer, watch.seconds


@pytest.mark.stress
@pytest.mark.parametrize("engine", ["mariadb", "mysql"])
def test_the_time_for_thousands_of_schemas_grows_with_their_number_and_memory_and_sessions_do_not(
    account, make, engine
):
    per_schema = []
    for number in (1_000, 5_000):
        arn = make(f"{engine}-{number}", engine)
        with account.as_master(arn) as master:
            for tenant in range(number):
                master.run(f"CREATE DATABASE tenant_{tenant}")
        account.declare(f"{engine}-{number}", *users(*TWO, on="*"))
        plan, _ = measured(account, arn, "OnboardFunction", {"database": arn, "plan": True})
        assert plan["changes_total"] > 2 * number
        onboarded, seconds = measured(account, arn, "OnboardFunction", {"database": arn})
        assert onboarded["status"] == "onboarded", onboarded
        assert onboarded["changes_total"] == plan["changes_total"]
        per_schema.append(seconds / number)
        assert measured(account, arn, "OnboardFunction", {"database": arn})[0]["status"] == "unchanged"
        assert measured(account, arn, "AuditFunction", {"databases": [arn]})[0]["audited"] == 1
    assert per_schema[1] < 2 * per_schema[0]


@pytest.mark.parametrize("number", [300, pytest.param(1500, marks=pytest.mark.exhaustive)])
def test_a_schema_for_each_tenant_of_mariadb(account, make, number):
    arn = make(f"tenants-{number}", "mariadb")
    with account.as_master(arn) as master:
        for tenant in range(number):
            master.run(f"CREATE DATABASE tenant_{tenant}")
    account.declare(f"tenants-{number}", *users(*TWO, on="*"))
    plan_and_onboard(account, arn, [f"`tenant_{tenant}`.* TO 'bi'" for tenant in range(number)])


@pytest.mark.exhaustive
def test_a_schema_for_each_tenant_of_a_postgresql_database(account, make):
    number = 1500
    arn = make("many-schemas")
    with account.as_master(arn) as master:
        for tenant in range(number):
            master.run(f"CREATE SCHEMA tenant_{tenant}")
            master.run(f"CREATE TABLE tenant_{tenant}.t (id int)")
    account.declare("many-schemas", *users(*TWO, on=["shop"]))
    plan_and_onboard(account, arn, [f"tenant_{tenant}" for tenant in range(number)])


@pytest.mark.exhaustive
def test_many_users_are_made_and_revoked(account, make):
    arn = make("many-users", "mariadb")
    names = [f"user{number:03}" for number in range(300)]
    account.declare("many-users", *users(*((name, "readonly") for name in names), on=["shop"]))
    answer = account.onboard(arn)
    assert answer["status"] == "onboarded", answer
    made = {change["target"] for change in all_changes(account, answer) if change["kind"] == "create-user"}
    assert made == set(names)
    revoked = account.invoke("OnboardFunction", {"database": arn, "revoke": names[:100], "reason": "tried"})
    assert revoked["status"] == "revoked", revoked
    assert {change["target"] for change in revoked["changes"]} >= set(names[:100])
    account.declare("many-users", *users((names[0], "readonly"), on=["shop"]))
    left = account.onboard(arn, confirm=True)
    assert left["status"] == "onboarded", left
    changes = all_changes(account, left) if "changes_at" in left else left["changes"]
    assert {change["target"] for change in changes if change["kind"] == "disable-user"} == set(names[100:])
