"""A migration and its undo can be killed at any moment: they end in the same state."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner

from rdsiam.migration import flow
from rdsiam.migration.steps import Migrating
from rdsiam.migration.undo import Undoing
from tests.integration.account import Account, until
from tests.integration.migration.app import App, as_the_function
from tests.integration.onboarding.test_killed import Handler, Kills, load
from tests.kinds import MYSQL_EXHAUSTIVE, OLDER_EXHAUSTIVE

pytestmark = pytest.mark.exhaustive_on("postgres")

FORWARD = ("begin", "record_pairing", "prove", "begin_watching", "observe", "retire", "retire_secret", "release_lease")
BACK = ("take_over", "restore", "restore_secret", "remove")
#: More than any run writes; the test sees to it that it is.
MOST_CHECKPOINTS = 40


@pytest.fixture(scope="module", params=["postgres", OLDER_EXHAUSTIVE, "mariadb", MYSQL_EXHAUSTIVE])
def arn(account, request) -> Iterator[str]:
    identifier = f"migrate-killed-{request.param}"
    account.declare(identifier, {"name": "other", "privileges": "readonly", "on": ["shop"]})
    arn: str = account.create(identifier, request.param)
    account.wait_onboarded(arn)
    yield arn
    account.declare(identifier)
    account.cloud.client("rds").delete_db_instance(DBInstanceIdentifier=identifier, SkipFinalSnapshot=True)
    until(lambda: account.record(arn) is None, 60)


@pytest.fixture
def app(account, arn) -> Iterator[App]:
    app = App(account, arn)
    yield app
    app.leave()


@pytest.fixture(scope="module")
def handlers(account) -> Iterator[dict[str, Handler]]:
    """MigrateFunction in this process; OnboardFunction where it is, invoked by MigrateFunction's role."""
    with as_the_function(account), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RDSIAM_ONBOARD_FUNCTION", "onboard")  # the runner knows functions by their names
        patch.setenv("AWS_SAM_LOCAL", "true")  # and no aliases
        patch.setenv("AWS_LAMBDA_FUNCTION_NAME", account.cloud.functions["MigrateFunction"].partition(":")[0])
        credentials = account.credentials_of("MigrateFunction")

        def onboard(event: Any, _: Any) -> Any:
            answer = account.invoke("OnboardFunction", event, credentials, "migrate")
            assert "errorMessage" not in answer, answer
            return answer

        yield {"migrate": load("migrate").handler, "onboard": onboard}


def run(handlers: dict[str, Handler], app: App, **options: Any) -> dict[str, Any]:
    """Run one durable execution to its end; the runner skips waits."""
    payload = {"database": app.arn, "user": app.name, "watch": "1s"} | options
    with DurableFunctionTestRunner(handlers["migrate"], poll_interval=0.02) as runner:
        runner.register_function("onboard", handlers["onboard"])
        result = runner.run(json.dumps(payload), execution_timeout=60)
    assert result.result is not None, result.error
    answer: dict[str, Any] = json.loads(result.result)
    return answer


def retired(app: App) -> bool:
    """Return whether the migration has ended as it should, in the database and in Secrets Manager."""
    kept = app.kept()
    states = [one["state"] for one in kept["history"]]
    closed = not app.logs_in() and bool(app.secret_state().get("DeletedDate"))
    return states == ["paired", "proven", "watching", "retired"] and closed


def each_step_dies_once(patch: pytest.MonkeyPatch, owner: type, steps: tuple[str, ...]) -> list[str]:
    """Let each step fail after its effect the first time, as after a kill before its checkpoint; return which did."""
    died: list[str] = []

    def dying(step: str) -> Any:
        work = getattr(owner, step)

        def die_once(*arguments: Any) -> Any:
            result = work(*arguments)
            if step not in died:
                died.append(step)
                raise RuntimeError("killed after the effect")
            return result

        return die_once

    for step in steps:
        patch.setattr(owner, step, dying(step))
    return died


@pytest.mark.exhaustive
def test_a_migration_that_is_killed_after_the_effect_of_any_step_ends_as_it_should(
    account: Account, handlers, app, monkeypatch
):
    before = app.dump()
    app.declare()
    # `observe` is not a step: an observation that fails is repeated by itself.
    steps = tuple(step for step in FORWARD if step != "observe")
    with pytest.MonkeyPatch.context() as patch:
        died = each_step_dies_once(patch, Migrating, steps)
        assert run(handlers, app)["status"] == "retired"
    assert sorted(died) == sorted(steps)
    assert retired(app)
    app.declare(replaced=False)
    account.onboard(app.arn)
    with pytest.MonkeyPatch.context() as patch:
        died = each_step_dies_once(patch, Undoing, BACK)
        assert run(handlers, app, undo=True)["status"] == "undone"
    assert sorted(died) == sorted(BACK)
    assert app.kept() is None
    assert app.dump() == before
    assert "DeletedDate" not in app.secret_state()


def test_a_migration_continues_in_another_execution_that_the_function_starts(account: Account, handlers, app):
    app.declare()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "MOST_OPERATIONS", 1)  # in this process; the next execution runs in the function
        steps = tuple(step for step in FORWARD if step != "observe")
        died = each_step_dies_once(patch, Migrating, steps)
        assert run(handlers, app, watch="3s")["status"] == "running"
        assert "retire" not in died
    # A login by password, as `retired` tries, would begin the watch anew: MySQL counts it.
    until(lambda: app.kept()["state"] == "retired", 60)
    until(lambda: retired(app), 60)  # its secret is deleted by the next step
    app.declare(replaced=False)
    account.onboard(app.arn)
    assert run(handlers, app, undo=True)["status"] == "undone"


def killed_at(account: Account, handlers: dict[str, Handler], arn: str, at: int) -> bool:
    """Kill a migration at a checkpoint, see that it ends as it should, and return whether it got that far."""
    app = App(account, arn)
    app.declare()
    with pytest.MonkeyPatch.context() as patch:
        kills = Kills(patch, at)
        assert run(handlers, app)["status"] == "retired"
    assert retired(app), f"killed at checkpoint {at}"
    app.leave()
    return kills.killed


@pytest.mark.parametrize("arn", ["mariadb", MYSQL_EXHAUSTIVE], indirect=True)
def test_a_migration_that_is_killed_at_a_checkpoint_ends_as_it_should(account, handlers, arn):
    assert killed_at(account, handlers, arn, 5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("arn", ["postgres"], indirect=True)  # which checkpoints there are is no matter of the engine
def test_a_migration_that_is_killed_at_any_checkpoint_ends_as_it_should(account, handlers, arn):
    for at in range(1, MOST_CHECKPOINTS):
        if not killed_at(account, handlers, arn, at):
            break  # it ended before: every checkpoint has had its turn
    else:
        pytest.fail("more checkpoints than are tried")
    assert at > 5
