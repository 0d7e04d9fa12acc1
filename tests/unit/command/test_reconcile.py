"""`rdsiam reconcile`: what it sends to OnboardFunction, what it shows, and its exit codes."""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from rdsiam.command import executions
from rdsiam.command.app import app
from rdsiam.command.errors import FunctionError, exit_code
from rdsiam.command.installation import Installation

ORDERS = "arn:aws:rds:eu-west-1:123456789012:db:orders"


@pytest.fixture
def function(monkeypatch):
    """Return a stand-in for OnboardFunction: its answer, and the payloads that it got."""
    stand_in = SimpleNamespace(answer={"started": [ORDERS], "unchanged": 1_041}, payloads=[])

    def run(_: Installation, name: str, payload: Mapping[str, Any], *__: Any, **___: Any) -> dict[str, Any]:
        assert name == "onboard_function"
        stand_in.payloads.append(payload)
        answer: dict[str, Any] = stand_in.answer
        return answer

    monkeypatch.setattr(Installation, "run", run)
    return stand_in


@pytest.mark.parametrize(
    ("options", "payload", "code", "line"),
    [
        ((), {}, 0, "reconciled: 1 database differs; 1,041 are as recorded"),
        (("--plan",), {"plan": True}, 3, "planned: 1 database differs; 1,041 are as recorded"),
        (("--confirm",), {"confirm": True}, 0, "reconciled: 1 database differs; 1,041 are as recorded"),
    ],
)
def test_databases_that_differ_are_named(function, options, payload, code, line):
    done = CliRunner().invoke(app, ["reconcile", *options])
    assert (done.exit_code, function.payloads) == (code, [{"reconcile": True} | payload])
    assert line in done.stderr
    assert ("rdsiam onboard DATABASE" in done.stderr) == ("--plan" not in options)
    assert done.stdout.splitlines()[1].split() == ["orders", ORDERS]


def test_a_plan_of_a_fleet_that_is_as_recorded_ends_with_0(function):
    function.answer = {"started": [], "unchanged": 1}
    done = CliRunner().invoke(app, ["reconcile", "--plan"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "planned: 0 databases differ; 1 is as recorded\n"


def test_all_databases_are_counted_also_those_that_the_answer_has_no_room_for(function):
    function.answer |= {"started_total": 2_000, "started_at": "s3://results/1"}
    done = CliRunner().invoke(app, ["reconcile", "--output", "json"])
    assert json.loads(done.stdout) == function.answer
    assert "1 of 2000 started; all of them: s3://results/1" in done.stderr
    assert "2,000 databases differ" in done.stderr


@pytest.mark.parametrize(
    ("kind", "code"), [("NeedsConfirmation", "needs-confirmation"), ("NothingListed", "nothing-listed")]
)
def test_a_reconcile_that_needs_confirmation_ends_with_3(kind, code):
    ended = {"Status": "FAILED", "Error": {"ErrorType": kind, "ErrorMessage": "version 2 waits; confirm it"}}
    client = SimpleNamespace(
        invoke=lambda **_: {"DurableExecutionArn": "arn:execution"},
        get_durable_execution=lambda **_: ended,
        get_durable_execution_history=lambda **_: {"Events": []},
    )
    with pytest.raises(FunctionError, match="version 2 waits; confirm it") as caught:
        executions.run(client, "f:live", {"reconcile": True}, "reconcile", lambda _: None)
    assert (exit_code(caught.value), caught.value.code) == (3, code)
