"""`rdsiam rotate` as people run it: one rotation looked after, and a whole set in an emergency."""

import json
import secrets

import pytest

from localcloud.moto_patches.rotations import ATTEMPTS
from tests.integration.account import until
from tests.integration.rotation.scheduled import Scheduled
from tests.kinds import MYSQL_EXHAUSTIVE

pytestmark = pytest.mark.exhaustive_on("postgres")


@pytest.fixture(scope="module", params=["postgres", "mariadb", MYSQL_EXHAUSTIVE])
def database(request, account):
    made = Scheduled.make(account, f"rotating-{request.param}", request.param)
    yield made
    made.remove()


def test_the_status_shows_schedule_and_state(account, database):
    database.with_secret("shown")
    ended = account.rdsiam("rotate", "status", database.identifier, "shown")
    assert ended.returncode == 0, ended.stderr
    header, row = ended.stdout.splitlines()
    assert header.split()[:3] == ["NAME", "USER", "STATE"]
    assert row.split()[:3] == [f"{database.identifier}/shown", "shown", "ok"]
    assert "cron(0 " in row
    listed = json.loads(account.rdsiam("rotate", "status", database.arn, "shown", "--output", "json").stdout)
    assert [one["state"] for one in listed] == ["ok"]


def test_now_rotates_and_waits_for_the_end(account, database):
    secret = database.with_secret("renewed")
    before = database.value(secret)["password"]
    ended = account.rdsiam("rotate", "now", database.identifier, "renewed", "--reason", "TICKET-12")
    assert ended.returncode == 0, ended.stderr
    assert "began, version" in ended.stderr
    assert ended.stderr.rstrip().endswith("done")
    after = database.value(secret)["password"]
    assert database.logs_in("renewed", after)
    assert not database.logs_in("renewed", before)
    assert not {before, after} & set((ended.stdout + ended.stderr).split())
    log = (account.cloud.logs / "SecretsFunction.log").read_text()
    assert f"rotation of {database.identifier}/renewed requested: TICKET-12" in log


def test_a_stuck_rotation_is_shown_unstuck_and_rotates_again(account, database):
    secret = database.with_secret("jammed")
    right = database.value(secret)["password"]
    database.set_password("jammed", secrets.token_urlsafe(18))
    version = database.ask({"rotate": secret})["version"]
    late = account.rdsiam("rotate", "now", database.identifier, "jammed", "--wait", "8")
    assert late.returncode == 6, late.stderr
    assert "not done after 8 s" in late.stderr
    assert database.ask({"show": secret})["pending_since"]
    planned = account.rdsiam("rotate", "unstick", database.identifier, "jammed", "--plan")
    assert planned.returncode == 3
    assert f"AWSPENDING would be removed from version {version}" in planned.stderr
    assert "AWSCURRENT does not log in either" in planned.stderr
    database.set_password("jammed", right)
    ended = account.rdsiam("rotate", "unstick", database.identifier, "jammed")
    assert ended.returncode == 0, ended.stderr
    assert "AWSPENDING" not in str(database.describe(secret)["VersionIdsToStages"])
    assert account.rdsiam("rotate", "now", database.identifier, "jammed").returncode == 0
    assert "nothing is pending" in account.rdsiam("rotate", "unstick", database.identifier, "jammed").stderr


def test_a_password_that_the_database_accepts_is_not_unstuck(account, database):
    secret = database.with_secret("halfway")
    database.set_password("halfway", secrets.token_urlsafe(18))
    version = database.ask({"rotate": secret})["version"]

    def pending() -> str | None:
        try:
            found = database.client.get_secret_value(SecretId=secret, VersionId=version)["SecretString"]
        except database.client.exceptions.ResourceNotFoundException:
            return None
        return str(json.loads(found)["password"])

    password = until(pending, 30)
    # Not before it is given up: it would end the rotation.
    until(lambda: failures(account, secret) == ATTEMPTS, 60)
    database.set_password("halfway", password)
    ended = account.rdsiam("rotate", "unstick", database.identifier, "halfway")
    assert ended.returncode == 3
    assert "accepts the password of AWSPENDING" in ended.stderr
    assert account.rdsiam("rotate", "now", database.identifier, "halfway").returncode == 0
    assert database.value(secret)["password"] == password


def failures(account, secret: str) -> int:
    """Return how often a step of a secret's rotation has failed."""
    lines = (account.cloud.logs / "RotateFunction.log").read_text().splitlines()
    return sum("rotation step failed" in line and secret in line for line in lines)


def test_set_up_prints_its_plan_or_the_reason_of_its_refusal(account, database):
    password = database.make_user("fresh")
    database.rotate("fresh")
    if database.postgres:
        with database.account.as_master(database.arn) as master:
            master.run("GRANT fresh TO rdsiam_manager WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
    refused = account.rdsiam("rotate", "set-up", database.identifier, "fresh")
    assert refused.returncode == 3
    assert f"rdsiam rotate set-up {database.identifier} fresh --confirm" in refused.stderr
    planned = account.rdsiam("rotate", "set-up", database.identifier, "fresh", "--confirm", "--plan")
    assert planned.returncode == 3
    assert [row.split()[0] for row in planned.stdout.splitlines()[1:]] == [
        "create-secret", "set-password", "schedule-rotation",
    ]  # fmt: skip
    assert database.logs_in("fresh", password)
    assert account.rdsiam("rotate", "set-up", database.identifier, "fresh", "--confirm").returncode == 0
    assert not database.logs_in("fresh", password)
    assert account.rdsiam("rotate", "status", database.identifier, "fresh").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("status", "rotating-nobody", "etl"), 5, "no instance and no cluster is named rotating-nobody"),
        (("status", "IDENTIFIER", "nobody"), 5, "nobody on"),
        (("now", "IDENTIFIER", "nobody"), 5, "no secret is rotated by rdsiam"),
        (("now", "IDENTIFIER", "o'b; x"), 5, "rdsiam rotate set-up IDENTIFIER 'o'\"'\"'b; x' --plan"),
        (("now", "IDENTIFIER", "--", "-v"), 5, "rdsiam rotate set-up --plan IDENTIFIER -- -v"),
        (("set-up", "IDENTIFIER", "nobody"), 3, "access.yaml has no `rotate` for nobody"),
        (("status", "IDENTIFIER"), 2, "Missing argument 'USER'"),
        (("list", "IDENTIFIER"), 2, "Unexpected argument: IDENTIFIER; a database is named with --database"),
        (("status", "IDENTIFIER", "etl", "--secret", "x"), 2, "No such option"),
        (("all",), 2, "Missing option '--reason'"),
        (("now", "IDENTIFIER", "etl", "--confirm"), 2, "No such option"),
        (("all", "--reason", "x", "--match", "no-such-*"), 5, "no secret of that set"),
    ],
)
def test_each_failure_has_its_message_and_exit_code(account, database, arguments, code, said):
    ended = account.rdsiam("rotate", *(word.replace("IDENTIFIER", database.identifier) for word in arguments))
    assert ended.returncode == code, ended.stderr
    assert said.replace("IDENTIFIER", database.identifier) in ended.stderr
    assert ended.stdout == ""


def test_in_an_emergency_a_set_is_rotated_and_old_sessions_are_named(account):
    fleet = [Scheduled.make(account, f"leaking-{number}", ("postgres", "mariadb")[number % 2]) for number in range(2)]
    kept: dict[str, str] = {}
    for one in fleet:
        master = account.describe(one.arn)["MasterUserSecret"]["SecretArn"]
        first = one.put("leak_a", one.make_user("leak_a"))
        kept[first] = "leak_a"
        one.rotate("leak_a", secret=first)
        other = one.put("leak_b", one.make_user("leak_b"), masterarn=master)
        one.account.entries[f"{one.identifier}-b"] = {
            "match": {"identifier": one.identifier},
            "rotate": {"users": ["leak_b"], "every": "30d", "scheme": "alternating", "secret": other},
        }
        one.account.publish_entries()
        assert one.ask({"database": one.arn})["status"] == "written"
        one.wait_until_nothing_is_pending(other)
        kept[other] = "leak_b"
    before = {secret: fleet[0].value(secret) for secret in kept}
    broken = next(secret for secret in kept if "leaking-1/leak_a" in secret)
    fleet[1].set_password("leak_a", "changed-behind-its-back")

    plan = account.rdsiam("rotate", "all", "--reason", "leak", "--match", "leaking-*", "--plan", "--output", "json")
    assert plan.returncode == 3, plan.stderr
    planned = json.loads(plan.stdout)
    assert planned["reason"] == "leak"
    assert sorted((one["user"], one["turns"]) for one in planned["secrets"]) == [
        ("leak_a", 1), ("leak_a", 1), ("leak_b", 2), ("leak_b", 2),
    ]  # fmt: skip
    assert {secret: fleet[0].value(secret) for secret in kept} == before

    session = account.connect(
        fleet[0].arn, "leak_a", before[next(s for s in kept if "leaking-0/leak_a" in s)]["password"]
    )
    with session:
        ended = account.rdsiam(
            "rotate", "all", "--reason", "leak", "--match", "leaking-*", "--wait", "15", "--output", "json"
        )
    assert ended.returncode == 7, ended.stderr
    assert "2 of 2 databases done" in ended.stderr
    found = {one["secret"]: one for one in json.loads(ended.stdout)["secrets"]}
    for secret, user in kept.items():
        one, place = found[secret], fleet["leaking-1" in secret]
        if secret == broken:
            assert (one["rotated"], one["problem"][:8]) == (0, "not done")
            continue
        assert (one["rotated"], one["problem"]) == (one["turns"], "")
        after = place.value(secret)
        assert place.logs_in(after["username"], after["password"])
        assert not place.logs_in(user, before[secret]["password"]), "a leaked password no longer logs in"
    old = found[next(s for s in kept if "leaking-0/leak_a" in s)]["sessions"]
    assert [one["user"] for one in old] == ["leak_a"]

    fleet[1].set_password("leak_a", before[broken]["password"])
    again = account.rdsiam("rotate", "all", "--reason", "leak", "--database", "leaking-1")
    assert again.returncode == 0, again.stderr
    assert "rotated twice" in again.stdout
    for one in fleet:
        account.entries.pop(f"{one.identifier}-b")
        one.remove()
