"""`rdsiam audit` as people run it: a process of its own, beside a fleet that is not in order."""

import json
from typing import Any

import pytest


@pytest.fixture(scope="module")
def fleet(account) -> dict[str, str]:
    """Return a database in order, one with a password user, and one that nobody declared."""
    role = account.make_role("command-app")
    for name in ("command-fine", "command-left"):
        account.declare(name, {"name": "app", "privileges": "readonly", "on": ["shop"], "roles": [role]})
    arns = {name: account.create(name) for name in ("command-fine", "command-left", "command-alien")}
    for name in ("command-fine", "command-left"):
        account.wait_onboarded(arns[name], 120)
    account.wait(arns["command-alien"])
    with account.as_master(arns["command-left"]) as master:
        master.run("CREATE ROLE legacy LOGIN PASSWORD 'legacy-password'")
    return arns


def test_a_fleet_in_order_is_0(account, fleet):
    ended = account.rdsiam("audit", "--database", "command-fine")
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    assert "1 of 1 database was read" in ended.stderr


def test_findings_are_3_and_on_stdout(account, fleet):
    ended = account.rdsiam("audit", "--database", "command-left", "--database", fleet["command-fine"])
    assert ended.returncode == 3, ended.stderr
    header, *rows = ended.stdout.splitlines()
    assert header.split()[:4] == ["SEVERITY", "KIND", "DATABASE", "USER"]
    assert [row.split()[:4] for row in rows] == [["medium", "user-without-iam", "command-left", "legacy"]]
    assert "list the fleet" in ended.stderr, "progress"


def test_findings_below_the_threshold_are_0(account, fleet):
    assert account.rdsiam("audit", "--database", "command-left", "--fail-on", "high", "--quiet").returncode == 0


def test_unknown_databases_are_7_whatever_else_is(account, fleet):
    ended = account.rdsiam("audit", "--database", "command-left", "--database", "command-alien", "--output", "json")
    assert ended.returncode == 7, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    assert (answer["databases"], answer["audited"], answer["unreachable"]) == (2, 1, 1)
    assert {one["user"] for one in answer["findings_list"] if one["kind"] == "user-without-iam"} == {"legacy"}
    assert "legacy-password" not in ended.stdout + ended.stderr


def test_a_database_that_is_not_there_is_5(account, fleet):
    ended = account.rdsiam("audit", "--database", "command-nobody")
    assert ended.returncode == 5
    assert "command-nobody" in ended.stderr


def test_a_finding_that_needs_a_decision_is_not_remediated_by_machine(account, fleet):
    found = json.loads(account.rdsiam("audit", "--database", "command-left", "--output", "json").stdout)[
        "findings_list"
    ]
    ended = account.rdsiam("audit", "--remediate", found[0]["id"], "--plan")
    assert ended.returncode == 3, ended.stderr
    assert ended.stdout.splitlines()[1].split()[:2] == [found[0]["id"], "ignored"]
