"""This stack's policies of one role: what IAM shows, and the changes that it needs.

A policy's path and name have the region and the stack, `/rdsiam/connect/<region>/<stack>/<stack>.<region>.<role>.<n>`:
names are unique in an account, whatever their path, and stacks in two regions share the account's roles.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import ClientError

from rdsiam.aws.iam_statements import allows, statements, texts
from rdsiam.core.changes import Change
from rdsiam.core.counts import counted
from rdsiam.policies.placement import document, place

#: Path of the policies of all stacks.
PATH = "/rdsiam/connect/"
#: Quota of IAM: versions of a policy.
_MAX_VERSIONS = 5
_CONNECT_ARN = re.compile(r"arn:aws[a-z-]*:rds-db:[a-z0-9-]+:\d{12}:dbuser:[A-Za-z0-9-]+/[^*?$]+")
#: In ARNs of policies: the region of the stack that wrote it.
_REGION_OF_POLICY = re.compile(rf":policy{PATH}([a-z0-9-]+)/")


@dataclass(frozen=True)
class Stack:
    """The stack that policies belong to. Neither part of it has a dot, so that no two stacks share a policy's name."""

    region: str
    name: str

    @property
    def path(self) -> str:
        """The path of its policies."""
        return f"{PATH}{self.region}/{self.name}/"

    def prefix(self, role: str) -> str:
        """Return the ARN of its policies of a role, up to the number."""
        account, _, name = role.partition(":role/")
        return f"{account}:policy{self.path}{self.name}.{self.region}.{name.rpartition('/')[2]}."


@dataclass(frozen=True)
class Policy:
    """A managed policy that this stack wrote, as IAM shows it now.

    :ivar version: number of the version that counts; versions are never used again.
    """

    arn: str
    document: str
    attached: bool
    version: int = 0

    @cached_property
    def arns(self) -> frozenset[str]:
        """The ARNs that it allows: none if it is detached, so that no run restores what another removed."""
        if not self.attached:
            return frozenset()
        # Somebody may have edited it: only what rdsiam may have written is kept.
        allowed = [statement for statement in statements(json.loads(self.document)) if allows(statement)]
        arns = (arn for statement in allowed for arn in texts(statement, "Resource"))
        return frozenset(arn for arn in arns if _CONNECT_ARN.fullmatch(arn))


@dataclass(frozen=True)
class _Action:
    """A change, and the calls that make it, which return the policy's new version, if it has one.

    :ivar policy: ARN of the policy.
    :ivar grows: the logins that need this change, if it makes or attaches a policy, which quotas of IAM limit.
    """

    change: Change
    policy: str
    perform: Callable[[], int | None] = field(repr=False)
    grows: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RolePlan:
    """The changes that the policies of one role need, or those that were made.

    :ivar unplaced: ARNs for which the role has no room.
    :ivar quota: the quota that IAM named when it refused a change; empty if it refused none.
    """

    actions: tuple[_Action, ...] = ()
    unplaced: frozenset[str] = frozenset()
    quota: str = ""

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changes, in their order."""
        return tuple(action.change for action in self.actions)


class RolePolicies:
    """This stack's policies of one role, as they were read, and the changes that they need.

    :ivar role: ARN of the role.
    :ivar others: ARNs of the role's other policies, which take of its room.
    """

    def __init__(
        self,
        iam: Any,
        stack: Stack,
        role: str,
        policies: Mapping[int, Policy],
        others: Collection[str],
        per_role: int,
    ) -> None:
        self._iam = iam
        self._stack = stack
        self.role = role
        self._policies = policies
        self._per_role = per_role
        self.others = frozenset(others)

    @property
    def prefix(self) -> str:
        """The ARNs of these policies, up to the number."""
        return self._stack.prefix(self.role)

    @property
    def shown(self) -> Mapping[str, int]:
        """ARN → number of the version that IAM shows; -1 if the policy is detached."""
        return {policy.arn: policy.version if policy.attached else -1 for policy in self._policies.values()}

    @property
    def room(self) -> int:
        """The number of policies that this stack may have for the role."""
        return max(0, self._per_role - len(self.others))

    def converge(self, stale: Callable[[str], bool], wanted: Collection[str]) -> RolePlan:
        """Plan that the role is allowed `wanted`, and the ARNs that it is allowed already and that are not `stale`.

        ARNs for which there is no room stay unplaced; those that are in a policy stay in it.
        """
        # Detached policies last: they allow nothing, and are the first to be dissolved.
        numbers = sorted(self._policies, key=lambda number: (not self._policies[number].attached, number))
        held = [self._policies[number].arns for number in numbers]
        current = {arn for arns in held for arn in arns if not stale(arn)}
        placement = place(held, current | set(wanted), self.room)
        new = (number for number in range(1, len(numbers) + len(placement.documents) + 1) if number not in numbers)
        numbers += [next(new) for _ in placement.documents[len(numbers) :]]
        actions: list[_Action] = []
        for number, content in zip(numbers, placement.documents, strict=False):
            actions += self._write(f"{self.prefix}{number}", content, self._policies.get(number))
        # The last policy first: `ConnectPolicies.read` finds the remains of a killed run.
        for number in sorted(set(self._policies) - set(numbers[: len(placement.documents)]), reverse=True):
            actions += self._remove(self._policies[number])
        return RolePlan(tuple(actions), placement.unplaced)

    def withdraw(self, gone: Callable[[str], bool]) -> RolePlan:
        """Plan that the ARNs that are `gone` leave the policies of the role; add none.

        This needs neither the role's tag nor room in its policies, so nothing prevents the removal of a login.
        """
        actions: list[_Action] = []
        for number in sorted(self._policies, reverse=True):
            policy = self._policies[number]
            remaining = [arn for arn in policy.arns if not gone(arn)]
            if remaining:
                actions += self._write(policy.arn, document(remaining), policy)
            else:
                actions += self._remove(policy)
        return RolePlan(tuple(actions))

    def apply(self, plan: RolePlan, wrote: Callable[[str, int], None] = lambda _, __: None) -> RolePlan:
        """Make the changes of a plan.

        :param wrote: called after each change with the policy's ARN and version, 0 if it was deleted.
        :return: what was made. More ARNs are unplaced if the role has less room than its policies say: a stack of
            another region has taken it meanwhile, or a quota of the account is smaller than the stack's parameter says.
        """
        done: list[_Action] = []
        quotas: dict[str, str] = {}
        unplaced = set(plan.unplaced)
        for action in plan.actions:
            if action.policy in quotas:
                continue
            try:
                version = action.perform()
            except ClientError as error:
                if not action.grows or error.response["Error"]["Code"] != "LimitExceeded":
                    raise
                quotas[action.policy] = error.response["Error"]["Message"]
                unplaced |= action.grows
            else:
                done.append(action)
                if version is not None:
                    wrote(action.policy, version)
        for action in [action for action in done if action.policy in quotas]:
            wrote(action.policy, self._delete(action.policy))  # it was made, and can't be attached
            done.remove(action)
        return RolePlan(tuple(done), frozenset(unplaced), "; ".join(dict.fromkeys(quotas.values())))

    def describe_room(self) -> str:
        """Return how many policies the role may have, and who has them."""
        of_stacks = [match[1] for arn in self.others if (match := _REGION_OF_POLICY.search(arn))]
        taken = [f"{count} in {region}" for region, count in sorted(Counter(of_stacks).items())]
        if rest := len(self.others) - len(of_stacks):
            taken.append(f"{rest} that its owner attached")
        text = f"a role may have {counted(self._per_role, 'policy', 'policies')}"
        return f"{text}, and this one has {', '.join(taken)}" if taken else text

    def _write(self, arn: str, content: str, existing: Policy | None) -> Iterator[_Action]:
        name = arn.rpartition("/")[2]
        arns = Policy(arn, content, attached=True).arns
        if existing is None:
            command = (
                f"aws iam create-policy --path {self._stack.path} --policy-name {name} --policy-document '{content}'"
            )
            yield _Action(Change("create-policy", arn, command), arn, partial(self._create, arn, content), arns)
        elif existing.document != content:
            command = f"aws iam create-policy-version --policy-arn {arn} --set-as-default --policy-document '{content}'"
            yield _Action(Change("update-policy", arn, command), arn, partial(self._update, arn, content))
        if existing is None or not existing.attached:
            role_name = name_of(self.role)
            command = f"aws iam attach-role-policy --role-name {role_name} --policy-arn {arn}"
            yield _Action(Change("attach-policy", self.role, command), arn, partial(self._attach, arn), arns)

    def _create(self, arn: str, content: str) -> int:
        try:
            self._iam.create_policy(
                Path=self._stack.path,
                PolicyName=arn.rpartition("/")[2],
                PolicyDocument=content,
                Description="Database logins declared in access.yaml; written by rdsiam, do not edit.",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "EntityAlreadyExists":
                raise
            return self._update(arn, content)  # left by a role of that name that was deleted
        return 1

    def _update(self, arn: str, content: str) -> int:
        versions = self._iam.list_policy_versions(PolicyArn=arn)["Versions"]
        old = sorted((v for v in versions if not v["IsDefaultVersion"]), key=lambda v: v["CreateDate"])
        for version in old[: max(0, len(versions) - _MAX_VERSIONS + 1)]:
            self._iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
        new = self._iam.create_policy_version(PolicyArn=arn, PolicyDocument=content, SetAsDefault=True)
        return version_number(new["PolicyVersion"]["VersionId"])

    def _attach(self, arn: str) -> None:
        self._iam.attach_role_policy(RoleName=name_of(self.role), PolicyArn=arn)

    def _detach(self, arn: str) -> None:
        self._iam.detach_role_policy(RoleName=name_of(self.role), PolicyArn=arn)

    def _remove(self, policy: Policy) -> Iterator[_Action]:
        role_name = name_of(self.role)
        if policy.attached:
            command = f"aws iam detach-role-policy --role-name {role_name} --policy-arn {policy.arn}"
            detach = partial(self._detach, policy.arn)
            yield _Action(Change("detach-policy", self.role, command), policy.arn, detach)
        command = f"aws iam delete-policy --policy-arn {policy.arn}"
        yield _Action(Change("delete-policy", policy.arn, command), policy.arn, partial(self._delete, policy.arn))

    def _delete(self, arn: str) -> int:
        for version in self._iam.list_policy_versions(PolicyArn=arn)["Versions"]:
            if not version["IsDefaultVersion"]:
                self._iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
        self._iam.delete_policy(PolicyArn=arn)
        return 0


def version_number(version: str) -> int:
    """Return the number of a version, such as `v7`."""
    return int(version.removeprefix("v"))


def name_of(role: str) -> str:
    """Return the name in a role's ARN."""
    return role.rpartition("/")[2]


def text_of(content: Mapping[str, Any] | str) -> str:
    """Return the document as rdsiam writes it: boto3 returns it parsed, a plain client URL-encoded."""
    parsed = json.loads(unquote(content)) if isinstance(content, str) else content
    return json.dumps(parsed, separators=(",", ":"))
