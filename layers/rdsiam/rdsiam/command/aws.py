"""The command's calls to AWS, with the caller's own credentials; errors of AWS get an exit code."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from rdsiam.command.errors import Denied, ExecutionFailed, NotFound, TryAgain
from rdsiam.core.arn import is_arn
from rdsiam.signer import Credentials

_DENIED = {"AccessDenied", "AccessDeniedException", "UnrecognizedClientException", "InvalidClientTokenId", "403"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_MISSING = {
    "ResourceNotFoundException",
    "NoSuchKey",
    "NoSuchBucket",
    "404",
    "ValidationError",  # CloudFormation's word for a stack that does not exist
    "DBInstanceNotFound",
    "DBInstanceNotFoundFault",
    "DBClusterNotFoundFault",
}
_BUSY = {"ThrottlingException", "Throttling", "TooManyRequestsException", "SlowDown", "ServiceUnavailable", "503"}
_CONFIG = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4})


class Aws:
    """Clients for one profile and region."""

    def __init__(self, profile: str | None, region: str | None) -> None:
        with told():
            # boto3 itself knows AWS_DEFAULT_REGION only, as the AWS CLI's first version did.
            found = region or os.environ.get("AWS_REGION")
            self._session = boto3.Session(profile_name=profile, region_name=found)

    def client(self, service: str, read_timeout: int | None = None) -> Any:
        """Return a client of `service`.

        :param read_timeout: seconds to wait for an answer that takes long by its nature; nothing is tried again then.
        """
        config = _CONFIG
        if read_timeout is not None:
            config = _CONFIG.merge(Config(read_timeout=read_timeout, retries={"total_max_attempts": 1}))
        with told():
            return self._session.client(service, config=config)  # type: ignore[call-overload]

    @property
    def region(self) -> str:
        """The region that calls go to.

        :raises NotFound: none is set.
        """
        if self._session.region_name is None:
            raise NotFound("no region: give --region, or set AWS_REGION")
        return self._session.region_name

    def credentials(self) -> tuple[Credentials, datetime | None]:
        """Return the caller's credentials, renewed where that can be done, and when they end; None for lasting ones.

        :raises Denied: there are none, or they have ended.
        """
        with told():
            found = self._session.get_credentials()
            if found is None:
                raise NoCredentialsError
            now = found.get_frozen_credentials()
        # botocore offers no other way to ask for the end.
        end: datetime | None = getattr(found, "_expiry_time", None)
        return Credentials(now.access_key or "", now.secret_key or "", now.token), end

    def account(self) -> str | None:
        """Return the account of the caller's credentials, if they say so: nobody is asked."""
        with told():
            found = self._session.get_credentials()
            return None if found is None else getattr(found.get_frozen_credentials(), "account_id", None)

    def outputs(self, stack: str) -> Mapping[str, str]:
        """Return the outputs of a CloudFormation stack."""
        with told(f"stack {stack}"):
            found = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


def database_arn(aws: Aws, name: str) -> str:
    """Return the ARN of the instance or cluster of that identifier; an ARN is returned as it is.

    :raises NotFound: there is neither. Names are matched exactly: a prefix never counts.
    """
    if is_arn(name):
        return name
    rds = aws.client("rds")
    found: list[str] = []
    for call, key, kind in (
        (rds.describe_db_clusters, "DBClusters", "DBCluster"),
        (rds.describe_db_instances, "DBInstances", "DBInstance"),
    ):
        try:
            with told(name):
                found += [one[f"{kind}Arn"] for one in call(**{f"{kind}Identifier": name})[key]]
        except NotFound:
            continue
    if not found:
        raise NotFound(f"no instance and no cluster is named {name} in region {rds.meta.region_name}")
    return found[0]


@contextmanager
def told(what: str = "") -> Iterator[None]:
    """Turn what botocore raises into an error of the command's, which says what to do."""
    about = f"{what}: " if what else ""
    try:
        yield
    except NoCredentialsError:
        raise Denied(f"{about}no AWS credentials: set AWS_PROFILE, or run aws sso login") from None
    except NoRegionError:
        raise NotFound(f"{about}no region: give --region, or set AWS_REGION") from None
    except ProfileNotFound as error:
        raise NotFound(f"{about}{error}") from None
    except ClientError as error:
        code, text = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        problem = f"{about}{error.operation_name}: {code} {text}".strip()
        if code in _EXPIRED:
            raise Denied(f"{problem}; your credentials have ended: renew them, e.g. aws sso login") from None
        for codes, kind in ((_DENIED, Denied), (_MISSING, NotFound), (_BUSY, TryAgain)):
            if code in codes:
                raise kind(problem) from None
        raise ExecutionFailed(problem) from None
    except (CredentialRetrievalError, TokenRetrievalError, SSOError) as error:
        raise Denied(f"{about}{error}; renew your credentials, e.g. aws sso login") from None
    except BotoCoreError as error:
        raise TryAgain(f"{about}{error}") from None
