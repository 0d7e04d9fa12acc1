"""IAM policies that let roles log in: exact `dbuser` ARNs, packed into as few managed policies as possible.

Every role has its own policies, `/rdsiam/connect/rdsiam-<role>-<n>`, with the users of all its databases.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import ClientError

from rdsiam.access import reserved_roles
from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Change
from rdsiam.errors import Refused

PATH = "/rdsiam/connect/"
#: With this tag the owner of a role allows rdsiam to attach policies to it.
MANAGED_TAG = ("rdsiam:managed", "true")
#: Quotas of IAM: characters of a managed policy (without white space), versions of a policy, policies of a role.
_MAX_POLICY = 6144
_MAX_VERSIONS = 5
_MAX_ATTACHED = 10
_NUMBER = re.compile(r"[1-9][0-9]{0,2}")
_ROLE_ARN = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):role/(?:.*/)?([\w+=,.@-]{1,64})")


def wanted_by_role(database: Database, users: Iterable[DeclaredUser], connect_role: str) -> dict[str, frozenset[str]]:
    """Return role ARN → `dbuser` ARNs: roles that sign tokens themselves, and ConnectRole for vended users."""
    result: dict[str, set[str]] = {connect_role: set()}
    for user in users:
        for role in user.roles:
            result.setdefault(role, set()).add(database.connect_arn(user.name))
        if user.callers:
            result[connect_role].add(database.connect_arn(user.name))
    return {role: frozenset(arns) for role, arns in result.items()}


def place(held: Sequence[Iterable[str]], wanted: Collection[str], limit: int = _MAX_POLICY) -> list[str]:
    """Return policy documents that allow `rds-db:connect` on `wanted`, in the order of `held`.

    An ARN stays in the policy that has it, so that every moment of a change has it in some policy; a new ARN goes to a
    policy with room. The last policy is dissolved if the others have room for its ARNs: they are written first.

    :param held: the ARNs that each policy allows now.
    """
    bins: list[set[str]] = []
    unplaced = set(wanted)
    for arns in held:
        bins.append(unplaced.intersection(arns))
        unplaced -= bins[-1]
    for arn in sorted(unplaced):
        if not _put([arn], bins, limit):
            bins.append({arn})
    while bins and _put(bins[-1], bins[:-1], limit):
        bins.pop()
    return [_document(sorted(arns)) for arns in bins]


def _put(arns: Iterable[str], bins: Sequence[set[str]], limit: int) -> bool:
    """Put all these ARNs into the first bins with room for them; return False, and put none, if there is too little."""
    room = [limit - len(_document([])) + 1 - sum(_length(arn) for arn in each) for each in bins]
    places: list[tuple[set[str], str]] = []
    for arn in sorted(arns):
        number = next((number for number, free in enumerate(room) if free >= _length(arn)), None)
        if number is None:
            return False
        room[number] -= _length(arn)
        places.append((bins[number], arn))
    for each, arn in places:
        each.add(arn)
    return True


def _length(arn: str) -> int:
    """Return the number of characters of an ARN in a document, with its comma."""
    return len(json.dumps(arn)) + 1


def _document(arns: Sequence[str]) -> str:
    statement = {"Sid": "LogIn", "Effect": "Allow", "Action": "rds-db:connect", "Resource": list(arns)}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, separators=(",", ":"))


@dataclass(frozen=True)
class _Policy:
    """A managed policy that rdsiam wrote, as IAM has it now."""

    arn: str
    document: str
    attached: bool


class ConnectPolicies:
    """The policies under `/rdsiam/connect/` of this account."""

    def __init__(self, iam: Any, connect_role: str) -> None:
        self._iam = iam
        self._connect_role = connect_role

    def check_roles(
        self, database: Database, roles: Iterable[str], logins: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Check that the owner of every role allows rdsiam to attach policies to it.

        :param logins: role → `dbuser` ARNs, for the advice about roles that only AWS changes.
        :raises Refused: a role is missing, untagged, of another account or of AWS.
        """
        for role in sorted(set(roles) - {self._connect_role}):
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

    def converge(self, role: str, stale: Callable[[str], bool], wanted: frozenset[str], dry_run: bool) -> list[Change]:
        """Make the policies of `role` allow `wanted`, and the ARNs that they allow already and that are not `stale`.

        :return: the changes, made or planned; none if the policies are so already.
        :raises Refused: the ARNs do not fit into the policies that a role can have.
        """
        name = role.rpartition("/")[2]
        existing = self._policies(role, name)
        held = [_resources(existing[number]) for number in sorted(existing)]
        current = {arn for arns in held for arn in arns if not stale(arn)}
        documents = place(held, current | wanted)
        if len(documents) > _MAX_ATTACHED:
            raise Refused(
                f"{role} has more database logins than fit into {_MAX_ATTACHED} policies",
                "use a second role for some of them",
                "role-policies-full",
            )
        numbers = sorted(existing)
        numbers += [number for number in range(1, _MAX_ATTACHED + 1) if number not in existing]
        prefix = f"{_policy_prefix(role)}{PATH}rdsiam-{name}-"
        changes: list[Change] = []
        for number, document in zip(numbers, documents, strict=False):
            changes += self._write(role, f"{prefix}{number}", document, existing.get(number), dry_run)
        # The last policy first: `_policies` finds the remains of a killed run.
        for number in sorted(set(existing) - set(numbers[: len(documents)]), reverse=True):
            changes += self._remove(role, existing[number], dry_run)
        return changes

    def withdraw(self, role: str, gone: Callable[[str], bool], dry_run: bool) -> list[Change]:
        """Take the ARNs that are `gone` out of the policies of `role`, and add none.

        This needs neither the role's tag nor room in its policies, so nothing prevents the removal of a login.

        :return: the changes, made or planned.
        """
        existing = self._policies(role, role.rpartition("/")[2])
        changes: list[Change] = []
        for number in sorted(existing, reverse=True):
            policy = existing[number]
            remaining = sorted(arn for arn in _resources(policy) if not gone(arn))
            if remaining:
                changes += self._write(role, policy.arn, _document(remaining), policy, dry_run)
            else:
                changes += self._remove(role, policy, dry_run)
        return changes

    def _policies(self, role: str, name: str) -> dict[int, _Policy]:
        """Return rdsiam's policies of the role by number.

        All attached policies are among them, whatever numbers are missing. A policy that a killed run left unattached
        has the first number above theirs, or a number between them.
        """
        prefix = f"{_policy_prefix(role)}{PATH}rdsiam-{name}-"
        attached = set()
        try:
            pages = self._iam.get_paginator("list_attached_role_policies").paginate(RoleName=name, PathPrefix=PATH)
            attached = {policy["PolicyArn"] for page in pages for policy in page["AttachedPolicies"]}
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
        numbers = {int(arn.removeprefix(prefix)) for arn in attached if _NUMBER.fullmatch(arn.removeprefix(prefix))}
        policies: dict[int, _Policy] = {}
        for number in range(1, max([_MAX_ATTACHED, *numbers]) + 1):
            arn = f"{prefix}{number}"
            try:
                version = self._iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchEntity":
                    raise
                if number > max(numbers, default=0):
                    break
                continue
            document = self._iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
            policies[number] = _Policy(arn, _text(document), arn in attached)
        return policies

    def _write(self, role: str, arn: str, document: str, existing: _Policy | None, dry_run: bool) -> list[Change]:
        changes: list[Change] = []
        name = arn.rpartition("/")[2]
        if existing is None:
            command = f"aws iam create-policy --path {PATH} --policy-name {name} --policy-document '{document}'"
            changes.append(Change("create-policy", arn, command))
            if not dry_run:
                self._create(arn, document)
        elif existing.document != document:
            command = (
                f"aws iam create-policy-version --policy-arn {arn} --set-as-default --policy-document '{document}'"
            )
            changes.append(Change("update-policy", arn, command))
            if not dry_run:
                self._update(arn, document)
        if existing is None or not existing.attached:
            role_name = role.rpartition("/")[2]
            command = f"aws iam attach-role-policy --role-name {role_name} --policy-arn {arn}"
            changes.append(Change("attach-policy", role, command))
            if not dry_run:
                self._iam.attach_role_policy(RoleName=role_name, PolicyArn=arn)
        return changes

    def _create(self, arn: str, document: str) -> None:
        try:
            self._iam.create_policy(
                Path=PATH,
                PolicyName=arn.rpartition("/")[2],
                PolicyDocument=document,
                Description="Database logins declared in access.yaml; written by rdsiam, do not edit.",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "EntityAlreadyExists":
                raise
            self._update(arn, document)  # left by a role of that name that was deleted

    def _update(self, arn: str, document: str) -> None:
        versions = self._iam.list_policy_versions(PolicyArn=arn)["Versions"]
        old = sorted((v for v in versions if not v["IsDefaultVersion"]), key=lambda v: v["CreateDate"])
        for version in old[: max(0, len(versions) - _MAX_VERSIONS + 1)]:
            self._iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
        self._iam.create_policy_version(PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)

    def _remove(self, role: str, policy: _Policy, dry_run: bool) -> list[Change]:
        role_name = role.rpartition("/")[2]
        changes: list[Change] = []
        if policy.attached:
            command = f"aws iam detach-role-policy --role-name {role_name} --policy-arn {policy.arn}"
            changes.append(Change("detach-policy", role, command))
            if not dry_run:
                self._iam.detach_role_policy(RoleName=role_name, PolicyArn=policy.arn)
        changes.append(Change("delete-policy", policy.arn, f"aws iam delete-policy --policy-arn {policy.arn}"))
        if not dry_run:
            for version in self._iam.list_policy_versions(PolicyArn=policy.arn)["Versions"]:
                if not version["IsDefaultVersion"]:
                    self._iam.delete_policy_version(PolicyArn=policy.arn, VersionId=version["VersionId"])
            self._iam.delete_policy(PolicyArn=policy.arn)
        return changes


def _policy_prefix(role: str) -> str:
    """Return `arn:<partition>:iam::<account>:policy` for the account of `role`."""
    return role.rpartition(":role/")[0] + ":policy"


def _text(document: Mapping[str, Any] | str) -> str:
    """Return the document as rdsiam writes it: boto3 returns it parsed, a plain client URL-encoded."""
    parsed = json.loads(unquote(document)) if isinstance(document, str) else document
    return json.dumps(parsed, separators=(",", ":"))


def _resources(policy: _Policy) -> frozenset[str]:
    """Return the ARNs that a policy allows: none if it is detached, so that no run restores what another removed."""
    if not policy.attached:
        return frozenset()
    return frozenset(arn for statement in json.loads(policy.document)["Statement"] for arn in statement["Resource"])
