"""The secrets that hold database logins: who logs in where, and how its rotation does. Never a password."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.core import times

logger = logging.getLogger(__name__)

#: All that is kept of what a secret says.
_KEPT = frozenset({"username", "host", "port", "engine", "dbInstanceIdentifier", "dbClusterIdentifier", "masterarn"})
#: Who put something longer, or with spaces, where a name belongs may have put a password there.
_PORT = re.compile(r"\d{1,5}", re.ASCII)
_NAME = re.compile(r"\S{1,255}")
#: A secret that these are answered for says nothing; it is counted, and the others are read.
_NOT_FOR_US = frozenset(
    {"AccessDeniedException", "DecryptionFailure", "InvalidRequestException", "ResourceNotFoundException"}
)
#: A rotation takes seconds. One that has not ended so long after the last change of its secret has failed at least
#: once, and one after the second never will.
_FAILING_AFTER, _STUCK_AFTER = timedelta(minutes=5), timedelta(hours=1)


class Secrets:
    """The secrets of this account and region.

    :ivar skipped: how many could not be read in the last listing; those say nothing, not that all is well.
    """

    def __init__(self, secrets_manager: Any) -> None:
        self._secrets_manager = secrets_manager
        self.skipped = 0

    def list(self, at: datetime, tag: str | None = None) -> Iterator[SecretFacts]:
        """Yield the secrets that hold a database login, page by page; those of AWS's services are left out.

        :param at: the time of the audit, with a zone: from it follows whether a rotation is stuck.
        :param tag: only those that have a tag of this name; None for all.
        """
        self.skipped = 0
        only = {"Filters": [{"Key": "tag-key", "Values": [tag]}]} if tag else {}
        for page in self._secrets_manager.get_paginator("list_secrets").paginate(**only):
            for listed in page["SecretList"]:
                if listed.get("OwningService"):
                    continue
                said = self._read(listed["ARN"])
                if said is None:
                    self.skipped += 1
                elif said.get("username") or said.get("host"):
                    yield _facts(listed, said, at)

    def one(self, arn: str, at: datetime) -> SecretFacts | None:
        """Return one secret; None if it is gone, going, or can't be read.

        :param at: as in `list`.
        """
        said = self._read(arn)
        return None if said is None else _facts(self._secrets_manager.describe_secret(SecretId=arn), said, at)

    def _read(self, arn: str) -> Mapping[str, str] | None:
        try:
            return _said(self._secrets_manager.get_secret_value(SecretId=arn))
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in _NOT_FOR_US:
                raise
            logger.info("secret %s can't be read: %s", arn, code)
            return None


def _said(answer: Mapping[str, Any]) -> Mapping[str, str]:
    """Return what is kept of a secret; nothing of one that is no JSON object. No error of it shows its text."""
    try:
        # Only what is kept ever becomes a value: pairs of no interest are dropped while they are read.
        said = json.loads(answer.get("SecretString", ""), object_pairs_hook=_keep)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _keep(pairs: "list[tuple[str, Any]]") -> dict[str, str]:
    # A port is a number in some secrets and text in others.
    texts = (
        (key, str(value) if key == "port" and type(value) is int else value) for key, value in pairs if key in _KEPT
    )
    return {key: value for key, value in texts if isinstance(value, str) and _NAME.fullmatch(value)}


def _younger(listed: Mapping[str, Any], at: datetime, age: timedelta) -> bool:
    """Tell whether a rotation may still end; without rotation nobody is going to finish what is pending."""
    changed = listed.get("LastChangedDate")
    return bool(listed.get("RotationEnabled")) and changed is not None and changed + age >= at


def _facts(listed: Mapping[str, Any], said: Mapping[str, str], at: datetime) -> SecretFacts:
    # ListSecrets and DescribeSecret call it differently.
    versions: Mapping[str, Any] = listed.get("SecretVersionsToStages") or listed.get("VersionIdsToStages") or {}
    current = next((one for one, stages in versions.items() if "AWSCURRENT" in stages), None)
    previous = next((one for one, stages in versions.items() if "AWSPREVIOUS" in stages), None)
    pending = next((one for one, stages in versions.items() if "AWSPENDING" in stages and one != current), None)
    return SecretFacts(
        arn=listed["ARN"],
        name=listed["Name"],
        username=said.get("username"),
        host=said.get("host"),
        port=int(said["port"]) if _PORT.fullmatch(said.get("port", "")) else None,
        engine=said.get("engine"),
        rotation_enabled=bool(listed.get("RotationEnabled")),
        rotation_lambda=listed.get("RotationLambdaARN"),
        last_rotated=_text(listed.get("LastRotatedDate")),
        next_rotation=_text(listed.get("NextRotationDate")),
        administrator=said.get("masterarn"),
        rotation_rules=dict(listed.get("RotationRules") or {}),
        pending_failing=pending is not None and not _younger(listed, at, _FAILING_AFTER),
        pending_stuck=pending is not None and not _younger(listed, at, _STUCK_AFTER),
        tags={tag["Key"]: tag.get("Value", "") for tag in listed.get("Tags") or []},
        owning_service=listed.get("OwningService"),
        instance=said.get("dbInstanceIdentifier") or said.get("dbClusterIdentifier"),
        pending_version=pending,
        current_version=current,
        previous_version=previous,
    )


def _text(time: datetime | None) -> str | None:
    return times.text(time) if time else None
