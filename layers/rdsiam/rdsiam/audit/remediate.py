"""Mending findings by machine: those that onboarding mends, through onboarding, with its guard and its change limit.

A finding is safe to mend so if one of the ways that it prints is nothing but `rdsiam onboard`: access.yaml says what
is right, and onboarding makes it so. All others are people's to decide.
"""

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.exceptions import InvokeError

from rdsiam.audit.store import AuditStore
from rdsiam.core.durable import Steps

logger = logging.getLogger(__name__)

#: Onboarding switches it on where access.yaml declares users of the database.
_ONBOARDING_TOO = frozenset({"iam-authentication-off"})


def remediate(
    context: DurableContext, store: AuditStore, onboard_function: str, ids: Sequence[str], plan: bool, confirm: bool
) -> dict[str, Any]:
    """Mend findings of the last audit, or say what would be changed.

    :param ids: of findings.
    :param plan: change nothing.
    :param confirm: go on if OnboardFunction's change limit asks. What waits since attributes changed is not confirmed.
    :return: `{"plan", "remediated": [{"finding", "kind", "database", "status", "reason", "changes"}]}`, sorted by
        finding. Statuses are OnboardFunction's; `unknown` where no finding of that id is open, `failed` where
        onboarding ended with an error.
    """
    found: dict[str, Any] = Steps(context).run("look the findings up", lambda: look_up(store, ids))
    answers: dict[str, Any] = {}
    for arn in sorted({one["database"] for one in found.values() if one["onboarding"]}):
        payload = {"database": arn, "plan": plan, "beyond_limit": confirm}
        try:
            answers[arn] = context.invoke(onboard_function, payload, name=f"onboard {arn}")
        except InvokeError as error:
            logger.warning("onboarding %s failed: %s", arn, error)
            answers[arn] = {"status": "failed", "reason": str(error)[:500], "changes": []}
    return {"plan": plan, "remediated": [_outcome(one, found.get(one), answers) for one in sorted(set(ids))]}


def look_up(store: AuditStore, ids: Sequence[str]) -> dict[str, Any]:
    """Return what is known of each finding: `{"kind", "database", "onboarding": whether that mends it}`."""
    found: dict[str, Any] = {}
    newest_whole = next((run for run in store.finished_runs() if run.scope == "all"), None)
    for run in store.finished_runs():
        # A later audit of some databases knows them better than the last one of all.
        if newest_whole is not None and run.id < newest_whole.id:
            break
        for finding in json.loads(store.report(run.id, "json"))["findings"]:
            if finding["id"] in ids and finding["id"] not in found:
                found[finding["id"]] = {
                    "kind": finding["kind"],
                    "database": finding["database"],
                    "onboarding": finding["database"] is not None and _by_onboarding(finding),
                }
    return found


def _by_onboarding(finding: Mapping[str, Any]) -> bool:
    ways: dict[int, list[str]] = {}
    for step in finding["remediation"]:
        ways.setdefault(step["way"], []).append(step["text"] if step["language"] == "cli" else "")
    command = shlex.join(["rdsiam", "onboard", finding["database"]])
    return finding["kind"] in _ONBOARDING_TOO or [command] in ways.values()


def _outcome(finding: str, known: Mapping[str, Any] | None, answers: Mapping[str, Any]) -> dict[str, Any]:
    if known is None:
        outcome = {"status": "unknown", "reason": "no finding of this id is open in the last audit", "changes": []}
        return {"finding": finding, "kind": None, "database": None} | outcome
    about = {"finding": finding, "kind": known["kind"], "database": known["database"]}
    if not known["onboarding"]:
        reason = "no machine mends this kind of finding: the report says what people do about it"
        return about | {"status": "ignored", "reason": reason, "changes": []}
    answer = answers[known["database"]]
    return about | {name: answer[name] for name in ("status", "reason", "changes")}
