"""Remediation by onboarding: only findings that onboarding remedies, once per database."""

import json
from typing import Any

import pytest
from aws_durable_execution_sdk_python.exceptions import InvokeError

from rdsiam.audit.remediate import RemediationServices
from rdsiam.audit.remediate import remediate as remediate_with
from rdsiam.audit.store import FinishedRun
from tests.unit.results import Results

ORDERS, CARTS = (f"arn:aws:rds:eu-west-1:123456789012:db:{name}" for name in ("orders", "carts"))


def finding(id: str, kind: str, database: str | None, *steps: tuple[int, str, str]) -> dict[str, Any]:
    remediation = [{"way": way, "language": language, "text": text} for way, language, text in steps]
    return {"id": id, "kind": kind, "database": database, "remediation": remediation}


def onboarding(way: int, database: str) -> tuple[int, str, str]:
    return way, "cli", f"rdsiam onboard {database}"


class Store:
    """Finished audits, newest first, with their findings."""

    def __init__(self, *runs: tuple[str, Any, list[dict[str, Any]]]) -> None:
        self._runs = runs

    def finished_runs(self) -> list[FinishedRun]:
        return [FinishedRun(id, scope) for id, scope, _ in self._runs]

    def report(self, audit: str, kind: str) -> str:
        assert kind == "json"
        return json.dumps({"findings": next(findings for id, _, findings in self._runs if id == audit)})


class Context:
    """Runs steps immediately and records invocations."""

    def __init__(self, fails: bool = False, **answer: Any) -> None:
        self.invoked: list[dict[str, Any]] = []
        self._fails = fails
        reason = {"code": "", "reason": "", "remedy": ""}
        self._answer = {"status": "onboarded", "changes": [], "proofs": [], "incomplete": []} | reason | answer

    def step(self, work: Any, name: str, config: Any) -> Any:
        assert name
        assert config.retry_strategy
        return work(None)

    def invoke(self, function: str, payload: dict[str, Any], name: str) -> dict[str, Any]:
        assert (function, name) == ("onboard", f"onboard {payload['database']}")
        self.invoked.append(payload)
        if self._fails:
            raise InvokeError("it broke")
        return {"database": payload["database"]} | self._answer


STORE: Any = Store(
    ("3", "some", [finding("a", "missing-user", ORDERS, onboarding(1, ORDERS))]),
    ("2", "all", [
        finding("a", "missing-user", ORDERS, onboarding(1, ORDERS)),
        finding("b", "privileges-differ", ORDERS, onboarding(1, ORDERS), (2, "sql", "GRANT x")),
        finding("c", "user-without-iam", CARTS, (1, "sql", "GRANT"), (2, "access", "- match"), onboarding(2, CARTS)),
        finding("d", "iam-authentication-off", CARTS, (1, "cli", "aws rds modify-db-instance")),
        finding("e", "wildcard-connect-policy", None, (1, "cli", "aws iam detach-role-policy")),
        finding("f", "undeclared-user", ORDERS, (1, "cli", f"rdsiam onboard {CARTS}")),
    ]),
    ("1", "all", [finding("old", "missing-user", ORDERS, onboarding(1, ORDERS))]),
)  # fmt: skip


def remediate(
    context: Any, ids: list[str], plan: bool = False, confirm: bool = False, results: Results | None = None
) -> Any:
    return remediate_with(context, RemediationServices(STORE, results or Results(), "onboard"), ids, plan, confirm)


def statuses(answer: dict[str, Any]) -> dict[str, str]:
    return {outcome["finding"]: outcome["status"] for outcome in answer["remediated"]}


def test_findings_of_one_database_are_remediated_by_one_onboarding():
    context: Any = Context()
    answer = remediate(context, ["b", "a", "d"], plan=True, confirm=False)
    assert statuses(answer) == {"a": "onboarded", "b": "onboarded", "d": "onboarded"}
    assert context.invoked == [
        {"database": CARTS, "plan": True, "beyond_limit": False},
        {"database": ORDERS, "plan": True, "beyond_limit": False},
    ]


@pytest.mark.parametrize("id", ["c", "e", "f"])
def test_findings_that_need_a_decision_are_ignored(id):
    context: Any = Context()
    answer = remediate(context, [id], plan=False, confirm=True)
    assert statuses(answer) == {id: "ignored"}
    assert context.invoked == []


def test_a_finding_of_an_older_audit_is_unknown():
    context: Any = Context()
    assert statuses(remediate(context, ["old", "zzz"], False, False)) == {
        "old": "unknown",
        "zzz": "unknown",
    }
    assert context.invoked == []


def test_a_failed_onboarding_is_the_outcome_of_its_findings():
    context: Any = Context(fails=True)
    answer = remediate(context, ["a"], False, False)
    assert statuses(answer) == {"a": "failed"}
    assert "it broke" in answer["remediated"][0]["reason"]
    assert "run this again" in answer["remediated"][0]["remedy"]


def test_an_outcome_has_code_remedy_and_missing_parts_of_the_onboarding():
    refused: Any = Context(status="refused", code="role-not-managed", reason="role x is not tagged", remedy="tag it")
    (outcome,) = remediate(refused, ["a"], False, False)["remediated"]
    assert (outcome["status"], outcome["code"]) == ("refused", "role-not-managed")
    assert (outcome["reason"], outcome["remedy"]) == ("role x is not tagged", "tag it")
    part = {"what": ORDERS, "reason": "role x is not tagged", "remedy": "tag it", "retry": False}
    change = {"kind": "grant", "target": "app", "statement": "GRANT x", "reversible": True}
    partial: Any = Context(status="incomplete", changes=[change], incomplete=[part])
    (outcome,) = remediate(partial, ["a"], False, False)["remediated"]
    assert (outcome["changes"], outcome["incomplete"]) == ([change], [part])


@pytest.mark.parametrize("id", ["zzz", "e"], ids=["unknown", "ignored"])
def test_a_finding_that_is_not_remediated_has_a_remedy(id):
    context: Any = Context()
    (outcome,) = remediate(context, [id], False, False)["remediated"]
    assert outcome["reason"]
    assert outcome["remedy"]


def test_outcomes_share_the_room_of_one_answer_and_say_where_all_changes_are():
    changes = [{"kind": "grant", "target": "app", "statement": f"GRANT {n}", "reversible": True} for n in range(2_000)]
    results = Results()
    parts: dict[str, Any] = {
        "changes": changes[:10],
        "changes_total": 2_000,
        "changes_at": results.put("changes", json.dumps(changes)),
    }
    answer = remediate(Context(**parts), ["a", "b"], results=results)
    assert len(json.dumps(answer)) < 110_000
    for outcome in answer["remediated"]:
        assert outcome["changes"] == changes[: len(outcome["changes"])]
        assert len(outcome["changes"]) > 10
        assert outcome["changes_total"] == 2_000
        assert json.loads(results.get(outcome["changes_at"])) == changes
