"""`rdsiam migrate` as people run it: a process of its own."""

import json
from collections.abc import Iterator

import pytest

from tests.integration.account import until
from tests.integration.migration.app import App


@pytest.fixture(scope="module")
def app(account) -> Iterator[App]:
    account.declare("migrate-command", {"name": "other", "privileges": "readonly", "on": ["shop"]})
    arn = account.create("migrate-command")
    account.wait_onboarded(arn)
    app = App(account, arn)
    yield app
    app.leave()
    account.declare("migrate-command")
    account.cloud.client("rds").delete_db_instance(DBInstanceIdentifier="migrate-command", SkipFinalSnapshot=True)
    until(lambda: account.record(arn) is None, 60)


def test_from_the_first_question_to_the_undo(app):
    asked = app.account.rdsiam("migrate", "start", "migrate-command", app.name, "--plan")
    assert asked.returncode == 3
    assert f'{{name: "{app.successor}", replaces: "{app.name}", roles: []}}' in asked.stderr

    app.declare()
    planned = app.account.rdsiam("migrate", "start", "migrate-command", app.name, "--plan")
    assert planned.returncode == 3, planned.stderr
    assert f'ALTER ROLE "{app.name}" NOLOGIN' in planned.stdout
    assert f'CREATE ROLE "{app.successor}" LOGIN' in planned.stdout

    started = app.account.rdsiam("migrate", "start", "migrate-command", app.name, "--watch", "2h")
    assert started.returncode == 0, started.stderr
    assert "watching: " in started.stderr
    assert "not seen: a login that begins and ends between two observations" in started.stderr
    assert "if nobody logs in as it until then" in started.stderr
    again = app.account.rdsiam("migrate", "start", "migrate-command", app.name, "--watch", "2h")
    assert (again.returncode, "running: " in again.stderr) == (0, True), again.stderr

    told = app.account.rdsiam("migrate", "status")
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[0].split()[:4] == ["DATABASE", "USER", "SUCCESSOR", "STATE"]
    assert [row.split()[:4] for row in told.stdout.splitlines() if app.name in row] == [
        ["migrate-command", app.name, app.successor, "watching"]
    ]
    assert "watching" in told.stderr
    as_json = json.loads(
        app.account.rdsiam("migrate", "status", "migrate-command", app.name, "--output", "json").stdout
    )
    assert as_json["states"] == {"paired": 0, "proven": 0, "watching": 1, "retired": 0}

    app.declare(replaced=False)
    undone = app.account.rdsiam("migrate", "undo", "migrate-command", app.name)
    assert undone.returncode == 0, undone.stderr
    assert "undone: " in undone.stderr
    assert app.kept() is None


@pytest.mark.parametrize(
    "arguments",
    [["start", "migrate-command"], ["status", "--plan"], ["start", "migrate-command", "app", "--watch", "soon"]],
)
def test_unclear_requests_start_nothing(app, arguments):
    ended = app.account.rdsiam("migrate", *arguments)
    assert ended.returncode != 0
    assert app.kept() is None
