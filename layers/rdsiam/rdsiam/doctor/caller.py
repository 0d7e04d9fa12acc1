"""Checks of the caller: identity, policies, clock, credentials and region."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from fnmatch import translate
from re import match
from typing import Any
from urllib.parse import unquote

from rdsiam.access import reserved_roles
from rdsiam.core import times
from rdsiam.core.arn import Arn
from rdsiam.doctor.case import LoginCase, Verdict, fail, ok, unknown
from rdsiam.signer import LIFETIME
from rdsiam.tokens.endpoints import region_of

_MAX_SKEW = timedelta(minutes=1)
_OF_API = "the API signs for you: what your own role may sign does not matter"
_CONNECT = "rds-db:connect"


def identity(case: LoginCase) -> Verdict:
    """Check that the caller is of the database's account."""
    if case.served_by_api or not case.described:
        return ok(str(case.identity))
    if case.identity.account != case.database.account:
        fix = f"assume a role of account {case.database.account}: only its roles may log in there"
        return fail(f"{case.identity} is of another account", fix)
    return ok(str(case.identity))


def resource_id(case: LoginCase) -> Verdict:
    """Compare the policies of the caller's role with this database and user."""
    if case.served_by_api:
        return ok(_OF_API)
    if case.role is None:
        return unknown("you are no role: policies of users are not read", "see login")
    required = case.database.connect_arn(case.user)
    statements = list(_connect_statements(case, case.role))
    allowed = [statement.resource for statement in statements if statement.effect == "Allow"]
    denials = [each for each in statements if each.effect == "Deny" and covers(each.resource, required)]
    if any(not each.conditional for each in denials):
        return fail(f"a policy of {case.role} denies {required}", "take the user out of that statement")
    if denials:
        return unknown(f"a policy of {case.role} denies {required} on a condition", "see whether the condition applies")
    if any(covers(pattern, required) for pattern in allowed):
        return ok(f"a policy of {case.role} names {required}")
    others = [pattern for pattern in allowed if pattern.endswith((f"/{case.user}", "/*"))]
    # Roles of Identity Center are known by their names, so that reading policies is enough.
    role = str(Arn(case.identity.partition, "iam", "", case.identity.account, f"role/{case.role}"))
    fix = (
        reserved_roles.remedy(role, [required])
        if reserved_roles.is_reserved(role)
        else f"rdsiam onboard {case.owner}: it writes the policy for {required}"
    )
    if others:
        return fail(f"policies name another database: {', '.join(others[:3])}", fix)
    return fail(f"no policy of {case.role} names {required}", fix)


@dataclass(frozen=True)
class _Statement:
    """A statement about rds-db:connect and one of its resources."""

    effect: str
    resource: str
    conditional: bool


def _connect_statements(case: LoginCase, role: str) -> Iterator[_Statement]:
    """Yield the statements about rds-db:connect in a role's policies, for each resource."""
    for document in _policies(case.client("iam"), role):
        policy = json.loads(unquote(document)) if isinstance(document, str) else document
        for statement in _as_list(policy.get("Statement")):
            if any(covers(str(action).lower(), _CONNECT) for action in _as_list(statement.get("Action"))):
                for resource in _as_list(statement.get("Resource")):
                    yield _Statement(str(statement.get("Effect")), str(resource), bool(statement.get("Condition")))


def _policies(iam: Any, role: str) -> Iterator[Any]:
    """Yield the documents of a role's policies."""
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        yield iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = attached["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        yield iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]


def policy_decision(case: LoginCase) -> Verdict:
    """Ask IAM's simulator. It is unreliable for rds-db:connect, so a denial never counts as FAIL."""
    if case.served_by_api:
        return ok(_OF_API)
    if case.role is None:
        return unknown("only roles are simulated", "see login")
    answer = case.client("iam").simulate_principal_policy(
        PolicySourceArn=case.role_arn,
        ActionNames=["rds-db:connect"],
        ResourceArns=[case.database.connect_arn(case.user)],
    )
    decision = answer["EvaluationResults"][0]["EvalDecision"]
    if decision == "allowed":
        return ok("IAM's simulator allows it; the simulator knows no SCP and no session policy")
    fix = "look for an explicit deny, a permissions boundary, a session policy or an SCP"
    return unknown(f"IAM's simulator says {decision}, and may be wrong", fix)


def clock(case: LoginCase) -> Verdict:
    """Compare this machine's clock with AWS's."""
    date = case.caller_identity["ResponseMetadata"]["HTTPHeaders"].get("date")
    try:
        at = parsedate_to_datetime(str(date)).timestamp()
    except ValueError:
        return unknown("AWS's answer has no date", "timedatectl status")
    skew = abs(at - time.time())
    if skew > _MAX_SKEW.total_seconds():
        return fail(f"this machine is {skew:.0f} s off", "timedatectl set-ntp true")
    return ok(f"within {skew:.0f} s of AWS's")


def credentials(case: LoginCase) -> Verdict:
    """Check that the caller's credentials outlive a token."""
    if case.expiry is None and case.credentials.session_token is None:
        return ok("they are lasting keys, which don't expire")
    if case.expiry is None:
        detail = "they are temporary, and their end is not known: every token signed with them ends with them"
        return unknown(detail, "renew them if tokens are refused; a profile names the end, keys in variables don't")
    seconds = (case.expiry - datetime.now(UTC)).total_seconds()
    expiry = times.text(case.expiry)
    if seconds <= 0:
        return fail(f"they expired at {expiry}; signing still works, but the tokens don't", "aws sso login")
    if seconds < LIFETIME and not case.served_by_api:
        return fail(f"they expire at {expiry}, and every token signed with them at that time", "aws sso login")
    return ok(f"until {expiry}")


def region(case: LoginCase) -> Verdict:
    """Compare the caller's region with the database's."""
    if case.served_by_api:
        return ok(f"{case.region}; {_OF_API}")
    expected = region_of(case.endpoint[0]) or case.region_of_database
    if expected != case.region:
        return fail(f"yours is {case.region}, the database's is {expected}", f"export AWS_REGION={expected}")
    return ok(expected)


def covers(pattern: str, arn: str) -> bool:
    """Tell whether IAM's pattern with `*` and `?` covers the ARN."""
    return match(translate(pattern.replace("[", "[[]")), arn) is not None


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
