"""Calls to AWS with the caller's own credentials; errors of AWS become the command's, each with an exit code."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    InvalidConfigError,
    InvalidRegionError,
    LoginError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
    UnknownCredentialError,
)
from botocore.parsers import ResponseParserError
from botocore.session import Session

from rdsiam.command import waiting
from rdsiam.command.errors import (
    CommandError,
    CredentialsExpired,
    Denied,
    ExecutionFailed,
    NotFound,
    TryAgain,
    Usage,
)
from rdsiam.core.arn import is_arn, lower_identifier
from rdsiam.core.similar import did_you_mean
from rdsiam.signer import Credentials

_DENIED = {
    "403",
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_MISSING = {
    "ResourceNotFoundException",
    "NoSuchKey",
    "NoSuchBucket",
    "404",
    "ValidationError",  # CloudFormation, for a stack that does not exist
    "DBInstanceNotFound",
    "DBInstanceNotFoundFault",
    "DBClusterNotFoundFault",
    "DBProxyNotFoundFault",
    "DBClusterEndpointNotFoundFault",
    "DBProxyEndpointNotFoundFault",
}
_WRONG = {"InvalidParameterValue", "InvalidParameterValueException", "InvalidBucketName", "ValidationException"}
_BUSY = {"ThrottlingException", "Throttling", "TooManyRequestsException", "SlowDown", "ServiceUnavailable", "503"}
_NOT_RENEWED = (CredentialRetrievalError, LoginError, NoAuthTokenError, SSOError, TokenRetrievalError)
_MISCONFIGURED = (
    ConfigNotFound,
    ConfigParseError,
    InvalidConfigError,
    PartialCredentialsError,
    UnknownCredentialError,
)
#: Databases of each kind that are compared with a wrong name at most: ten calls of AWS.
_LISTED = 1000
#: Remedy for credentials that have expired.
RENEW = "renew your credentials, e.g. aws sso login"
_CONFIG = Config(
    connect_timeout=waiting.SECONDS, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4}
)
#: For the calls that credentials come from, of STS or SSO: a login waits for them, for minutes by botocore's defaults.
_FOR_CREDENTIALS = Config(
    connect_timeout=waiting.SECONDS, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2}
)


class Aws:
    """Clients for one profile and region."""

    def __init__(self, profile: str | None, region: str | None) -> None:
        with translate_errors():
            self._session = Session(profile=profile)
            self._session.set_default_client_config(_FOR_CREDENTIALS)
            # botocore itself reads AWS_DEFAULT_REGION only, as version 1 of the AWS CLI does.
            if region := region or os.environ.get("AWS_REGION"):
                self._session.set_config_variable("region", region)
            self._session.get_scoped_config()  # raises ProfileNotFound
        self._report_waiting()

    def _report_waiting(self) -> None:
        """Report endpoints that don't answer."""
        waiting.Watch(self._session.get_component("event_emitter"))

    def client(self, service: str, read_timeout: int | None = None) -> Any:
        """Return a client of `service`.

        :param read_timeout: seconds to wait for a slow answer; the call is then not retried.
        """
        config = _CONFIG
        if read_timeout is not None:
            config = _CONFIG.merge(Config(read_timeout=read_timeout, retries={"total_max_attempts": 1}))
        try:
            with translate_errors():
                return self._session.create_client(service, config=config)
        except ValueError as error:  # of an endpoint that was set in the environment or the profile
            raise Usage(f"{service}: {error}", "correct AWS_ENDPOINT_URL, or endpoint_url of the profile") from None

    @property
    def region(self) -> str:
        """The region that calls go to.

        :raises NotFound: no region is set.
        """
        region = self._session.get_config_variable("region")
        if region is None:
            raise NotFound("no region is set", "give --region, or set AWS_REGION")
        return str(region)

    def credentials(self) -> tuple[Credentials, datetime | None]:
        """Return the caller's credentials, renewed if possible, and their expiry; None if they have none.

        :raises Denied: there are no credentials.
        :raises CredentialsExpired: they have expired.
        """
        with translate_errors():
            credentials = self._session.get_credentials()
            if credentials is None:
                raise NoCredentialsError
            frozen = _frozen(credentials)
        # botocore has no public way to ask for the expiry.
        expiry: datetime | None = getattr(credentials, "_expiry_time", None)
        return Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token), expiry

    def account(self) -> str | None:
        """Return the account if the caller's credentials name it; AWS is not asked.

        :raises CredentialsExpired: they have expired.
        """
        with translate_errors():
            credentials = self._session.get_credentials()
            return None if credentials is None else getattr(_frozen(credentials), "account_id", None)

    def outputs(self, stack: str) -> Mapping[str, str]:
        """Return the outputs of a CloudFormation stack."""
        with translate_errors(f"stack {stack}"):
            description = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in description.get("Outputs", [])}


def _frozen(credentials: Any) -> Any:
    """Return keys of botocore's credentials, renewed if possible.

    :raises CredentialsExpired: they have expired.
    """
    try:
        return credentials.get_frozen_credentials()
    except RuntimeError:  # botocore's, for credentials that have expired as soon as they were renewed
        raise CredentialsExpired("your credentials have expired", RENEW) from None


def database_arn(aws: Aws, name: str, rds: Any = None, first: str = "") -> str:
    """Return the ARN of the instance, cluster or proxy with that identifier; an ARN is returned as it is.

    Identifiers match exactly: a prefix never counts.

    :param rds: a client with time limits of its own.
    :param first: which of several databases with that identifier is meant: DBInstance, DBCluster or DBProxy.
    :raises NotFound: none has that identifier; similar ones are suggested.
    :raises Denied: it was not found, and the caller may not describe instances or clusters.
    """
    name = lower_identifier(name)
    if is_arn(name):
        return name
    if not name:
        raise Usage("the name of the database is empty", "give its identifier or ARN")
    rds = rds or aws.client("rds")
    denial: Denied | None = None
    # Proxies come last: most names are none of theirs, and few callers may describe them.
    calls = (
        (rds.describe_db_clusters, "DBClusters", "DBCluster", "DBClusterIdentifier"),
        (rds.describe_db_instances, "DBInstances", "DBInstance", "DBInstanceIdentifier"),
        (rds.describe_db_proxies, "DBProxies", "DBProxy", "DBProxyName"),
    )
    for call, key, kind, option in sorted(calls, key=lambda described: described[2] != first):
        try:
            with translate_errors(name):
                databases = call(**{option: name})[key]
        except NotFound:
            continue
        except Denied as error:
            # A caller may be allowed to make one of these calls only, which may find the name.
            denial = denial or (error if kind != "DBProxy" else None)
            continue
        for database in databases:
            if str(database[option]).lower() == name:
                return str(database[f"{kind}Arn"])
    if denial is not None:
        raise denial
    see = "see aws rds describe-db-instances and describe-db-clusters, or name another --region"
    raise NotFound(
        f"no instance and no cluster is named {name} in region {rds.meta.region_name}",
        did_you_mean(name, _identifiers(rds), 3) or see,
    )


def _identifiers(rds: Any) -> list[str]:
    """Return identifiers of instances and clusters, for a suggestion; as far as the caller may list them."""
    names: set[str] = set()
    for call, kind in (("describe_db_clusters", "DBCluster"), ("describe_db_instances", "DBInstance")):
        with suppress(CommandError), translate_errors():
            for page in rds.get_paginator(call).paginate(PaginationConfig={"MaxItems": _LISTED}):
                names.update(database[f"{kind}Identifier"] for database in page[f"{kind}s"])
    return sorted(names)


@contextmanager
def translate_errors(subject: str = "") -> Iterator[None]:
    """Turn errors of botocore into errors of the command that say what to do."""
    prefix = f"{subject}: " if subject else ""
    try:
        yield
    except NoCredentialsError:
        raise Denied(f"{prefix}no AWS credentials", "set AWS_PROFILE, or run aws sso login") from None
    except NoRegionError:
        raise NotFound(f"{prefix}no region is set", "give --region, or set AWS_REGION") from None
    except ProfileNotFound as error:
        raise Denied(f"{prefix}{error}", "see aws configure list-profiles") from None
    except _MISCONFIGURED as error:
        raise Denied(f"{prefix}{error}", "correct the AWS configuration, or name another --profile") from None
    except (InvalidRegionError, ParamValidationError) as error:
        raise Usage(f"{prefix}{' '.join(str(error).split())}", "correct the name, or give another --region") from None
    except ClientError as error:
        raise _refusal(error, prefix) from None
    except _NOT_RENEWED as error:
        raise CredentialsExpired(f"{prefix}{error}", RENEW) from None
    except BotoCoreError as error:
        raise TryAgain(f"{prefix}{error}") from None
    except ResponseParserError:
        # Its text is the whole response: a page of a proxy or of a login to the network.
        raise TryAgain(f"{prefix}the answer is none of AWS's", "see whether a proxy answers for AWS") from None


def _refusal(error: ClientError, prefix: str) -> CommandError:
    code, text = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    problem = f"{prefix}{error.operation_name}: {code} {text}".strip()
    if code in _EXPIRED:
        return CredentialsExpired(f"{problem}; your credentials have expired", RENEW)
    kinds = ((_DENIED, Denied), (_MISSING, NotFound), (_BUSY, TryAgain), (_WRONG, Usage))
    return next((kind(problem) for codes, kind in kinds if code in codes), ExecutionFailed(problem))
