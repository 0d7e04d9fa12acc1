"""Where moto does otherwise than AWS, and what it does instead: every patch of moto stands here, or in `rds/patch_…`.

Patches change moto's classes for the whole process, so `close_gaps` is called once, before anything is served.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from moto import settings as moto_settings
from moto.core.config import default_user_config
from moto.core.responses import ActionResult
from moto.events import models as events_models
from moto.events import responses as events_responses
from moto.events import utils as events_utils
from moto.iam import models as iam_models
from moto.iam import responses as iam_responses
from moto.iam.access_control import PermissionResult
from moto.iam.models import iam_backends
from moto.kms.models import KmsBackend
from moto.s3 import utils as s3_utils
from moto.s3.models import FakeBucket
from moto.sts import models as sts_models
from moto.sts import responses as sts_responses
from moto.sts.exceptions import STSClientError, STSValidationError

from localcloud.databases.rds.fleet import Fleet
from localcloud.moto_patches import securityhub
from localcloud.moto_patches.rds import clusters as patch_clusters
from localcloud.moto_patches.rds import copies as patch_copies
from localcloud.moto_patches.rds import instances as patch_instances
from localcloud.moto_patches.rds import parameters as patch_parameters
from localcloud.moto_patches.rds import proxies as patch_proxies

logger = logging.getLogger(__name__)

_ONE_HOUR = 3600
_PAGE = 100  # what AWS puts into an answer of IAM


#: Takes the ARN of a Lambda function, that of the rule that calls it, and an event for it; returns at once.
Deliver = Callable[[str, str, dict[str, Any]], None]


def close_gaps(fleet: Fleet, deliver: Deliver) -> None:
    """Patch moto. Call once in a process, before its first request."""
    # AWS has its managed policies in every account; moto leaves them out. It would also start containers.
    default_user_config["iam"]["load_aws_managed_policies"] = True
    default_user_config["lambda"]["use_docker"] = False
    os.environ["VALIDATE_LAMBDA_S3"] = "false"  # code is run from where it lies, not from a bucket
    os.environ["MOTO_RDS_SNAPSHOT_LIMIT"] = "1000000"  # moto counts automated ones, RDS does not
    # The judge reads the bucket from the path: a host name must not tell moto another one.
    moto_settings.S3_IGNORE_SUBDOMAIN_BUCKETNAME = s3_utils.S3_IGNORE_SUBDOMAIN_BUCKETNAME = True
    for patches in (patch_instances, patch_clusters, patch_copies, patch_proxies, patch_parameters):
        patches.close(fleet)
    _close_events(deliver)
    _close_sts()
    _close_iam()
    _close_kms()
    securityhub.close()
    # AWS: bucket policies are judged with their conditions. moto: ignores conditions, so that every Deny denies all.
    FakeBucket.get_permission = lambda *_: PermissionResult.NEUTRAL


def _close_events(deliver: Deliver) -> None:
    send = events_models.Rule.send_to_targets

    def send_to_targets(rule: Any, event: Any, transform_input: bool = True) -> None:
        # AWS: disabled rules do nothing. moto: ignores the state.
        if rule.state != "ENABLED":
            return
        # AWS: a rule that has a schedule alone sends an event of its own by the clock. moto: never does, and to it no
        # pattern is one that all events match. Here: the rule sends the event of `fire_schedule`.
        if rule.event_pattern.dump() is None:
            if event["detail-type"] != "Scheduled Event" or rule.arn not in event["resources"]:
                return
        elif not rule.event_pattern.matches_event(event):
            return
        functions = [target for target in rule.targets if target["Arn"].startswith("arn:aws:lambda:")]
        for target in functions:
            # AWS: Lambda functions are targets. moto: NotImplementedError.
            # AWS: what a target has for Input goes in place of the event. moto: only to some kinds of targets.
            deliver(target["Arn"], rule.arn, json.loads(target["Input"]) if "Input" in target else _as_sent(event))
        if len(functions) < len(rule.targets):
            others = copy.copy(rule)
            others.targets = [target for target in rule.targets if target not in functions]
            send(others, event, transform_input)

    events_models.Rule.send_to_targets = send_to_targets

    def put_events(self: Any) -> str:
        # AWS: nobody but AWS sends events of a source that begins with "aws.", as is said of each entry. moto: anybody.
        # AWS's own events (`rds/events.py`, S3's, `fire_schedule`) don't pass here.
        entries: list[dict[str, Any]] = self._get_param("Entries")
        answers = iter(self.events_backend.put_events([entry for entry in entries if not _is_of_aws(entry)]))
        answered = [_NOT_AUTHORIZED if _is_of_aws(entry) else next(answers) for entry in entries]
        failed = sum("ErrorCode" in answer for answer in answered)
        return json.dumps({"FailedEntryCount": failed, "Entries": answered})

    events_responses.EventsHandler.put_events = put_events


#: What PutEvents says of an entry whose source is AWS's; see aws-samples/serverless-patterns#3089.
_NOT_AUTHORIZED = {
    "ErrorCode": "NotAuthorizedForSourceException",
    "ErrorMessage": "Not authorized for the source.",
}


def _is_of_aws(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("Source") or "").startswith("aws.")


def fire_schedule(account: str, region: str, rule: str) -> None:
    """Send the event of a scheduled rule now, as EventBridge does by the clock.

    :param rule: the rule's name.
    :raises LookupError: no rule of that name has a schedule.
    """
    backend = events_models.events_backends[account][region]
    found = backend.event_buses["default"].rules.get(rule)
    if found is None or not found.scheduled_expression:
        raise LookupError(f"no rule {rule} has a schedule")
    event = {"Source": "aws.events", "DetailType": "Scheduled Event", "Resources": [found.arn], "Detail": "{}"}
    backend.put_events([event])


def _as_sent(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as EventBridge sends it: moto's has the time as a number and a key of its own."""
    sent = copy.deepcopy(dict(event))
    sent.pop("ingestion-time", None)
    # AWS: each event has an id of its own. moto: all events of S3 have the same.
    if sent["id"] == events_utils._BASE_EVENT_MESSAGE["id"]:
        sent["id"] = str(uuid.uuid4())
    if isinstance(sent.get("time"), int | float):
        sent["time"] = datetime.fromtimestamp(sent["time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return sent


def _close_sts() -> None:
    def assume_role(self: Any) -> ActionResult:
        role_arn, duration = self._get_param("RoleArn"), self._get_int_param("DurationSeconds", _ONE_HOUR)
        caller = self.backend.get_caller_identity(self.get_access_key(), self.region)[1]
        role = _role(role_arn)
        if role is None:
            # AWS: a role that doesn't exist and one that doesn't trust are refused alike. moto: makes one up.
            raise STSClientError(
                "AccessDenied", f"User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
            )
        _check_duration(duration, role, chained=":assumed-role/" in caller)
        session = self.backend.assume_role(
            region_name=self.region,
            role_session_name=self._get_param("RoleSessionName"),
            role_arn=role_arn,
            policy=self._get_param("Policy"),
            duration=duration,
            external_id=self._get_param("ExternalId"),
        )
        # AWS: the source identity and the tags stay with the session. moto: drops them.
        session.source_identity = self._get_param("SourceIdentity")
        session.tags = self.params.get("Tags") or []
        answer = {
            "Credentials": session,
            "AssumedRoleUser": {"AssumedRoleId": session.user_id, "Arn": session.arn},
            "PackedPolicySize": 6,
        }
        if session.source_identity:
            answer["SourceIdentity"] = session.source_identity
        return ActionResult(answer)

    sts_responses.TokenResponse.assume_role = assume_role


def _close_iam() -> None:
    # AWS: an inline policy is text however it came. moto: keeps what CloudFormation gives it, and fails on it later.
    for holder in (iam_models.Role, iam_models.User, iam_models.Group):
        holder.put_policy = _put_policy

    def get_account_authorization_details(self: Any) -> ActionResult:
        found = self.backend.get_account_authorization_details(self._get_param("Filter", []))
        lists = {"UserDetailList": "users", "GroupDetailList": "groups", "RoleDetailList": "roles",
                 "Policies": "managed_policies"}  # fmt: skip
        # AWS: its own policies as far as they are attached to anybody, in pages, of all kinds together. moto: all of
        # its thousand, in one answer.
        of_aws = {id(policy) for policy in self.backend.aws_managed_policies if not policy.attachment_count}
        everything = [(name, each) for name, key in lists.items() for each in found[key] if id(each) not in of_aws]
        start, size = int(self._get_param("Marker", 0)), int(self._get_param("MaxItems", _PAGE))
        page, more = everything[start : start + size], start + size < len(everything)
        answer: dict[str, Any] = {name: [each for kind, each in page if kind == name] for name in lists}
        return ActionResult(answer | {"IsTruncated": more} | ({"Marker": str(start + size)} if more else {}))

    iam_responses.IamResponse.get_account_authorization_details = get_account_authorization_details


def _close_kms() -> None:
    # AWS: a key's policy is text however it came. moto: keeps what CloudFormation gives it.
    create = KmsBackend.create_key

    def create_key(self: Any, policy: Any, *arguments: Any, **named: Any) -> Any:
        return create(self, json.dumps(policy) if isinstance(policy, dict) else policy, *arguments, **named)

    KmsBackend.create_key = create_key


def _put_policy(holder: Any, name: str, document: Any) -> None:
    holder.policies[name] = document if isinstance(document, str) else json.dumps(document)


def _role(arn: str) -> Any | None:
    for account in list(iam_backends):
        for role in list(iam_backends[account]["aws"].roles.values()):
            if role.arn == arn:
                return role
    return None


def _check_duration(duration: int, role: Any, *, chained: bool) -> None:
    # AWS: up to what the role allows, and an hour for a session that assumes another role. moto: anything.
    largest = int(role.max_session_duration or _ONE_HOUR)
    if not 900 <= duration <= 43_200:
        raise STSValidationError(
            f"1 validation error detected: Value '{duration}' at 'durationSeconds' is not in range"
        )
    if chained and duration > _ONE_HOUR:
        raise STSValidationError(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        )
    if duration > largest:
        raise STSValidationError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")


# Models hold what these patches add under names of their own, so that moto never meets them.
sts_models.AssumedRole.source_identity = None
