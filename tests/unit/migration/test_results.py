"""Results of steps survive a checkpoint, and a refusal after changes is incomplete."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from rdsiam.core.changes import Change
from rdsiam.events.migrate import MigrateRequest
from rdsiam.migration.results import (
    Beginning,
    Refusal,
    Removal,
    Retirement,
    SecretResult,
    StepResult,
    Watched,
    as_json,
)
from rdsiam.migration.steps import Migrating

ARN = "arn:aws:rds:eu-west-1:123456789012:db:orders"
CHANGES = as_json([Change("disable-user", "app", "ALTER ROLE app NOLOGIN")])


@pytest.mark.parametrize(
    "result",
    [
        Beginning(ARN, "app_iam", "another execution", True, "no", "refused"),
        Refusal("no", "refused"),
        StepResult(CHANGES, "no", "refused", True),
        SecretResult(CHANGES, ("arn:other",)),
        Removal(True, "declared", CHANGES),
        Retirement("retired", "", "", CHANGES, True),
        Watched(True, 3),
    ],
    ids=lambda result: type(result).__name__,
)
def test_a_result_is_read_from_its_checkpoint_as_it_was(result):
    assert type(result).from_json(json.loads(json.dumps(result.to_json()))) == result


@pytest.mark.parametrize(
    ("plan", "changes", "status"),
    [(False, CHANGES, "incomplete"), (False, (), "refused"), (True, CHANGES, "refused")],
    ids=["after changes", "without changes", "in a plan"],
)
def test_a_refusal_after_changes_is_incomplete_and_names_what_is_missing(plan, changes, status):
    services: Any = SimpleNamespace()
    run = Migrating(services, MigrateRequest(ARN, "app", plan=plan), "execution")
    answer = run.answer("refused", "app_iam is not declared", "successor-not-declared", changes).to_json()
    assert (answer["status"], answer["code"]) == (status, "successor-not-declared")
    missing = answer.get("incomplete", [])
    assert [(part["what"], part["reason"], part["retry"]) for part in missing] == (
        [("app", "app_iam is not declared", False)] if status == "incomplete" else []
    )
