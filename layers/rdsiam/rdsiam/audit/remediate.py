"""Remediation by onboarding, with its guard against lock-outs and its change limit.

A finding can be remediated so if one of the ways in its remediation is `rdsiam onboard` alone: access.yaml declares the
state, and onboarding establishes it. All other findings need a decision by people.
"""

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.exceptions import InvokeError

from rdsiam.audit.store import AuditStore
from rdsiam.core.changes import Change, MissingPart, Reason, changes_from_json, parts_from_json
from rdsiam.core.durable import Steps
from rdsiam.core.large_answers import LARGEST_LIST, LargeResults, cut, long_lists, store_long_lists, whole

logger = logging.getLogger(__name__)

#: Kinds whose remediation names a command of AWS, and that onboarding remediates if users are declared.
_BY_ONBOARDING_TOO = frozenset({"iam-authentication-off"})
_LONGEST_REASON = 500
_RETRY = "see the log of OnboardFunction for the cause, then run this again"


@dataclass(frozen=True)
class KnownFinding:
    """A finding that is open in the last audit.

    :ivar by_onboarding: onboarding the database remediates it.
    """

    kind: str
    database: str | None
    by_onboarding: bool


@dataclass(frozen=True)
class KnownFindings:
    """The requested findings that are open, by id."""

    by_id: Mapping[str, KnownFinding]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {id: asdict(finding) for id, finding in self.by_id.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "KnownFindings":
        """Return the findings from which `to_json` made this JSON."""
        return cls({id: KnownFinding(**finding) for id, finding in data.items()})


@dataclass(frozen=True)
class Outcome:
    """The outcome for one finding.

    :ivar status: OnboardFunction's; `unknown` if no finding of that id is open, `ignored` if it needs a decision by
        people, `failed` if onboarding ended with an error.
    :ivar reason: OnboardFunction's, with its code and remedy.
    :ivar changes: OnboardFunction's.
    :ivar incomplete: OnboardFunction's: the parts that were not done.
    """

    finding: str
    kind: str | None
    database: str | None
    status: str
    reason: Reason
    changes: tuple[Change, ...] = ()
    incomplete: tuple[MissingPart, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return an element of `remediated` in AuditFunction's answer."""
        return {
            "finding": self.finding,
            "kind": self.kind,
            "database": self.database,
            "status": self.status,
            "code": self.reason.code,
            "reason": self.reason.problem,
            "remedy": self.reason.remedy,
            "changes": [change.to_json() for change in self.changes],
            "incomplete": [part.to_json() for part in self.incomplete],
        }


@dataclass(frozen=True)
class _Onboarded:
    """The answer of OnboardFunction for one database, or its failure."""

    status: str
    reason: Reason
    changes: tuple[Change, ...] = ()
    incomplete: tuple[MissingPart, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any], results: LargeResults) -> "_Onboarded":
        """Read the answer as OnboardFunction gives it."""
        reason = Reason(data["reason"], data["remedy"], data["code"])
        changes = changes_from_json(whole(data, "changes", results))
        return cls(data["status"], reason, changes, parts_from_json(whole(data, "incomplete", results)))


@dataclass(frozen=True)
class RemediationServices:
    """The services that a remediation uses.

    :ivar results: results that neither a checkpoint nor an answer can hold.
    :ivar onboard_function: name of OnboardFunction with its alias.
    """

    store: AuditStore
    results: LargeResults
    onboard_function: str


def remediate(
    context: DurableContext, services: RemediationServices, ids: Sequence[str], plan: bool, confirm: bool
) -> dict[str, Any]:
    """Remediate findings of the last audit by onboarding their databases; return AuditFunction's answer.

    :param ids: of findings; the answer is sorted by them.
    :param plan: change nothing, and return the changes that would be made.
    :param confirm: go on if OnboardFunction's change limit needs confirmation. Gains that wait because attributes
        changed are not confirmed.
    """
    steps, results = Steps(context, services.results), services.results
    known = steps.run_typed("look up the findings", KnownFindings, lambda: look_up(services.store, ids)).by_id
    onboarded: dict[str, _Onboarded] = {}
    for arn in sorted({finding.database for finding in known.values() if finding.database and finding.by_onboarding}):
        payload = {"database": arn, "plan": plan, "beyond_limit": confirm}
        try:
            answer: dict[str, Any] = context.invoke(services.onboard_function, payload, name=f"onboard {arn}")
            onboarded[arn] = _Onboarded.from_json(answer, results)
        except InvokeError as error:
            logger.warning("onboarding %s failed: %s", arn, error, extra={"database": arn})
            onboarded[arn] = _Onboarded("failed", Reason(str(error)[:_LONGEST_REASON], _RETRY))
    outcomes = [_outcome(id, known.get(id), onboarded).to_json() for id in sorted(set(ids))]
    return {"plan": plan, "remediated": _within_limits(outcomes, steps, results)}


def _within_limits(outcomes: list[dict[str, Any]], steps: Steps, results: LargeResults) -> list[dict[str, Any]]:
    """Return outcomes whose lists share the room that the answer has for one list."""
    share = LARGEST_LIST // max(1, len(outcomes))
    if not any(long_lists(outcome, share) for outcome in outcomes):
        return outcomes
    addresses: list[dict[str, str]] = steps.run(
        "store the whole outcomes", lambda: [store_long_lists(outcome, results, share) for outcome in outcomes]
    )
    return [cut(outcome, stored, share) for outcome, stored in zip(outcomes, addresses, strict=True)]


def look_up(store: AuditStore, ids: Sequence[str]) -> KnownFindings:
    """Return those findings that are open in the last audit."""
    known: dict[str, KnownFinding] = {}
    runs = store.finished_runs()
    newest_whole = next((run for run in runs if run.scope == "all"), None)
    for run in runs:
        # A later audit of some databases is more recent for these than the last audit of all.
        if newest_whole is not None and run.id < newest_whole.id:
            break
        for finding in json.loads(store.report(run.id, "json"))["findings"]:
            if finding["id"] in ids and finding["id"] not in known:
                known[finding["id"]] = KnownFinding(finding["kind"], finding["database"], _by_onboarding(finding))
    return KnownFindings(known)


def _by_onboarding(finding: Mapping[str, Any]) -> bool:
    if finding["database"] is None:
        return False
    ways: dict[int, list[str]] = {}
    for step in finding["remediation"]:
        ways.setdefault(step["way"], []).append(step["text"] if step["language"] == "cli" else "")
    command = shlex.join(["rdsiam", "onboard", finding["database"]])
    return finding["kind"] in _BY_ONBOARDING_TOO or [command] in ways.values()


def _outcome(id: str, known: KnownFinding | None, onboarded: Mapping[str, _Onboarded]) -> Outcome:
    if known is None:
        reason = Reason("no finding of this id is open in the last audit", "run rdsiam audit, which lists the ids")
        return Outcome(id, None, None, "unknown", reason)
    if known.database is None or not known.by_onboarding:
        reason = Reason("onboarding doesn't remediate this finding", "take the steps that the report has for people")
        return Outcome(id, known.kind, known.database, "ignored", reason)
    result = onboarded[known.database]
    return Outcome(id, known.kind, known.database, result.status, result.reason, result.changes, result.incomplete)
