"""IAM policies that let roles log in: a stack has its own policies of a role, with the users of all its databases."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.access import reserved_roles
from rdsiam.aws.rds import Database
from rdsiam.errors import Refused
from rdsiam.policies.role_policies import Policy, RolePolicies, Stack, name_of, text_of, version_number

#: With this tag the owner of a role allows rdsiam to attach policies to it.
MANAGED_TAG = ("rdsiam:managed", "true")
#: Quota of IAM: policies that are attached to a role, unless AWS has raised it for the account; 20 at most.
POLICIES_PER_ROLE = 10
_NUMBER = re.compile(r"[1-9][0-9]{0,2}")
_ROLE_ARN = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):role/(?:.*/)?([\w+=,.@-]{1,64})")


class ConnectPolicies:
    """The policies of one stack in this account.

    :param own_roles: ARNs of ConnectRole and its further shards, whose tag needs no check.
    :param per_role: number of policies that the account's quota allows a role.
    """

    def __init__(
        self, iam: Any, stack: Stack, own_roles: Collection[str] = (), per_role: int = POLICIES_PER_ROLE
    ) -> None:
        self._iam = iam
        self._stack = stack
        self._own_roles = frozenset(own_roles)
        self.per_role = per_role

    def check_roles(
        self, database: Database, roles: Iterable[str], logins: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Check that the owner of every role allows rdsiam to attach policies to it.

        :param logins: role → `dbuser` ARNs, for the advice about roles that only AWS changes.
        :raises Refused: a role is missing, untagged, of another account or of AWS.
        """
        for role in sorted(set(roles) - self._own_roles):
            self._check_role(database, role, (logins or {}).get(role, ()))

    def _check_role(self, database: Database, role: str, logins: Collection[str]) -> None:
        match = _ROLE_ARN.fullmatch(role)
        if match is None or match[2] != database.account:
            raise Refused(
                f"{role} is not a role of account {database.account}, to which the database belongs",
                "correct `roles` in access.yaml",
                "role-of-another-account",
            )
        name = match[3]
        try:
            existing = self._iam.get_role(RoleName=name)["Role"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
            remedy = "create it, or correct `roles` in access.yaml"
            raise Refused(f"{role} does not exist", remedy, "role-not-found") from None
        if reserved_roles.is_reserved(existing["Arn"]):
            remedy = reserved_roles.remedy(existing["Arn"], logins)
            raise Refused(f"{role}: {reserved_roles.PROBLEM}", remedy, "role-not-managed")
        if existing["Arn"] != role:
            problem = f"{role} does not exist, {existing['Arn']} does"
            raise Refused(problem, "correct `roles` in access.yaml", "role-not-found")
        if MANAGED_TAG not in {(tag["Key"], tag["Value"]) for tag in existing.get("Tags", [])}:
            key, value = MANAGED_TAG
            raise Refused(
                f"{role} has no tag {key}={value}, so rdsiam may not attach policies to it",
                f"run: aws iam tag-role --role-name {name} --tags Key={key},Value={value}",
                "role-not-managed",
            )

    def attached(self, role: str) -> frozenset[str]:
        """Return the ARNs of all policies that are attached to a role; none if the role doesn't exist."""
        try:
            pages = self._iam.get_paginator("list_attached_role_policies").paginate(RoleName=name_of(role))
            return frozenset(policy["PolicyArn"] for page in pages for policy in page["AttachedPolicies"])
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
            return frozenset()

    def read(self, role: str) -> RolePolicies:
        """Return the policies of a role, as they are now."""
        prefix = self._stack.prefix(role)
        attached = self.attached(role)
        mine = {arn for arn in attached if arn.startswith(prefix) and _NUMBER.fullmatch(arn.removeprefix(prefix))}
        numbers = {int(arn.removeprefix(prefix)) for arn in mine}
        policies = dict(self._existing(prefix, numbers, attached))
        return RolePolicies(self._iam, self._stack, role, policies, attached - mine, self.per_role)

    def _existing(
        self, prefix: str, numbers: Collection[int], attached: Collection[str]
    ) -> Iterator[tuple[int, Policy]]:
        """Yield this stack's policies of a role by number.

        All attached policies are among them, whatever numbers are missing. A policy that a killed run left unattached
        has the first number above theirs, or a number between them.
        """
        last = max(numbers, default=0)
        for number in range(1, max(self.per_role, last) + 1):
            arn = f"{prefix}{number}"
            try:
                version = self._iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchEntity":
                    raise
                if number > last:
                    return
                continue
            content = self._iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
            yield number, Policy(arn, text_of(content), arn in attached, version_number(version))
