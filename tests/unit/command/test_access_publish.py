"""`rdsiam access publish`, `history`, `diff` and `rollback`, against S3, RDS, DynamoDB and EventBridge of moto."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result
from moto import mock_aws

from rdsiam.access.store import CONFIRMED
from rdsiam.command import access_publish
from rdsiam.command.access import access
from rdsiam.command.aws import Aws
from rdsiam.command.errors import Denied, exit_code
from rdsiam.errors import RdsiamError
from rdsiam.state.applied_access import AppliedAccess
from tests.unit.inventories import create_inventory

ROLE = "arn:aws:iam::123456789012:role/{}"


def text(*users: str, callers: int = 2, entries: int = 1) -> str:
    """Return a file whose users each have that number of callers."""
    declared = [
        {
            "name": user,
            "privileges": "readonly",
            "on": ["shop"],
            "callers": [{"role": ROLE.format(f"r{number}")} for number in range(callers)],
        }
        for user in users
    ]
    others = [{"match": {"identifier": f"other{number}"}} for number in range(entries - 1)]
    return json.dumps({"version": 1, "databases": [{"match": {"identifier": "orders"}, "users": declared}, *others]})


class Place:
    """A bucket, a table, one database, and the command."""

    def __init__(self, folder: Path, client: Callable[[str], Any]) -> None:
        self.file = folder / "new.yaml"
        self.s3, self.events = client("s3"), client("events")
        self.s3.create_bucket(Bucket="access", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self.s3.put_bucket_versioning(Bucket="access", VersioningConfiguration={"Status": "Enabled"})
        dynamodb = client("dynamodb")
        create_inventory(dynamodb)
        self.applied = AppliedAccess(dynamodb, "inventory")
        client("rds").create_db_instance(
            DBInstanceIdentifier="orders", DBInstanceClass="db.t4g.medium", Engine="postgres", MasterUsername="boss",
            MasterUserPassword="x" * 12, AllocatedStorage=20,
        )  # fmt: skip
        for name in ("AccessChanged-1X", "reconcile"):
            self.events.put_rule(Name=f"rdsiam-{name}", ScheduleExpression="rate(1 hour)")

    def published(self, content: str, apply: bool = False, **metadata: str) -> str:
        made = self.s3.put_object(Bucket="access", Key="access.yaml", Body=content.encode(), Metadata=metadata)
        version = str(made["VersionId"])
        if apply:
            assert self.applied.record(version, "2026-11-27T10:00:00Z")
        return version

    def current(self) -> tuple[str, bool]:
        """Return the published text, and whether it is confirmed."""
        answer = self.s3.get_object(Bucket="access", Key="access.yaml")
        return answer["Body"].read().decode(), answer["Metadata"] == dict(CONFIRMED)

    def publish(self, content: str, *options: str, answer: str | None = None) -> Result:
        self.file.write_text(content)
        return self.run("publish", str(self.file), *options, answer=answer)

    def run(self, *arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(access, list(arguments), input=answer)


def code(done: Result) -> int:
    return exit_code(done.exception) if isinstance(done.exception, RdsiamError) else done.exit_code


@pytest.fixture(scope="module")
def client() -> Callable[[str], Any]:
    """Return the clients of all tests: each new one would read the model of its service again."""
    return cache(boto3.Session("a", "b", region_name="eu-west-1").client)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Callable[[str], Any]) -> Iterator[Place]:
    monkeypatch.setattr(Aws, "client", lambda _, service: client(service))
    monkeypatch.setenv("RDSIAM_ACCESS_BUCKET", "access")
    monkeypatch.setenv("RDSIAM_INVENTORY_TABLE", "inventory")
    monkeypatch.chdir(tmp_path)
    with mock_aws():
        yield Place(tmp_path, client)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_publish, "_has_terminal", lambda: True)


def test_lost_and_gained_logins_are_shown_by_caller_user_and_database(place):
    place.published(text("app", "old"))
    done = place.publish(text("app", "new", callers=3), "--yes")
    assert code(done) == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("lost", "gained"))]
    assert ["lost", "orders", "old", "123456789012:role/r0"] in rows
    assert ["gained", "orders", "app", "123456789012:role/r2"] in rows
    assert [row[:3] for row in rows].count(["gained", "orders", "new"]) == 3
    assert "2 logins lost, 4 gained" in done.stderr


def test_without_a_terminal_nothing_is_published_without_yes(place):
    place.published(text("app"))
    done = place.publish(text("app", "new"))
    assert code(done) == 2
    assert "--yes" in str(done.exception)
    assert place.current()[0] == text("app")
    assert code(place.publish(text("app", "new"), "--yes")) == 0
    assert place.current() == (text("app", "new"), False)


@pytest.mark.parametrize(("answer", "published"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_on_a_terminal_it_asks(place, terminal, answer, published):
    place.published(text("app"))
    done = place.publish(text("app", "new"), answer=answer)
    assert "Publish?" in done.output
    assert (place.current()[0] == text("app", "new")) is published
    assert (code(done) == 0) is published


def test_a_plan_publishes_nothing_and_ends_with_3(place):
    place.published(text("app"))
    done = place.publish(text("app", "new"), "--plan")
    assert code(done) == 3
    assert "not done, because this is a plan" in done.stderr
    assert place.current()[0] == text("app")
    assert code(place.publish(text("app"), "--plan")) == 0


def test_a_file_that_does_not_differ_is_not_published(place):
    place.published(text("app"))
    done = place.publish(text("app"), "--yes")
    assert (code(done), "nothing differs" in done.stderr) == (0, True)


def test_a_version_that_takes_most_logins_is_published_and_said_to_wait(place):
    applied = place.published(text("app", "web", "etl"), apply=True)
    done = place.publish(text("app"), "--yes")
    assert code(done) == 0
    assert f"to take it back: rdsiam access rollback {applied}" in done.stderr
    assert "change limit of vending: 4 of 6 rules by which callers get tokens disappear" in done.stderr
    assert "it waits: tokens are vended by the applied version, and the fleet does not follow" in done.stderr
    assert "tokens follow" not in done.stderr
    assert place.current() == (text("app"), False)


def test_confirm_publishes_without_asking_and_says_that_all_follows(place):
    place.published(text("app", "web", "etl"), apply=True)
    done = place.publish(text("app"), "--confirm")
    assert code(done) == 0, done.output
    assert "tokens follow within 60 seconds" in done.stderr
    assert "change limit of vending" not in done.stderr
    assert place.current() == (text("app"), True)


def test_a_version_that_waits_is_confirmed_with_the_same_file_once(place):
    place.published(text("app", "web", "etl"), apply=True)
    assert code(place.publish(text("app"), "--yes")) == 0
    done = place.publish(text("app"), "--confirm")
    assert (code(done), place.current()) == (0, (text("app"), True))
    assert "which is applied, as the published one waits" in done.stderr
    assert "4 logins lost, 0 gained" in done.stderr, "what is confirmed, though the text is the same"
    assert "nothing differs" in place.publish(text("app"), "--confirm").stderr


def test_losses_are_compared_with_the_applied_version_not_with_one_that_waits(place):
    place.published(text("app", "web", "etl"), apply=True)
    place.published(text("app"))
    done = place.publish(text("app", callers=3), "--yes")
    assert "change limit of vending: 4 of 6" in done.stderr
    done = place.publish(text("app", "web"), "--yes")
    assert "change limit of vending" not in done.stderr
    assert "tokens follow" in done.stderr


def test_logins_that_a_confirmed_version_took_come_back_with_no_version_that_follows_it(place):
    place.published(text("app", "web", "etl"), apply=True)
    confirmed = place.published(text("app"), **CONFIRMED)
    for following in (text("app", callers=3), text("app", entries=2), text()):
        for options in (["--yes"], ["--plan"]):
            done = place.publish(following, *options)
            assert code(done) == 3
            assert f"version {confirmed} is confirmed and not applied yet" in str(done.exception)
    assert place.current() == (text("app"), True)
    assert code(place.publish(text("app", callers=3), "--confirm")) == 0
    assert place.current() == (text("app", callers=3), True)


def test_a_version_that_follows_a_confirmed_and_applied_one_is_published_as_any_other(place):
    place.published(text("app", "web", "etl"), apply=True)
    place.published(text("app"), apply=True, **CONFIRMED)
    assert code(place.publish(text("app", callers=3), "--yes")) == 0
    assert place.current() == (text("app", callers=3), False)


def test_losses_are_compared_with_the_published_version_if_the_applied_one_is_unknown(place, monkeypatch):
    place.published(text("app", "web", "etl"))
    assert "change limit of vending" in place.publish(text("app"), "--plan").stderr
    monkeypatch.setenv("RDSIAM_INVENTORY_TABLE", "missing")
    assert "change limit of vending" in place.publish(text("app"), "--plan").stderr
    monkeypatch.delenv("RDSIAM_INVENTORY_TABLE")
    assert "change limit of vending" in place.publish(text("app"), "--plan").stderr


def test_a_database_that_waits_for_an_operator_is_named(place):
    place.published(text("a", "b", "c", "d", "e", "f", callers=0))
    done = place.publish(text("a", callers=0), "--yes")
    assert "change limit of orders: 5 of 6 users are no longer declared" in done.stderr
    assert "orders waits for: rdsiam onboard orders --confirm" in done.stderr


def test_a_file_that_lost_most_of_its_entries_is_named(place):
    place.published(text("a", entries=5))
    done = place.publish(text("a", entries=2), "--yes")
    assert "change limit of the fleet: access.yaml has 2 entries, and had 5" in done.stderr
    assert "each database whose declaration changed waits" in done.stderr


@pytest.mark.parametrize(
    ("disabled", "said"),
    [
        ([], "the fleet follows now: a reconcile starts"),
        (["rdsiam-AccessChanged-1X"], "the fleet follows with the scheduled reconcile"),
        (["rdsiam-AccessChanged-1X", "rdsiam-reconcile"], "the fleet follows once you run rdsiam reconcile"),
    ],
)
def test_the_fleet_follows_only_if_a_rule_starts_a_reconcile(place, disabled, said):
    for name in disabled:
        place.events.disable_rule(Name=name)
    place.published(text("app"))
    assert said in place.publish(text("app", "new"), "--yes").stderr


def test_without_rules_that_can_be_read_nothing_is_promised(place, monkeypatch):
    monkeypatch.setenv("RDSIAM_STACK", "another")
    place.published(text("app"))
    done = place.publish(text("app", "new"), "--yes")
    assert "the fleet follows with the next reconcile" in done.stderr
    assert "now" not in done.stderr


def test_the_first_file_is_published(place):
    done = place.publish(text("app"), "--yes")
    assert code(done) == 0, done.output
    assert place.current()[0] == text("app")


def test_a_version_published_meanwhile_is_not_overwritten(place, terminal, monkeypatch):
    place.published(text("app"))

    def publish_another(_: str) -> bool:
        place.published(text("other"))
        return True

    monkeypatch.setattr(access_publish, "_agreed", publish_another)
    done = place.publish(text("app", "new"))
    assert code(done) == 6
    assert place.current()[0] == text("other")


@pytest.mark.parametrize(
    ("content", "problem"),
    [("version: 2\n", "new.yaml: line 1"), ("a: [", "new.yaml: line 2"), (b"\xff\xfe", "new.yaml: line 1")],
)
@pytest.mark.parametrize("command", ["publish", "plan"])
def test_errors_name_the_file_that_was_given(place, command, content, problem):
    place.file.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = place.run(command, str(place.file))
    assert (code(done), problem in str(done.exception)) == (3, True), done.exception
    assert "access.yaml:" not in str(done.exception)


def test_an_error_on_one_database_names_the_file_and_the_database(place):
    place.published(text("app"))
    done = place.publish(text("boss"), "--plan")
    assert "invalid on orders, where nothing is onboarded by it" in done.stderr
    done = place.run("plan", str(place.file))
    assert f"{place.file}, on orders: line 1" in str(done.exception)


def test_errors_of_standard_input_name_it(place):
    done = place.run("publish", "-", "--yes", answer="version: 2\n")
    assert (code(done), "standard input: line 1" in str(done.exception)) == (3, True)
    done = place.run("validate", "-", answer="version: 2\n")
    assert "standard input: line 1" in done.stderr
    place.published(text("app"))
    assert code(place.run("publish", "-", answer=text("app", "new"))) == 2, "it can't be asked and read"
    assert code(place.run("publish", "-", "--yes", answer=text("app", "new"))) == 0
    assert place.current()[0] == text("app", "new")


def test_a_suppressed_finding_that_does_not_exist_gets_advice(place):
    file = json.loads(text("app"))
    suppressed = {"finding": "user-without-imm", "user": "etl", "reason": "x", "until": "2099-01-01T00:00:00Z"}
    file["databases"][0]["suppress"] = [suppressed]
    done = place.run("validate", "-", answer=json.dumps(file))
    assert code(done) == 0, done.stderr
    problem = "no finding has the kind user-without-imm; did you mean user-without-iam?"
    assert f"databases[0].suppress[0].finding: {problem}" in done.stderr
    assert "standard input is valid" in done.stderr


def test_a_publisher_who_may_not_list_databases_publishes_without_seeing_logins(place, monkeypatch):
    def deny(_: object) -> None:
        raise Denied("the fleet: not authorized to perform rds:DescribeDBInstances")

    monkeypatch.setattr(access_publish, "fleet", deny)
    place.published(text("app", "web", "etl"), apply=True)
    done = place.publish(text("app"), "--yes")
    assert code(done) == 0, done.output
    assert "the logins of each database are unknown: the fleet: not authorized" in done.stderr
    assert "change limit of vending: 4 of 6" in done.stderr


def test_a_file_that_does_not_exist_is_named(place):
    done = place.run("publish", "nowhere.yaml")
    assert (code(done), "nowhere.yaml" in str(done.exception)) == (5, True)


def test_history_has_each_version_with_its_state(place):
    first = place.published(text("app", "web", "etl"), apply=True)
    second = place.published(text("app", "web"), **CONFIRMED)
    third = place.published(text("app"))
    rows = json.loads(place.run("history", "--output", "json").stdout)
    assert {row["version"]: row["state"] for row in rows} == {
        third: "published, waits",
        second: "confirmed",
        first: "applied",
    }
    assert rows[0]["version"] == third
    assert len(json.loads(place.run("history", "--limit", "1", "--output", "json").stdout)) == 1


def test_history_says_that_a_file_was_deleted(place):
    place.published(text("app"))
    place.s3.delete_object(Bucket="access", Key="access.yaml")
    place.published(text("app"), apply=True)
    rows = json.loads(place.run("history", "--output", "json").stdout)
    assert rows[0]["state"] == "published, applied"
    assert sorted(row["state"] for row in rows[1:]) == ["", "deleted"], "both within a second"


def test_rollback_publishes_an_earlier_version_as_a_new_one(place):
    first = place.published(text("app", "web"), apply=True)
    place.published(text("app"))
    done = place.run("rollback", first)
    assert (code(done), place.current()[0]) == (2, text("app"))
    done = place.run("rollback", first[:10], "--yes")
    assert code(done) == 0, done.output
    assert place.current() == (text("app", "web"), False)
    assert "nothing differs" in place.run("rollback", first, "--yes").stderr
    assert len(json.loads(place.run("history", "--output", "json").stdout)) == 3


def test_a_rollback_that_takes_most_logins_waits_too(place):
    first = place.published(text("app"))
    place.published(text("app", "web", "etl"), apply=True)
    assert "change limit of vending" in place.run("rollback", first, "--yes").stderr
    assert place.current() == (text("app"), False)


@pytest.mark.parametrize(
    ("version", "expected"), [("no-such-version", 5), ("", 5), ("zz", 5)], ids=["unknown", "empty", "short"]
)
def test_a_version_that_does_not_exist_is_named(place, version, expected):
    place.published(text("app"))
    for command in ("rollback", "diff"):
        done = place.run(command, version)
        assert code(done) == expected
        assert f"has no version {version}" in str(done.exception)


def test_a_version_that_is_invalid_is_not_rolled_back_to(place):
    broken = place.published("version: 3\n")
    place.published(text("app"))
    done = place.run("rollback", broken, "--yes")
    assert (code(done), f"version {broken}: line 1" in str(done.exception)) == (3, True)


def test_a_deletion_is_no_version_to_roll_back_to(place):
    place.published(text("app"))
    mark = place.s3.delete_object(Bucket="access", Key="access.yaml")["VersionId"]
    assert code(place.run("rollback", mark, "--yes")) == 2


def test_diff_shows_text_and_logins_of_two_versions(place):
    first = place.published(text("app"))
    second = place.published(text("web"))
    third = place.published(text("web", "etl"))
    done = place.run("diff", first, second)
    assert code(done) == 3
    assert f"--- version {first}" in done.stdout
    rows = json.loads(place.run("diff", first, second, "--output", "json").stdout)
    assert {(row["change"], row["user"]) for row in rows} == {("lost", "app"), ("gained", "web")}
    assert {row["caller"] for row in rows} == {ROLE.format("r0"), ROLE.format("r1")}
    rows = json.loads(place.run("diff", second, "--output", "json").stdout)
    assert {(row["change"], row["user"]) for row in rows} == {("gained", "etl")}, "against the published version"
    assert code(place.run("diff", third)) == 0
