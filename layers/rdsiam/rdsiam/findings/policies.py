"""Kinds of findings in IAM policies that allow logins to databases."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rdsiam.access.reserved_roles import IDENTITY_CENTER_PATH
from rdsiam.aws.iam import HeldPolicy, Holder
from rdsiam.findings.commands import aws
from rdsiam.findings.finding import Remediation, Severity
from rdsiam.findings.kind import FIXED, Case, Kind
from rdsiam.findings.references import ACCOUNTS, IAM, IAM_AUTHENTICATION, RDS
from rdsiam.findings.remediation import onboard, template

_POLICY = RDS + "UsingWithRDS.IAMDBAuth.IAMPolicy.html"
_REFERENCE = "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonrdsiamauthentication.html"
_CONDITIONS = IAM + "reference_policies_condition-keys.html"
_DENY_POLICY = "no-database-logins"
_BEFORE = "Logins that only this policy allows fail afterwards, and AWS records none: first declare those in use."

EVIDENCE = {
    "holder_type": "`user`, `group` or `role`",
    "policy": "ARN of the managed policy, or name of the inline policy",
    "statement": "Sid of the statement, or its number, from 0",
    "boundary": "ARN of the holder's permissions boundary, which may forbid what the policy allows; it isn't evaluated",
    "resources": "the resources with this problem",
}


def _correct_or_deny(case: Case) -> list[Remediation]:
    """Correct the policy or remove it; add a Deny if that would change more than logins."""
    change = case.policy_change
    assert change is not None
    if change.corrected is None or change.policy.of_aws:
        steps = _deny(change.holder, change.policy, change.deny)
    elif change.policy.arn is None:
        steps = [_inline(change.holder, change.policy.name, change.corrected)]
    else:
        steps = _managed(change.holder, change.policy, change.corrected)
    return [replace(steps[0], note=f"{_BEFORE} {steps[0].note}".strip()), *steps[1:]]


def _inline(holder: Holder, name: str, document: Mapping[str, Any]) -> Remediation:
    which = (f"--{holder.type}-name", holder.name, "--policy-name", name)
    if not document["Statement"]:
        return aws(None, "iam", f"delete-{holder.type}-policy", *which)
    return aws(None, "iam", f"put-{holder.type}-policy", *which, "--policy-document", _text(document))


def _managed(holder: Holder, policy: HeldPolicy, document: Mapping[str, Any]) -> list[Remediation]:
    arn = str(policy.arn)
    if not document["Statement"]:
        return [_detach(holder, arn)]
    room = ("iam", "delete-policy-version", "--policy-arn", arn, "--version-id", policy.oldest or "")
    make_room = [aws(None, *room, note="A policy has at most five versions.")] if policy.oldest else []
    new = ("iam", "create-policy-version", "--policy-arn", arn, "--set-as-default", "--policy-document")
    return [
        *make_room,
        aws(
            None, *new, _text(document), note="This changes all users, groups and roles that the policy is attached to."
        ),
    ]


def _detach(holder: Holder, arn: str, way: int = 1, note: str = "") -> Remediation:
    which = (f"--{holder.type}-name", holder.name, "--policy-arn", arn)
    return aws(None, "iam", f"detach-{holder.type}-policy", *which, way=way, note=note)


def _deny(holder: Holder, policy: HeldPolicy, document: Mapping[str, Any]) -> list[Remediation]:
    if holder.path.startswith(IDENTITY_CENTER_PATH):
        note = "A role of Identity Center can't be changed itself: add this to the permission set that creates it."
        return [template("AWS::SSO::PermissionSet", f"InlinePolicy: {_text(document)}", note=note)]
    which = (f"--{holder.type}-name", holder.name, "--policy-name", _DENY_POLICY)
    note = "All other permissions stay; logins are denied except those that access.yaml declares."
    put = ("iam", f"put-{holder.type}-policy", *which, "--policy-document", _text(document))
    result = [aws(None, *put, note=note)]
    if policy.arn is not None:
        result.append(_detach(holder, policy.arn, way=2, note="This also takes all other permissions of the policy."))
    return result


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _wrong_resource(
    kind: str, title: str, severity: Severity, *, risk: str, why: str, references: tuple[str, ...] = ()
) -> Kind:
    """Return a kind of findings about resources that are wrong in a policy, whatever its condition."""
    return Kind(
        id=kind,
        title=title,
        severity=severity,
        severity_rule=FIXED,
        risk=risk,
        why=why,
        evidence=EVIDENCE | {"why": "what is wrong with these resources"},
        remedy=_correct_or_deny,
        references=(_POLICY, *references),
        source="iam",
    )


POLICY_KINDS = (
    Kind(
        id="wildcard-connect-policy",
        title="{user} may log in to databases as any of many users",
        severity="high",
        severity_rule="Critical if the wildcard covers every user, rdsiam_manager included, and the holder is no "
        "operator; otherwise medium.",
        risk="On databases with IAM authentication the holder can log in as every user that accepts tokens, "
        "administrators included. Neither access.yaml nor any record of rdsiam shows that.",
        why="`rds-db:connect` is allowed on a wildcard: by name, as a part of `*` as in AdministratorAccess, or of all "
        "but a few actions as in PowerUserAccess.",
        evidence=EVIDENCE
        | {
            "anybody": "the wildcard covers rdsiam_manager",
            "operator": "the holder is an operator (the stack's parameter Operators)",
            "condition": "keys of the statement's condition",
        },
        remedy=_correct_or_deny,
        references=(_POLICY, _REFERENCE),
        source="iam",
    ),
    Kind(
        id="condition-on-connect-policy",
        title="{user} logs in under a condition that RDS may not support",
        severity="medium",
        severity_rule="Low if the condition is not known to fail.",
        risk="The login is refused without an explanation, or the condition protects nothing.",
        why="By RDS's guide aws:SourceIp, aws:SourceVpc, aws:SourceVpce, aws:UserAgent and aws:Referer are not "
        "supported here; aws:CurrentTime is reported to fail, aws:TokenIssueTime to work; others are unknown. Declare "
        "conditions in access.yaml, where rdsiam evaluates them.",
        evidence=EVIDENCE | {"keys": "keys of the condition", "verdict": "`never-matches` or `unproven`"},
        remedy=_correct_or_deny,
        references=(IAM_AUTHENTICATION, _CONDITIONS),
        source="iam",
    ),
    _wrong_resource(
        "stale-resource-id",
        "{user} may log in to a database that no longer exists",
        "low",
        risk="Logins to the database that replaced it are refused.",
        why="A database that is restored, copied or created again has its own resource id; the policy names the former "
        "one.",
    ),
    _wrong_resource(
        "member-resource-id",
        "{user} is allowed a cluster's member instead of the cluster",
        "medium",
        risk="Every login is refused, although the policy looks right.",
        why="Logins to Aurora and Multi-AZ clusters are checked by the cluster's id, `cluster-…`; the policy names the "
        "id of a member, `db-…`.",
    ),
    _wrong_resource(
        "wrong-connect-arn",
        "{user} has a policy for logins that never matches",
        "medium",
        risk="Every login is refused, and somebody widens the policy until it works.",
        why="ARNs of databases (`rds:…:db:`) and of their users (`rds-db:…:dbuser:`) look alike; so do identifiers and "
        "resource ids. Databases of another account need a role of that account.",
        references=(_REFERENCE,),
    ),
    _wrong_resource(
        "undeclared-connect-grant",
        "{user} may log in, and access.yaml doesn't declare it",
        "high",
        risk="The holder logs in without access.yaml and without any record of rdsiam: AWS records neither the "
        "signing of a token nor the login.",
        why="Somebody wrote the policy by hand, or its user was removed from access.yaml. Only roles can be declared, "
        "no users and groups of IAM.",
    ),
    Kind(
        id="connect-grant-missing",
        title="{user} lost its logins to {database}",
        severity="medium",
        severity_rule=FIXED,
        risk="These logins of the role are refused, although access.yaml gives them. If it is a shard of ConnectRole, "
        "the tokens of all their callers are refused.",
        why="Somebody detached, edited or deleted a policy under `/rdsiam/connect/` after onboarding had written it, "
        "or the role has no room. The daily audit starts an onboarding, which writes it again or names the cause.",
        evidence={
            "users": "the database users as which the role can no longer log in",
            "resources": "their ARNs, which no policy of the role allows without a condition",
        },
        remedy=lambda case: [onboard(case.on)],
        references=(_POLICY,),
        source="iam",
    ),
    _wrong_resource(
        "user-name-case",
        "{user} is allowed a user whose name differs in case",
        "medium",
        risk="Every login is refused, although policy and user look alike.",
        why="The user in the policy must equal the database's user in every letter: names are case-sensitive.",
        references=(ACCOUNTS,),
    ),
)
