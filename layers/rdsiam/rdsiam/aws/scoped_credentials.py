"""Credentials that may log in as one user to one database, and nothing else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rdsiam.aws.rds_models import Database
from rdsiam.signer import Credentials


@dataclass(frozen=True)
class ScopedCredentials:
    """Temporary credentials whose session policy allows one `dbuser` ARN."""

    credentials: Credentials
    expires: datetime


def assume_for_one_user(
    sts: Any,
    role_arn: str,
    database: Database,
    user: str,
    session_name: str,
    seconds: int = 900,
    source_identity: str | None = None,
) -> ScopedCredentials:
    """Assume `role_arn`, narrowed to `rds-db:connect` as `user` on `database`.

    :param session_name: 2–64 characters of `[\\w+=,.@-]`; it is in CloudTrail.
    :param seconds: 900–3,600; a role that is assumed by a role can't have more.
    :param source_identity: the caller, as CloudTrail records it. Needs `sts:SetSourceIdentity`.
    """
    policy: Mapping[str, Any] = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "rds-db:connect", "Resource": database.connect_arn(user)}],
    }
    source = {"SourceIdentity": source_identity} if source_identity else {}
    answer = sts.assume_role(
        RoleArn=role_arn,
        RoleSessionName=session_name,
        DurationSeconds=seconds,
        Policy=json.dumps(policy, separators=(",", ":")),
        **source,
    )["Credentials"]
    return ScopedCredentials(
        Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"]), answer["Expiration"]
    )
