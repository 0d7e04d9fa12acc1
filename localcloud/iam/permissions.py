"""Judges every AWS call by its caller's policies, refuses in AWS's words, and records the statements that decided."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

from localcloud.core.sigv4 import Credential
from localcloud.core.web import Request
from localcloud.iam.calls import Need, Place, UnknownCall, needs
from localcloud.iam.calls_dynamodb import dynamodb_needs
from localcloud.iam.calls_rds import rds_needs
from localcloud.iam.calls_rest import (
    ArnOfExecution,
    PolicyOfFunction,
    lambda_needs,
    metrics_needs,
    s3_needs,
    securityhub_needs,
)
from localcloud.iam.judge import Decision
from localcloud.iam.principals import Principals

logger = logging.getLogger(__name__)

_SESSION = "session"
_BOUNDARY = "boundary"
_WORDS = {
    "identity": "an identity-based policy",
    "resource": "a resource-based policy",
    _SESSION: "a session policy",
    _BOUNDARY: "a permissions boundary",
}


class CallDenied(Exception):
    """A call that the caller's policies don't allow; the message is AWS's."""


class Permissions:
    """Decides on calls of callers and on invocations by AWS's own services.

    :param principals: joins the judge with the policies.
    :param policy_of: returns the resource policy of a function, version or alias.
    :param execution_arn: returns the ARN of a durable execution by its local name.
    :param record: file that gets a line of JSON when a statement first decides a call of an action.
    """

    def __init__(
        self,
        principals: Principals,
        place: Place,
        policy_of: PolicyOfFunction,
        execution_arn: ArnOfExecution,
        record: Path,
    ) -> None:
        self._principals = principals
        self._place = place
        self._policy_of = policy_of
        self._execution_arn = execution_arn
        self._record = record
        self._seen: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()
        record.touch()

    def check(self, caller: Credential, service: str, request: Request) -> None:
        """Check that `caller` may make this call.

        :raises CallDenied: one of the call's needs is not allowed, or the call is unknown.
        """
        try:
            needs_of_call = self._needs(service, request)
        except (UnknownCall, KeyError, TypeError, ValueError) as unknown:
            logger.info("call refused: %s is not in localcloud/iam/actions.toml", unknown)
            raise CallDenied(
                f"User: {caller.principal_arn} is not authorized: localcloud does not know what {unknown} needs"
            ) from None
        for need in needs_of_call:
            self.check_need(caller, need)

    def check_need(self, caller: Credential, need: Need) -> None:
        """Check one permission.

        :raises CallDenied: it is not allowed.
        """
        decision = self._principals.decide(
            caller,
            need.action,
            need.resource,
            self._place.account,
            context=need.context,
            resource_policy=need.resource_policy,
        )
        self._remember(caller.role_arn or caller.principal_arn, need, decision)
        if not decision.allowed:
            message = f"User: {caller.principal_arn} is not authorized to perform: {need.action}"
            message += f" on resource: {need.resource}{_reason(caller, need, decision)}"
            logger.info("call denied: %s", message)
            raise CallDenied(message)

    def may_connect(self, caller: Credential, action: str, resource: str, account: str) -> bool:
        """Tell whether `caller` may log in to a database; `token_verifier.TokenVerifier` asks this."""
        decision = self._principals.decide(caller, action, resource, account)
        self._remember(caller.role_arn or caller.principal_arn, Need(action, resource), decision)
        return decision.allowed

    def check_service(self, service: str, function: str, source: str) -> None:
        """Check that an AWS service may invoke a function because of `source`, as the function's resource policy says.

        :param service: for example `events.amazonaws.com`.
        :raises CallDenied: it may not.
        """
        policy = self._policy_of(function)
        context = {"aws:SourceArn": source, "aws:SourceAccount": self._place.account}
        decision = self._principals.decide_for_service(
            service, "lambda:InvokeFunction", function, self._place.account, context, policy
        )
        self._remember(service, Need("lambda:InvokeFunction", function, context, policy), decision)
        if not decision.allowed:
            raise CallDenied(f"{service} may not invoke {function} because of {source}: its resource policy says so")

    def _needs(self, service: str, request: Request) -> list[Need]:
        if service == "s3":
            return s3_needs(request, self._place)
        if service == "lambda":
            return lambda_needs(request, self._place, self._policy_of, self._execution_arn)
        if service == "dynamodb":
            return dynamodb_needs(request, self._place)
        if service == "rds":
            return rds_needs(request, self._place)
        if service == "securityhub":
            return securityhub_needs(request, self._place)
        if service == "monitoring":
            return metrics_needs(request)
        return needs(service, request, self._place)

    def _remember(self, principal: str, need: Need, decision: Decision) -> None:
        """Record the statements that decided, so that a test finds the statements that no call needs."""
        for statement in decision.statements:
            kind, _, name = statement.partition(":")
            if kind == "resource" and need.resource_policy is not None:
                name = f"{need.resource_policy.name}#{name.rpartition('#')[2]}"
            with self._lock:
                if (principal, f"{kind}:{name}", need.action) in self._seen:
                    continue
                self._seen.add((principal, f"{kind}:{name}", need.action))
                entry = {"principal": principal, "statement": f"{kind}:{name}", "result": decision.result}
                with self._record.open("a") as file:
                    file.write(json.dumps(entry | {"action": need.action, "resource": need.resource}) + "\n")


def _reason(caller: Credential, need: Need, decision: Decision) -> str:
    if need.action == "sts:AssumeRole":
        return ""  # AWS doesn't say here whether the trust policy or the caller's is at fault
    kinds = [statement.partition(":")[0] for statement in decision.statements]
    if decision.result == "ExplicitlyDenied" and kinds:
        return f" with an explicit deny in {_WORDS[kinds[0]]}"
    missing = "identity-based policy"
    if kinds and _SESSION not in kinds and caller.session_policy:
        missing = "session policy"
    elif kinds and _BOUNDARY not in kinds and need.resource_policy is None:
        missing = "permissions boundary"
    return f" because no {missing} allows the {need.action} action"
