"""Roles that only AWS changes: nobody may tag them or attach policies to them (IAM answers UnmodifiableEntity).

Their paths are `/aws-reserved/…`, such as those of Identity Center, and `/aws-service-role/…`. rdsiam writes no
policies for them, so `roles` in access.yaml is no place for them; `callers` is.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdsiam.access.model import AccessFile  # needs pydantic, and the doctor only asks about roles

#: Path of the roles of Identity Center, which only a permission set can change.
IDENTITY_CENTER_PATH = "/aws-reserved/sso.amazonaws.com/"
_IDENTITY_CENTER = re.compile(
    r":role/(?:aws-reserved/sso\.amazonaws\.com/.*|AWSReservedSSO_[\w+=,.@-]+_[0-9a-f]{16})$", re.ASCII
)
_OF_AWS = re.compile(r":role/(?:aws-reserved|aws-service-role)/")
#: Why a reserved role is refused.
PROBLEM = "only AWS may tag this role or attach policies to it"
#: Stands for the users in a policy if the users are not known.
_EACH = "arn:PARTITION:rds-db:REGION:ACCOUNT:dbuser:RESOURCE-ID/USER"


def is_reserved(role: str) -> bool:
    """Tell whether only AWS changes the role of this ARN."""
    return bool(_IDENTITY_CENTER.search(role) or _OF_AWS.search(role))


def remedy(role: str, connect_arns: Iterable[str] = ()) -> str:
    """Return what lets people with a reserved role log in.

    :param connect_arns: `dbuser` ARNs of the logins; a pattern of them is shown if there are none.
    """
    if not _IDENTITY_CENTER.search(role):
        return "name a role of your own in `roles`, which the service or the people may assume"
    statement = {"Effect": "Allow", "Action": "rds-db:connect", "Resource": sorted(connect_arns) or [_EACH]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]}, separators=(",", ":"))
    return (
        "take it out of `roles` and name it in `callers`: its people then get tokens from the API (rdsiam psql). To "
        "let them sign tokens themselves, put this policy into the permission set, and suppress the finding "
        f"undeclared-connect-grant: {policy}"
    )


def advice(file: "AccessFile") -> Iterator[str]:
    """Yield a line for each reserved role that the file names in `roles`."""
    roles = {role for entry in file.databases for user in entry.users for role in user.roles}
    for role in sorted(filter(is_reserved, roles)):
        yield f"roles: {role}: {PROBLEM}; {remedy(role)}"
