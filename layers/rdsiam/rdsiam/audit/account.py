"""What of the account an audit of its databases has to know: proxies, and whose passwords secrets hold. No password."""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.audit.facts import SecretFacts
from rdsiam.databases import Database, Proxy

logger = logging.getLogger(__name__)

#: Who put something longer, or with spaces, where a name belongs may have put a password there.
_NAME = re.compile(r"\S{1,255}")
_ROTATION_ENDS = timedelta(hours=1)


@dataclass(frozen=True)
class Account:
    """Proxies and secrets of the account and region."""

    proxies: tuple[Proxy, ...] = ()
    secrets: tuple[SecretFacts, ...] = ()

    def proxy_users(self, database: Database) -> frozenset[str]:
        """Return the users as which classic proxies log in to the database: those need their passwords."""
        users: set[str] = set()
        for proxy in self.proxies:
            if proxy.classic and database.identifier in proxy.targets:
                users |= set(proxy.users)
                users |= {one.username for one in self.secrets if one.username and one.arn in proxy.secret_arns}
        return frozenset(users)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; `Account.from_json` gives it back."""
        return {"proxies": [asdict(one) for one in self.proxies], "secrets": [asdict(one) for one in self.secrets]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Account":
        """Return what `to_json` was made from."""
        proxies = (
            Proxy(**{**one, **{name: tuple(one[name]) for name in ("secret_arns", "users", "targets")}})
            for one in data["proxies"]
        )
        return cls(tuple(proxies), tuple(SecretFacts(**one) for one in data["secrets"]))


def read_secrets(secrets_manager: Any) -> Iterator[SecretFacts]:
    """Return the secrets that hold a database login: whose it is and how its rotation goes, never the password.

    One that can't be read, for lack of a right or of its key, is left out and logged: nobody can say then whose it is.
    What RDS manages is not read, as nobody but RDS writes it.
    """
    for page in secrets_manager.get_paginator("list_secrets").paginate():
        for listed in page["SecretList"]:
            if listed.get("OwningService") == "rds" or listed["Name"].startswith("rds!"):
                yield _facts(listed, {})
                continue
            content = _content(secrets_manager, listed["ARN"])
            if content is not None and "password" in content:
                yield _facts(listed, content)


def _content(secrets_manager: Any, arn: str) -> Mapping[str, Any] | None:
    """Return what a secret holds, if it is of the form that Secrets Manager has for databases."""
    try:
        value = secrets_manager.get_secret_value(SecretId=arn)
    except ClientError as error:
        logger.warning("secret %s can't be read: %s", arn, error.response["Error"].get("Code"))
        return None
    try:
        content = json.loads(value.get("SecretString") or "")
    except ValueError:
        return None
    return content if isinstance(content, Mapping) else None


def _facts(listed: Mapping[str, Any], content: Mapping[str, Any]) -> SecretFacts:
    stages = listed.get("SecretVersionsToStages") or {}
    current, pending = _version(stages, "AWSCURRENT"), _version(stages, "AWSPENDING")
    half_way = pending is not None and pending != current
    changed = listed.get("LastChangedDate")
    return SecretFacts(
        arn=listed["ARN"],
        name=listed["Name"],
        username=_name(content.get("username")),
        host=_name(content.get("host")),
        engine=_name(content.get("engine")),
        rotation_enabled=bool(listed.get("RotationEnabled")),
        rotation_lambda=listed.get("RotationLambdaARN"),
        last_rotated=_text(listed.get("LastRotatedDate")),
        next_rotation=_text(listed.get("NextRotationDate")),
        # A rotation takes seconds; one that has stood still for an hour won't go on by itself.
        pending_stuck=half_way and changed is not None and datetime.now(UTC) - changed > _ROTATION_ENDS,
        tags={tag["Key"]: tag["Value"] for tag in listed.get("Tags", [])},
        owning_service=listed.get("OwningService"),
        instance=_name(content.get("dbInstanceIdentifier") or content.get("dbClusterIdentifier")),
        pending_version=pending if half_way else None,
        current_version=current,
    )


def _version(stages: Mapping[str, Sequence[str]], stage: str) -> str | None:
    return next((version for version, its in sorted(stages.items()) if stage in its), None)


def _name(value: Any) -> str | None:
    """Return what may be the name of a user or a host; whatever else stands there goes nowhere."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def _text(at: datetime | None) -> str | None:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None
