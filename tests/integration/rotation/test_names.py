"""Users with passwords are rotated and migrated under the names that they have: from the command to the database."""

import json
import uuid
from typing import Any

import pytest

from tests.integration.account import until
from tests.integration.rotation.scheduled import Scheduled
from tests.kinds import MYSQL_EXHAUSTIVE

pytestmark = pytest.mark.exhaustive_on("mariadb")

NAMES = ["50% o'brien@corp"]
FURTHER = [
    pytest.param(name, marks=pytest.mark.exhaustive)
    for name in ("svc@corp", 'say "hi"', "Jürgen", "报表 `x`", "a/b\\c", "-v")
]
PASSWORD = "of-old-Password-1"


@pytest.fixture(scope="module", params=["postgres", "mariadb", MYSQL_EXHAUSTIVE])
def database(request, account):
    made = Scheduled.make(account, f"names-{request.param}", request.param)
    yield made
    made.remove()


def quoted(database: Scheduled, user: str) -> str:
    if database.postgres:
        return '"' + user.replace('"', '""') + '"'
    return "'" + user.replace("\\", "\\\\").replace("'", "\\'") + "'"


def make(database: Scheduled, user: str) -> None:
    """Make a user as its owner would, and let rdsiam_manager change it."""
    name = quoted(database, user)
    with database.account.as_master(database.arn) as master:
        if database.postgres:
            master.run(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
            master.run(f"GRANT {name} TO rdsiam_manager WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
        else:
            master.run(f"CREATE USER {name}@'%' IDENTIFIED BY '{PASSWORD}'")
            master.run(f"GRANT SELECT ON shop.* TO {name}@'%'")


def declare(database: Scheduled, *users: dict[str, Any], rotated: tuple[str, ...] = ()) -> None:
    entry: dict[str, Any] = {"match": {"identifier": database.identifier}, "users": list(users)}
    if rotated:
        entry["rotate"] = {"users": list(rotated), "every": "30d"}
    database.account.entries[database.identifier] = entry
    database.account.publish_entries()


APP = {"name": "app", "privileges": "readonly", "on": ["shop"]}


@pytest.mark.parametrize("user", [*NAMES, *FURTHER])
def test_a_user_of_any_name_gets_a_secret_and_rotates(database, user):
    make(database, user)
    declare(database, APP, rotated=(user,))
    refused = database.account.rdsiam("rotate", "set-up", database.identifier, "--", user)
    assert refused.returncode == 3, refused.stderr
    assert "secret-not-named" in refused.stderr
    made = database.ask({"database": database.arn, "user": user, "confirm": True})
    assert [change["kind"] for change in made["changes"]] == ["create-secret", "set-password", "schedule-rotation"], (
        made
    )
    secret = made["secrets"][0]["secret"]
    database.wait_until_nothing_is_pending(secret)
    first = database.value(secret)
    assert first["username"] == user
    assert not database.logs_in(user, PASSWORD)

    rotated = database.account.rdsiam("rotate", "now", "--reason", "a test", database.identifier, "--", user)
    assert rotated.returncode == 0, rotated.stderr
    second = database.value(secret)["password"]
    assert second != first["password"]
    assert database.logs_in(user, second)
    assert not database.logs_in(user, first["password"])
    listed = database.ask({"list": True, "databases": [database.arn]})["secrets"]
    assert [(one["user"], one["problem"]) for one in listed if one["secret"] == secret] == [(user, "")]
    shown = database.account.rdsiam("rotate", "status", database.identifier, "--", user)
    assert shown.returncode == 0, shown.stderr
    declare(database, APP)
    assert database.account.onboard(database.arn)["status"] == "onboarded"


@pytest.mark.parametrize("user", ["old name@corp's", pytest.param('Größe "90%"', marks=pytest.mark.exhaustive)])
def test_a_user_of_any_name_moves_to_tokens_and_back(database, user):
    account, arn = database.account, database.arn
    make(database, user)
    refused = account.invoke("MigrateFunction", {"database": arn, "user": user})
    assert json.dumps(user, ensure_ascii=False) in refused["remedy"]
    successor = {"name": "new_name", "replaces": user}
    declare(database, APP, successor)
    planned = account.rdsiam("migrate", "start", database.identifier, user, "--plan")
    assert planned.returncode == 3, planned.stderr
    account.cloud.client("lambda").invoke(
        FunctionName=account.cloud.functions["MigrateFunction"],
        InvocationType="Event",
        DurableExecutionName=f"migrate-{uuid.uuid4().hex}",
        Payload=json.dumps({"database": arn, "user": user, "watch": "1s"}),
    )

    def state() -> str | None:
        kept = account.invoke("MigrateFunction", {"status": True, "database": arn})["migrations"]
        return next((one["state"] for one in kept if one["user"] == user), None)

    until(lambda: state() == "retired", 60)
    with pytest.raises(Exception, match=r"not permitted to log in|is locked"):
        account.connect(arn, user, PASSWORD)
    declare(database, APP)
    account.onboard(arn, confirm=True)
    undone = account.rdsiam("migrate", "undo", database.identifier, user, "--confirm")
    assert undone.returncode in {0, 7}, undone.stderr
    account.connect(arn, user, PASSWORD).close()
