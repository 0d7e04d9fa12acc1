"""Patches of moto's IAM."""

from __future__ import annotations

import json
from typing import Any

from moto.core.responses import ActionResult

from localcloud.moto_patches.patch import Patch, replaces

_PAGE = 100  # entries that AWS puts into an answer of IAM
_LISTS = {
    "UserDetailList": "users",
    "GroupDetailList": "groups",
    "RoleDetailList": "roles",
    "Policies": "managed_policies",
}


class InlinePolicies(Patch):
    """Inline policies of a role, a user or a group."""

    def __init__(self, target: str) -> None:
        self.target = target

    @replaces
    def put_policy(self, _: Any, holder: Any, name: str, document: Any) -> None:
        """Keep an inline policy.

        AWS: a policy is text, in whichever way it was given. moto: keeps what CloudFormation gives it, and fails later.
        """
        holder.policies[name] = document if isinstance(document, str) else json.dumps(document)


class AccountDetails(Patch):
    """The answer of GetAccountAuthorizationDetails."""

    target = "moto.iam.responses.IamResponse"

    @replaces
    def get_account_authorization_details(self, _: Any, response: Any) -> ActionResult:
        """Return one page of users, groups, roles and policies.

        AWS: its own policies only if they are attached, and pages over all kinds together. moto: all of AWS's thousand
        policies, in one answer.
        """
        backend = response.backend
        details = backend.get_account_authorization_details(response._get_param("Filter", []))
        unattached = {id(policy) for policy in backend.aws_managed_policies if not policy.attachment_count}
        entries = [
            (name, entry) for name, key in _LISTS.items() for entry in details[key] if id(entry) not in unattached
        ]
        start, size = int(response._get_param("Marker", 0)), int(response._get_param("MaxItems", _PAGE))
        page, truncated = entries[start : start + size], start + size < len(entries)
        answer: dict[str, Any] = {name: [entry for kind, entry in page if kind == name] for name in _LISTS}
        marker = {"Marker": str(start + size)} if truncated else {}
        return ActionResult(answer | {"IsTruncated": truncated} | marker)
