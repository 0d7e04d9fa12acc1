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

    misspelled = app.account.rdsiam("migrate", "start", "migrate-command", f"{app.name}x", "--plan")
    assert (misspelled.returncode, "replaces" in misspelled.stderr) == (3, False), misspelled.stderr
    assert f"there is no user {app.name}x" in misspelled.stderr

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


@pytest.mark.parametrize(
    "user", ["nosuch", *(pytest.param(user, marks=pytest.mark.exhaustive) for user in ("other", "no such user"))]
)
@pytest.mark.parametrize("plan", [True, False], ids=["planned", "done"])
def test_an_undo_without_a_migration_changes_nothing_and_says_so(app, user, plan):
    ended = app.account.rdsiam("migrate", "undo", "migrate-command", user, *(["--plan"] if plan else []))
    assert ended.returncode == 0, ended.stderr
    assert "unchanged" in ended.stdout + ended.stderr
    assert f"there is no migration of {user}" in ended.stdout + ended.stderr
    assert app.kept() is None


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["migrate", "start", "migrate-command", "nosuch"], "user-missing"),
        pytest.param(
            ["revoke", "migrate-command", "nosuch", "--lift"], "user-not-managed", marks=pytest.mark.exhaustive
        ),
        (["revoke", "migrate-command", "nosuch", "--reason", "x"], "user-not-managed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("plan", [True, False], ids=["planned", "done"])
def test_a_user_that_the_request_is_not_about_is_refused(app, words, code, plan):
    ended = app.account.rdsiam(*words, *(["--plan"] if plan else []))
    assert (ended.returncode, ended.stdout) == (3, ""), ended.stderr
    assert "refused: " in ended.stderr
    assert f"[{code}]" in ended.stderr
    assert "  → " in ended.stderr
    assert app.kept() is None


@pytest.mark.parametrize(
    "words",
    [
        ["migrate", "start", "nosuch-db", "app"],
        ["revoke", "nosuch-db", "app", "--reason", "x"],
        ["onboard", "nosuch-db"],
        ["rotate", "now", "nosuch-db", "app"],
        ["rotate", "now", "migrate-command", "nosuch"],
        *(
            pytest.param(words, marks=pytest.mark.exhaustive)
            for words in (
                ["migrate", "undo", "nosuch-db", "app"],
                ["revoke", "nosuch-db", "app", "--lift"],
                ["rotate", "set-up", "nosuch-db", "app"],
                ["rotate", "unstick", "nosuch-db", "app"],
                ["rotate", "unstick", "migrate-command", "nosuch"],
            )
        ),
    ],
    ids=" ".join,
)
def test_a_plan_for_a_database_or_secret_that_does_not_exist_is_an_error(app, words):
    ended = app.account.rdsiam(*words, "--plan")
    assert (ended.returncode, ended.stdout) == (5, ""), ended.stderr
    assert "[not-found]" in ended.stderr or "-not-found]" in ended.stderr


def test_a_plan_for_the_secret_of_an_unknown_user_is_refused(app):
    ended = app.account.rdsiam("rotate", "set-up", "migrate-command", "nosuch", "--plan")
    assert (ended.returncode, ended.stdout) == (3, ""), ended.stderr
    assert "refused: " in ended.stderr


def test_functions_refuse_a_database_that_does_not_exist(app):
    arn = app.arn.replace("migrate-command", "nosuch-db")
    for plan in ({}, {"plan": True}):
        undone = app.account.invoke("MigrateFunction", {"database": arn, "user": "app", "undo": True, **plan})
        assert undone["status"] == "refused", undone
        lifted = app.account.invoke("OnboardFunction", {"database": arn, "lift": ["app"], **plan})
        assert lifted["status"] == "ignored", lifted
