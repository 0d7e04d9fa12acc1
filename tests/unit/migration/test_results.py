"""Results of steps survive a checkpoint, and a refusal after changes is incomplete, with its remedy."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from rdsiam.core.changes import Change, MissingPart, Reason, Refusal
from rdsiam.errors import RdsiamError, Refused
from rdsiam.events.migrate import MigrateRequest
from rdsiam.migration.flow import migrate
from rdsiam.migration.results import Beginning, Removal, Retirement, StepResult, Watched
from rdsiam.migration.secret_retirement import UsersSecrets
from rdsiam.migration.steps import Migrating
from tests.unit.results import Results

ARN = "arn:aws:rds:eu-west-1:123456789012:db:orders"
CHANGES = (Change("disable-user", "app", "ALTER ROLE app NOLOGIN"),)
REFUSAL = Refusal("app_iam is not declared", "declare it", "successor-not-declared")
PART = MissingPart("arn:other", "not recorded", "look at it", retry=False)


@pytest.mark.parametrize(
    "result",
    [
        Beginning(ARN, "app_iam", "another execution", True, REFUSAL),
        Beginning(ARN),
        StepResult(CHANGES, REFUSAL, Reason("a remark", "do it"), (PART,)),
        StepResult(),
        Removal(True, Reason("declared", "take it out"), CHANGES, (PART,)),
        Retirement("refused", Reason("no", "do it", "refused"), CHANGES, True),
        Watched(True, 3),
    ],
    ids=lambda result: type(result).__name__,
)
def test_a_result_is_read_from_its_checkpoint_as_it_was(result):
    assert type(result).from_json(json.loads(json.dumps(result.to_json()))) == result


def migrating(plan: bool = False) -> Migrating:
    services: Any = SimpleNamespace()
    return Migrating(services, MigrateRequest(ARN, "app", plan=plan), "execution")


@pytest.mark.parametrize(
    ("plan", "changes"), [(False, ()), (True, CHANGES)], ids=["without changes", "in a plan, with its changes"]
)
def test_a_refusal_has_its_code_and_remedy_apart_from_the_reason(plan, changes):
    answer = migrating(plan).answer("refused", REFUSAL, changes).to_json()
    assert (answer["status"], answer["code"]) == ("refused", "successor-not-declared")
    assert (answer["reason"], answer["remedy"]) == ("app_iam is not declared", "declare it")
    assert answer["incomplete"] == []


def test_a_refusal_after_changes_is_incomplete_and_names_what_is_missing_with_its_remedy():
    answer = migrating().answer("refused", REFUSAL, CHANGES).to_json()
    assert (answer["status"], answer["code"], answer["remedy"]) == ("incomplete", "successor-not-declared", "")
    assert answer["reason"] == "app_iam is not declared"
    assert answer["incomplete"] == [
        {"what": "app", "reason": "app_iam is not declared", "remedy": "declare it", "retry": False}
    ]


def test_secrets_that_are_left_alone_are_missing_parts_of_an_answer():
    left = UsersSecrets(None, ("arn:a", "arn:b")).left_alone("app")
    answer = migrating().answer("retired", incomplete=left).to_json()
    assert answer["status"] == "retired"
    assert [(part["what"], part["retry"]) for part in answer["incomplete"]] == [("arn:a", False), ("arn:b", False)]
    assert answer["reason"].count("is not recorded for it, so it is left alone") == 1


@pytest.mark.parametrize(
    ("error", "remedy"),
    [(Refused("no", "do it", "user-missing"), "do it"), (Refused("no"), "")],
    ids=["with a remedy", "without a remedy"],
)
def test_a_refused_step_keeps_code_and_remedy(error: RdsiamError, remedy: str):
    result = StepResult.refused(error)
    assert result.refusal == Refusal("no", remedy, error.code)


class Context:
    """A durable context whose steps run at once, and whose OnboardFunction answers this."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self._answer = answer

    def step(self, work: Any, **_: Any) -> Any:
        return work(None)

    def invoke(self, *_: Any, **__: Any) -> dict[str, Any]:
        return self._answer


@pytest.mark.parametrize("plan", [False, True], ids=["run", "plan"])
def test_the_parts_that_the_onboarding_did_not_do_are_in_the_answer(monkeypatch, plan):
    part = {"what": ARN, "reason": "needs confirmation: tag env", "remedy": "confirm it", "retry": False}
    onboarded = {"status": "incomplete", "code": "rights-missing", "reason": part["reason"], "remedy": ""}
    onboarded |= {"changes": [CHANGES[0].to_json()], "incomplete": [part]}
    if plan:
        onboarded |= {"status": "planned", "reason": ""}
    own = StepResult((Change("secret", "arn:own", "aws …"),), incomplete=(PART,))
    monkeypatch.setattr(Migrating, "begin", lambda _: Beginning(ARN, "app_iam"))
    monkeypatch.setattr(Migrating, "check", lambda _: StepResult())
    monkeypatch.setattr(Migrating, "plan", lambda _: own)
    context: Any = Context(onboarded)
    services: Any = SimpleNamespace(onboard_function="onboard", results=Results())
    answer = migrate(context, services, MigrateRequest(ARN, "app", plan=plan)).to_json()
    assert answer["status"] == ("planned" if plan else "incomplete")
    assert answer["code"] == ("" if plan else "rights-missing")
    assert answer["incomplete"] == [part, *([PART.to_json()] if plan else [])]
    assert [change["kind"] for change in answer["changes"]] == ["disable-user", *(["secret"] if plan else [])]
