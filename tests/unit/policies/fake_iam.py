"""IAM in memory, for tests with many calls: the calls that PolicyFunction makes, with AWS's quotas."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

START = datetime(2026, 1, 1, tzinfo=UTC)
CALLS = ("create", "attach", "detach", "delete", "get", "list")


class FakeIam:
    """Roles and managed policies of one account.

    :ivar per_role: policies that a role may have, the quota of the account.
    :ivar before: called before each call with its name; it may raise, or do what others do meanwhile.
    :ivar calls: number of calls so far.
    """

    def __init__(self, *roles: str, per_role: int = 10) -> None:
        self.per_role = per_role
        self.per_account = 1500
        self.before: Any = lambda _: None
        self.calls = 0
        self.roles: dict[str, list[str]] = {role: [] for role in roles}
        self.policies: dict[str, dict[str, Any]] = {}

    def allowed(self, role: str) -> set[str]:
        """Return the resources that a role's policies allow."""
        return {arn for policy in self.roles[role] for arn in resources(self.document(policy))}

    def document(self, arn: str) -> str:
        policy = self.policies[arn]
        return str(policy["versions"][policy["default"]][0])

    def __getattribute__(self, name: str) -> Any:
        if name.partition("_")[0] in CALLS:
            self.calls += 1
            self.before(name)
        return object.__getattribute__(self, name)

    def get_role(self, RoleName: str) -> Any:  # noqa: N803
        self._role(RoleName)
        tags = [{"Key": "rdsiam:managed", "Value": "true"}]
        return {"Role": {"Arn": f"arn:aws:iam::123456789012:role/{RoleName}", "Tags": tags}}

    def get_paginator(self, name: str) -> Any:
        assert name == "list_attached_role_policies"
        return self

    def paginate(self, RoleName: str) -> Iterator[Any]:  # noqa: N803
        yield {"AttachedPolicies": [{"PolicyArn": arn} for arn in self._role(RoleName)]}

    def get_policy(self, PolicyArn: str) -> Any:  # noqa: N803
        return {"Policy": {"DefaultVersionId": self._policy(PolicyArn)["default"]}}

    def get_policy_version(self, PolicyArn: str, VersionId: str) -> Any:  # noqa: N803
        return {"PolicyVersion": {"Document": json.loads(self._policy(PolicyArn)["versions"][VersionId][0])}}

    def list_policy_versions(self, PolicyArn: str) -> Any:  # noqa: N803
        policy = self._policy(PolicyArn)
        return {
            "Versions": [
                {"VersionId": name, "IsDefaultVersion": name == policy["default"], "CreateDate": made}
                for name, (_, made) in policy["versions"].items()
            ]
        }

    def create_policy(self, Path: str, PolicyName: str, PolicyDocument: str, Description: str) -> None:  # noqa: N803
        assert len(PolicyName) <= 128
        assert Description
        if PolicyName.lower() in {arn.rpartition("/")[2].lower() for arn in self.policies}:
            raise failed("EntityAlreadyExists", PolicyName)
        if len(self.policies) >= self.per_account:
            raise failed("LimitExceeded", f"Cannot exceed quota for PoliciesPerAccount: {self.per_account}")
        self._check(PolicyDocument)
        versions = {"v1": (PolicyDocument, START)}
        self.policies[f"arn:aws:iam::123456789012:policy{Path}{PolicyName}"] = {
            "default": "v1", "versions": versions, "count": 1}  # fmt: skip

    def create_policy_version(self, PolicyArn: str, PolicyDocument: str, SetAsDefault: bool) -> Any:  # noqa: N803
        policy = self._policy(PolicyArn)
        assert SetAsDefault
        self._check(PolicyDocument)
        if len(policy["versions"]) >= 5:
            raise failed("LimitExceeded", "Cannot exceed quota for VersionsPerPolicy: 5")
        policy["count"] += 1
        policy["default"] = f"v{policy['count']}"
        policy["versions"][policy["default"]] = (PolicyDocument, START + timedelta(seconds=policy["count"]))
        return {"PolicyVersion": {"VersionId": policy["default"]}}

    def delete_policy_version(self, PolicyArn: str, VersionId: str) -> None:  # noqa: N803
        policy = self._policy(PolicyArn)
        assert VersionId != policy["default"]
        del policy["versions"][VersionId]

    def delete_policy(self, PolicyArn: str) -> None:  # noqa: N803
        policy = self._policy(PolicyArn)
        if len(policy["versions"]) > 1 or any(PolicyArn in attached for attached in self.roles.values()):
            raise failed("DeleteConflict", PolicyArn)
        del self.policies[PolicyArn]

    def attach_role_policy(self, RoleName: str, PolicyArn: str) -> None:  # noqa: N803
        attached, _ = self._role(RoleName), self._policy(PolicyArn)
        if PolicyArn in attached:
            return
        if len(attached) >= self.per_role:
            raise failed("LimitExceeded", f"Cannot exceed quota for PoliciesPerRole: {self.per_role}")
        attached.append(PolicyArn)

    def detach_role_policy(self, RoleName: str, PolicyArn: str) -> None:  # noqa: N803
        self._role(RoleName).remove(PolicyArn)

    def _role(self, name: str) -> list[str]:
        if name not in self.roles:
            raise failed("NoSuchEntity", name)
        return self.roles[name]

    def _policy(self, arn: str) -> dict[str, Any]:
        if arn not in self.policies:
            raise failed("NoSuchEntity", arn)
        return self.policies[arn]

    def _check(self, document: str) -> None:
        if len(document) > 6144:
            raise failed("LimitExceeded", "Cannot exceed quota for PolicySize: 6144")
        assert resources(document), "IAM refuses an empty list of resources"


class MotoIam:
    """moto's IAM, with the additions of FakeIam that tests need."""

    def __init__(self, client: Any, *roles: str) -> None:
        self._client = client
        self.before: Any = lambda _: None
        self.roles = roles
        for role in roles:
            tags: Any = [{"Key": "rdsiam:managed", "Value": "true"}]
            client.create_role(RoleName=role, AssumeRolePolicyDocument="{}", Tags=tags)

    def allowed(self, role: str) -> set[str]:
        """Return the resources that a role's policies allow."""
        found: set[str] = set()
        for policy in self._client.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
            arn = policy["PolicyArn"]
            version = self._client.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            content = self._client.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
            found |= set(resources(json.dumps(content)))
        return found

    def __getattr__(self, name: str) -> Any:
        self.before(name)
        return getattr(self._client, name)


def resources(document: str) -> list[str]:
    """Return the resources of a policy's only statement."""
    (statement,) = json.loads(document)["Statement"]
    found: list[str] = statement["Resource"]
    return found


def failed(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "…")
