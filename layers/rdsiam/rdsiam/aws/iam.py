"""Principals that may log in to databases, from IAM's list of users, groups, roles and policies."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from rdsiam.aws.iam_statements import allows, denies, statements
from rdsiam.errors import RdsiamError

#: Roles that AWS's services made for themselves: nobody here can change them.
_SERVICE_LINKED = "/aws-service-role/"
_MAX_VERSIONS = 5


class PolicyUnreadable(RdsiamError):
    """A policy's document is not JSON, so nobody can say what it allows."""

    code = "policy-unreadable"


@dataclass(frozen=True)
class HeldPolicy:
    """A policy that allows or denies `rds-db:connect`, as one holder has it.

    :ivar arn: of a managed policy; None of an inline one.
    :ivar oldest: id of the oldest version that is not the default one, if the policy has no room for another version.
    """

    name: str
    arn: str | None
    document: Mapping[str, Any]
    oldest: str | None = None

    @property
    def of_aws(self) -> bool:
        """AWS wrote it: it can be detached, not changed."""
        return self.arn is not None and self.arn.split(":")[4] == "aws"


@dataclass(frozen=True)
class Holder:
    """A user, group or role that some policy allows `rds-db:connect`.

    :ivar policies: only those that allow or deny it.
    :ivar boundary: ARN of the policy that bounds all that it may do.
    """

    arn: str
    type: Literal["user", "group", "role"]
    name: str
    path: str
    policies: tuple[HeldPolicy, ...]
    boundary: str | None = None


def holders(iam: Any) -> Iterator[Holder]:
    """Yield all holders, page by page; service-linked roles are left out.

    Only the managed policies that speak of `rds-db:connect` are kept meanwhile.

    :raises PolicyUnreadable: a document is no JSON.
    """
    managed = {policy.arn: policy for policy in _managed(iam)}
    for page in _pages(iam, ["User", "Group", "Role"]):
        for holder in page.get("UserDetailList", []):
            yield from _holder("user", holder, holder.get("UserPolicyList", []), managed)
        for holder in page.get("GroupDetailList", []):
            yield from _holder("group", holder, holder.get("GroupPolicyList", []), managed)
        for holder in page.get("RoleDetailList", []):
            if not holder.get("Path", "/").startswith(_SERVICE_LINKED):
                yield from _holder("role", holder, holder.get("RolePolicyList", []), managed)


def _managed(iam: Any) -> Iterator[HeldPolicy]:
    for page in _pages(iam, ["LocalManagedPolicy", "AWSManagedPolicy"]):
        for policy in page.get("Policies", []):
            versions = policy.get("PolicyVersionList", [])
            default = next((version for version in versions if version.get("IsDefaultVersion")), None)
            if default is None:
                continue
            name = policy["Arn"].rpartition("/")[2]
            document = _document(name, default["Document"])
            if _speaks(document):
                yield HeldPolicy(name, policy["Arn"], document, _oldest(versions))


def _oldest(versions: Sequence[Mapping[str, Any]]) -> str | None:
    if len(versions) < _MAX_VERSIONS:
        return None
    old = [version for version in versions if not version.get("IsDefaultVersion")]
    # Version ids count up: v1, v2, …
    return str(min(old, key=lambda version: int(version["VersionId"].lstrip("v")))["VersionId"])


def _holder(
    kind: Literal["user", "group", "role"],
    described: Mapping[str, Any],
    inline: Sequence[Mapping[str, Any]],
    managed: Mapping[str | None, HeldPolicy],
) -> Iterator[Holder]:
    own = [HeldPolicy(p["PolicyName"], None, _document(p["PolicyName"], p["PolicyDocument"])) for p in inline]
    attached = (managed.get(policy["PolicyArn"]) for policy in described.get("AttachedManagedPolicies", []))
    policies = [policy for policy in (*own, *attached) if policy is not None and _speaks(policy.document)]
    if any(allows(statement) for policy in policies for statement in statements(policy.document)):
        yield Holder(
            arn=described["Arn"],
            type=kind,
            name=described[f"{kind.capitalize()}Name"],
            path=described.get("Path", "/"),
            policies=tuple(sorted(policies, key=lambda policy: (policy.arn or "", policy.name))),
            boundary=(described.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn"),
        )


def _speaks(document: Mapping[str, Any]) -> bool:
    return any(allows(statement) or denies(statement) for statement in statements(document))


def _document(name: str, document: Mapping[str, Any] | str) -> Mapping[str, Any]:
    """Return a document, which boto3 hands out parsed and a plain client URL-encoded."""
    if not isinstance(document, str):
        return document
    try:
        text = document if document.lstrip().startswith("{") else unquote(document)
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, Mapping):
        raise PolicyUnreadable(f"policy {name} is no JSON object, so what it allows is unknown")
    return parsed


def _pages(iam: Any, types: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    yield from iam.get_paginator("get_account_authorization_details").paginate(Filter=list(types))
