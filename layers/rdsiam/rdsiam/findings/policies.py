"""Kinds of findings about IAM policies that let somebody log in to databases."""

import json
from collections.abc import Mapping
from typing import Any

from rdsiam.aws.iam import HeldPolicy, Holder
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import FIXED, Case, Kind
from rdsiam.findings.remediation import command

_RDS = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/"
_POLICY = _RDS + "UsingWithRDS.IAMDBAuth.IAMPolicy.html"
_REFERENCE = "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonrdsiamauthentication.html"
_CONDITIONS = "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html"
_DENY_POLICY = "no-database-logins"
#: Roles of Identity Center: only a permission set changes them.
_IDENTITY_CENTER = "/aws-reserved/sso.amazonaws.com/"

EVIDENCE = {
    "holder_type": "`user`, `group` or `role`",
    "policy": "ARN of the managed policy, or name of the inline one",
    "statement": "its Sid, or its number, from 0",
    "boundary": "ARN of the holder's permissions boundary, which may forbid what the policy allows; it is not judged",
    "resources": "the resources that are meant",
}
_WHY = {"why": "what is wrong with them"}


def _correct_or_deny(case: Case) -> list[Remediation]:
    """Correct the policy or remove it; add a Deny if that would change more than logins."""
    change = case.policy_change
    assert change is not None
    if change.corrected is None or change.policy.of_aws:
        return _deny(change.holder, change.policy, change.deny)
    if change.policy.arn is None:
        return [_inline(change.holder, change.policy.name, change.corrected)]
    return _managed(change.holder, change.policy, change.corrected)


def _inline(holder: Holder, name: str, document: Mapping[str, Any]) -> Remediation:
    which = (f"--{holder.type}-name", holder.name, "--policy-name", name)
    if not document["Statement"]:
        return command("aws", "iam", f"delete-{holder.type}-policy", *which)
    return command("aws", "iam", f"put-{holder.type}-policy", *which, "--policy-document", _text(document))


def _managed(holder: Holder, policy: HeldPolicy, document: Mapping[str, Any]) -> list[Remediation]:
    arn = str(policy.arn)
    if not document["Statement"]:
        return [_detach(holder, arn)]
    room = ("aws", "iam", "delete-policy-version", "--policy-arn", arn, "--version-id", policy.oldest or "")
    make_room = [command(*room, note="A policy has five versions at most.")] if policy.oldest else []
    new = ("aws", "iam", "create-policy-version", "--policy-arn", arn, "--set-as-default", "--policy-document")
    return [*make_room, command(*new, _text(document), note="It changes for all that the policy is attached to.")]


def _detach(holder: Holder, arn: str, way: int = 1, note: str = "") -> Remediation:
    which = (f"--{holder.type}-name", holder.name, "--policy-arn", arn)
    return command("aws", "iam", f"detach-{holder.type}-policy", *which, way=way, note=note)


def _deny(holder: Holder, policy: HeldPolicy, document: Mapping[str, Any]) -> list[Remediation]:
    if holder.path.startswith(_IDENTITY_CENTER):
        text = f"Type: AWS::SSO::PermissionSet\nProperties:\n  InlinePolicy: {_text(document)}"
        note = "Nobody can change a role of Identity Center itself: add this to the permission set that makes it."
        return [Remediation("cloudformation", text, note=note)]
    which = (f"--{holder.type}-name", holder.name, "--policy-name", _DENY_POLICY)
    note = "It keeps all else that it may, and can log in to no database but as access.yaml says."
    put = ("aws", "iam", f"put-{holder.type}-policy", *which, "--policy-document", _text(document))
    result = [command(*put, note=note)]
    if policy.arn is not None:
        result.append(_detach(holder, policy.arn, way=2, note="It loses all else that the policy allows."))
    return result


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


POLICY_KINDS = (
    Kind(
        id="wildcard-connect-policy",
        title="{user} may log in to databases as any of many users",
        severity="high",
        moves="Critical where it may be anybody, rdsiam_manager too, and is no operator of access.yaml; else medium.",
        risk="Once IAM authentication is on, it logs in as any user that takes tokens, the administrators among them, "
        "and neither access.yaml nor any record of this service knows.",
        why="`rds-db:connect` is allowed on a wildcard: by name, or as a part of `*`, as in AdministratorAccess, or of "
        "all but a few, as in PowerUserAccess.",
        evidence=EVIDENCE
        | {
            "anybody": "the wildcard covers rdsiam_manager",
            "operator": "access.yaml names it as an operator",
            "condition": "keys of the statement's condition",
        },
        remedy=_correct_or_deny,
        references=(_POLICY, _REFERENCE),
        source="iam",
    ),
    Kind(
        id="condition-on-connect-policy",
        title="{user} logs in under a condition that RDS may not understand",
        severity="medium",
        moves="Low where nobody has shown that it fails.",
        risk="The login is refused without a word, or the condition protects from nothing.",
        why="RDS's guide says that aws:SourceIp, aws:SourceVpc, aws:SourceVpce, aws:UserAgent and aws:Referer are not "
        "supported here; aws:CurrentTime is reported to fail, aws:TokenIssueTime to work; of others nobody knows. "
        "Conditions belong into access.yaml, where rdsiam decides by them.",
        evidence=EVIDENCE | {"keys": "what the condition looks at", "verdict": "`never-matches` or `unproven`"},
        remedy=_correct_or_deny,
        references=(_RDS + "UsingWithRDS.IAMDBAuth.html", _CONDITIONS),
        source="iam",
    ),
    Kind(
        id="stale-resource-id",
        title="{user} may log in to a database that is gone",
        severity="low",
        moves=FIXED,
        risk="Logins that were meant for its successor are refused.",
        why="A database that is restored, copied or made anew has its own resource id; the policy names the old one.",
        evidence=EVIDENCE | _WHY,
        remedy=_correct_or_deny,
        references=(_POLICY,),
        source="iam",
    ),
    Kind(
        id="member-resource-id",
        title="{user} is allowed a cluster's member, where the cluster is needed",
        severity="medium",
        moves=FIXED,
        risk="Every login is refused, though the policy looks right.",
        why="Logins to Aurora and Multi-AZ clusters are judged by the cluster's id, `cluster-…`; the policy names a "
        "member's, `db-…`.",
        evidence=EVIDENCE | _WHY,
        remedy=_correct_or_deny,
        references=(_POLICY,),
        source="iam",
    ),
    Kind(
        id="wrong-connect-arn",
        title="{user} has a policy for logins that never matches",
        severity="medium",
        moves=FIXED,
        risk="Every login is refused, and somebody widens the policy until it works.",
        why="ARNs of databases (`rds:…:db:`) and of their users (`rds-db:…:dbuser:`) look alike; so do identifiers and "
        "resource ids. Another account's databases need a role over there.",
        evidence=EVIDENCE | _WHY,
        remedy=_correct_or_deny,
        references=(_POLICY, _REFERENCE),
        source="iam",
    ),
    Kind(
        id="undeclared-connect-grant",
        title="{user} may log in, and access.yaml doesn't know it",
        severity="high",
        moves=FIXED,
        risk="It logs in past access.yaml and past every record of this service: AWS records neither the signing of a "
        "token nor the login.",
        why="Somebody wrote the policy by hand, or its user was taken out of access.yaml. Users and groups of IAM "
        "can't be declared: only roles.",
        evidence=EVIDENCE | _WHY,
        remedy=_correct_or_deny,
        references=(_POLICY,),
        source="iam",
    ),
    Kind(
        id="user-name-case",
        title="{user} is allowed a user whose name is written otherwise",
        severity="medium",
        moves=FIXED,
        risk="Every login is refused, though policy and user look alike.",
        why="The user in the policy must be the database's in every letter: case counts.",
        evidence=EVIDENCE | _WHY,
        remedy=_correct_or_deny,
        references=(_POLICY, _RDS + "UsingWithRDS.IAMDBAuth.DBAccounts.html"),
        source="iam",
    ),
)
