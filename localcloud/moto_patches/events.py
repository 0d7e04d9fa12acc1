"""Patches of moto's EventBridge, and schedules that are due now."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from moto.events import utils as events_utils
from moto.events.models import events_backends

from localcloud.moto_patches.patch import Patch, replaces

#: Takes the ARN of a Lambda function, that of the rule that calls it, and an event for it; returns at once.
Deliver = Callable[[str, str, dict[str, Any]], None]

#: The entry in the answer of PutEvents if a source is AWS's; see aws-samples/serverless-patterns#3089.
_NOT_AUTHORIZED = {
    "ErrorCode": "NotAuthorizedForSourceException",
    "ErrorMessage": "Not authorized for the source.",
}


class Rules(Patch):
    """Rules, which deliver events to Lambda functions."""

    target = "moto.events.models.Rule"

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver

    @replaces
    def send_to_targets(self, original: Any, rule: Any, event: Any, transform_input: bool = True) -> None:
        """Send an event to the targets of a rule if the rule matches it."""
        # AWS: disabled rules do nothing. moto: ignores the state.
        if rule.state != "ENABLED":
            return
        # AWS: a rule with only a schedule sends an event of its own by the clock. moto: never does, and takes a rule
        # without a pattern as matching every event. Here: the rule sends the event of `fire_schedule`.
        if rule.event_pattern.dump() is None:
            if event["detail-type"] != "Scheduled Event" or rule.arn not in event["resources"]:
                return
        elif not rule.event_pattern.matches_event(event):
            return
        functions = [target for target in rule.targets if target["Arn"].startswith("arn:aws:lambda:")]
        for target in functions:
            # On AWS a Lambda function can be a target; moto knows no such target.
            # AWS: a target's Input replaces the event. moto: only for some kinds of targets.
            sent = json.loads(target["Input"]) if "Input" in target else _as_sent(event)
            self._deliver(target["Arn"], rule.arn, sent)
        if len(functions) < len(rule.targets):
            others = copy.copy(rule)
            others.targets = [target for target in rule.targets if target not in functions]
            original(others, event, transform_input)


class PuttingEvents(Patch):
    """The call PutEvents."""

    target = "moto.events.responses.EventsHandler"

    @replaces
    def put_events(self, _: Any, handler: Any) -> str:
        """Take events from callers.

        AWS: only AWS sends events whose source begins with "aws."; the answer says so for each entry. moto: takes them
        from anybody. AWS's own events (of RDS, of S3, of `fire_schedule`) don't pass here.
        """
        entries: list[dict[str, Any]] = handler._get_param("Entries")
        answers = iter(handler.events_backend.put_events([entry for entry in entries if not _is_of_aws(entry)]))
        answered = [_NOT_AUTHORIZED if _is_of_aws(entry) else next(answers) for entry in entries]
        failed = sum("ErrorCode" in answer for answer in answered)
        return json.dumps({"FailedEntryCount": failed, "Entries": answered})


def fire_schedule(account: str, region: str, rule: str) -> None:
    """Send the event of a scheduled rule now, as EventBridge does by the clock.

    :param rule: the rule's name.
    :raises LookupError: no rule of that name has a schedule.
    """
    backend = events_backends[account][region]
    scheduled = backend.event_buses["default"].rules.get(rule)
    if scheduled is None or not scheduled.scheduled_expression:
        raise LookupError(f"no rule {rule} has a schedule")
    event = {"Source": "aws.events", "DetailType": "Scheduled Event", "Resources": [scheduled.arn], "Detail": "{}"}
    backend.put_events([event])


def send_as_rds(account: str, region: str, event: Mapping[str, Any]) -> None:
    """Send an event of RDS about something that localcloud doesn't model, such as a blue/green deployment.

    :param event: with `detail-type`, `resources` and `detail`.
    :raises LookupError: it has other fields.
    """
    if event.keys() != {"detail-type", "resources", "detail"}:
        raise LookupError("an event of RDS has detail-type, resources and detail")
    entry = {
        "Source": "aws.rds",
        "DetailType": event["detail-type"],
        "Resources": event["resources"],
        "Detail": json.dumps(event["detail"]),
    }
    events_backends[account][region].put_events([entry])


def _is_of_aws(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("Source") or "").startswith("aws.")


def _as_sent(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event as EventBridge sends it: moto's has the time as a number and a key of its own."""
    sent = copy.deepcopy(dict(event))
    sent.pop("ingestion-time", None)
    # AWS: each event has an id of its own. moto: all events of S3 have the same.
    if sent["id"] == events_utils._BASE_EVENT_MESSAGE["id"]:
        sent["id"] = str(uuid.uuid4())
    if isinstance(sent.get("time"), int | float):
        sent["time"] = datetime.fromtimestamp(sent["time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return sent
