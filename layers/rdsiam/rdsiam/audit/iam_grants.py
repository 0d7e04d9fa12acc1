"""Resources on which IAM policies allow logins, and the verdicts on them; no I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rdsiam.audit.deployment import Deployment
from rdsiam.audit.iam_logins import DeclaredLogins, Fleet
from rdsiam.aws.iam import Holder
from rdsiam.aws.iam_statements import glob
from rdsiam.engines.logins import AUDITOR, MANAGER

_VARIABLE = re.compile(r"\$\{[^}]*\}")
#: The database users as which rdsiam itself logs in.
_OWN_USERS = frozenset({MANAGER, AUDITOR})


@dataclass(frozen=True)
class Resource:
    """A resource of a statement, in its parts.

    All parts are empty if the resource isn't an ARN, or has a wildcard as its partition or service.
    In `arn:aws:rds-db:eu-west-1:123456789012:dbuser:db-ABC/app` the family is `dbuser` and the rest `db-ABC/app`.

    :ivar text: the resource as the policy has it.
    :ivar pattern: the resource with `*` in place of policy variables such as `${aws:username}`.
    :ivar family: the sixth part of the ARN; `dbuser` if the resource is right.
    :ivar rest: the part after the family.
    """

    text: str
    pattern: str
    partition: str
    service: str
    region: str
    account: str
    family: str
    rest: str

    @classmethod
    def parse(cls, text: str) -> "Resource":
        """Return a resource in its parts."""
        pattern = _VARIABLE.sub("*", text)
        parts = pattern.split(":", 5)
        if len(parts) != 6 or any(has_wildcard(part) for part in parts[:3]):
            parts = [""] * 6
        _, partition, service, region, account, path = parts
        family, _, rest = path.partition(":")
        return cls(text, pattern, partition, service, region, account, family, rest)

    @property
    def is_arn(self) -> bool:
        """Whether it is an ARN whose partition and service are spelled out."""
        return bool(self.service)

    @property
    def resource_id(self) -> str:
        """The part of the rest before the slash, such as `db-ABC`."""
        return self.rest.partition("/")[0]

    @property
    def user(self) -> str:
        """The part of the rest after the slash, such as `app`."""
        return self.rest.partition("/")[2]


@dataclass(frozen=True)
class Verdict:
    """The evaluation of one resource of a statement.

    :ivar resource: the resource as the policy has it.
    :ivar kind: kind of finding; None if the resource is right.
    :ivar why: the problem, in words.
    :ivar resource_id: resource id of the one audited database whose users the resource names; None if there are several
        databases, or none that is audited.
    :ivar corrected: ARN to write instead; None if the resource must be removed.
    :ivar any_user: whether a wildcard gives logins as any user, administrators such as rdsiam_manager included.
    """

    resource: str
    kind: str | None = None
    why: str = ""
    resource_id: str | None = None
    corrected: str | None = None
    any_user: bool = False


@dataclass(frozen=True)
class Grant:
    """One resource on which a statement allows a holder to log in, and the data that the rules compare it with."""

    resource: Resource
    holder: Holder
    statement: Mapping[str, Any]
    fleet: Fleet
    deployment: Deployment
    declared: DeclaredLogins

    @property
    def is_of_stack(self) -> bool:
        """Whether the holder is a role of rdsiam's stack, other than ConnectRole."""
        return self.holder.arn in self.deployment.stack_roles

    @property
    def names_own_user(self) -> bool:
        """Whether a role of the stack may log in as rdsiam_manager or rdsiam_auditor, as the template allows."""
        return self.is_of_stack and self.resource.user in _OWN_USERS

    @property
    def is_given(self) -> bool:
        """Whether access.yaml gives the holder this login."""
        return self.declared.gives(self.holder, self.resource.resource_id, self.resource.user)

    @cached_property
    def other_spelling(self) -> str | None:
        """The database's user whose name differs in case only; None if the resource's user is right or unknown."""
        resource_id, user = self.resource.resource_id, self.resource.user
        names = {*self.fleet.users.get(resource_id, ()), *self.declared.users(resource_id)}
        spellings = sorted(name for name in names if name.lower() == user.lower())
        return None if user in names or not spellings else spellings[0]

    def covers_manager(self, *resource_ids: str) -> bool:
        """Tell whether the resource covers rdsiam_manager on at least one of the databases."""
        text = self.resource.text
        return any(glob(text, self.deployment.user_arn(resource_id, MANAGER)) for resource_id in resource_ids)


def has_wildcard(text: str) -> bool:
    """Tell whether a text has one of IAM's wildcards."""
    return "*" in text or "?" in text
