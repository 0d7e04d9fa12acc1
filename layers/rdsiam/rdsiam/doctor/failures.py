"""Calls of AWS that failed during a check: which action to grant, whether to wait, or to renew credentials."""

import re
from collections.abc import Mapping

from botocore.exceptions import BotoCoreError, ClientError

from rdsiam.doctor.case import Verdict, fail, unknown
from rdsiam.errors import RdsiamError

_DENIED = {
    "AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "NotAuthorized", "403",
}  # fmt: skip
_THROTTLED = {
    "LimitExceededException", "PriorRequestNotComplete", "ProvisionedThroughputExceededException",
    "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "SlowDown", "ThrottledException",
    "Throttling",
    "ThrottlingException", "TooManyRequestsException",
}  # fmt: skip
_INVALID = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "TokenRefreshRequired",
    "UnrecognizedClientException",
}  # fmt: skip
_SKEWED = {"RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "InvalidSignatureException"}
#: Service of every operation of the doctor, as IAM's actions name it.
_SERVICES: Mapping[str, tuple[str, ...]] = {
    "cloudformation": ("DescribeStacks",),
    "cloudwatch": ("GetMetricStatistics",),
    "dynamodb": ("GetItem",),
    "iam": (
        "GetPolicy", "GetPolicyVersion", "GetRole", "GetRolePolicy", "ListAttachedRolePolicies", "ListRolePolicies",
        "SimulatePrincipalPolicy",
    ),
    "rds": (
        "DescribeDBClusterEndpoints", "DescribeDBClusters", "DescribeDBEngineVersions", "DescribeDBInstances",
        "DescribeDBProxies", "DescribeDBProxyEndpoints", "DescribeDBProxyTargets",
        "DescribeOrderableDBInstanceOptions", "ListTagsForResource",
    ),
    "sts": ("GetCallerIdentity",),
}  # fmt: skip
_ACTIONS = {operation: f"{service}:{operation}" for service, names in _SERVICES.items() for operation in names}
#: An operation in an error of the command, which is no longer botocore's.
_OPERATION = re.compile("|".join(sorted(_ACTIONS, key=len, reverse=True)))
_NAMED = re.compile(r"not authorized to perform: ([a-z0-9-]{2,40}:[A-Za-z0-9]{2,80})\b")
_EXPLICITLY = re.compile(r"an explicit deny in an? [a-z -]{3,60}")
_RENEW = "renew your credentials, e.g. aws sso login"


def action(operation: str) -> str:
    """Return the action that permits an operation."""
    return _ACTIONS.get(operation, operation)


def of_aws(error: ClientError | BotoCoreError) -> Verdict:
    """Return the verdict of a check whose call of AWS failed: UNKNOWN, unless it shows that credentials don't work."""
    if not isinstance(error, ClientError):
        return unknown(f"AWS does not answer: {type(error).__name__}", "try again; see the way from here to AWS")
    code, name = str(error.response.get("Error", {}).get("Code")), action(str(error.operation_name))
    if code in _DENIED:
        return _denied(name, str(error.response.get("Error", {}).get("Message")))
    if code in _THROTTLED:
        return unknown(f"AWS throttles {name} ({code})", "try again in a minute")
    if code in _INVALID:
        return fail(f"AWS does not accept your credentials ({code})", _RENEW)
    if code in _SKEWED:
        return fail(f"AWS does not accept your signature ({code})", "see clock; or renew your credentials")
    return unknown(f"{name}: {code}", "try again")


def _denied(name: str, message: str) -> Verdict:
    """Return the verdict of a denied call.

    :param name: the action of the call; AWS's message may name another one, such as that of a key.
    """
    named = _NAMED.search(message)
    name = named[1] if named else name
    if match := _EXPLICITLY.search(message):
        return unknown(f"you may not call {name}", f"ask for a change of what denies {name}: {match[0]}")
    return unknown(f"you may not call {name}", f"grant {name} to the caller")


def of_rdsiam(error: RdsiamError) -> Verdict:
    """Return the verdict of a check that failed with an error of rdsiam."""
    operation = _OPERATION.search(error.problem)
    if error.code == "denied" and not error.remedy and operation is not None:
        return _denied(action(operation[0]), error.problem)
    return unknown(error.problem or str(error), error.remedy or "try again")
