"""Where moto does otherwise than AWS, and what it does instead: every patch of moto stands here.

Patches change moto's classes for the whole process, so `close_gaps` is called once, before anything is served.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import secrets
import string
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from moto import settings as moto_settings
from moto.core.config import default_user_config
from moto.core.responses import ActionResult
from moto.events import models as events_models
from moto.events.models import events_backends
from moto.iam.access_control import PermissionResult
from moto.iam.models import iam_backends
from moto.rds import models as rds_models
from moto.rds.exceptions import RDSClientError
from moto.s3 import utils as s3_utils
from moto.s3.models import FakeBucket
from moto.sts import models as sts_models
from moto.sts import responses as sts_responses
from moto.sts.exceptions import STSClientError, STSValidationError

logger = logging.getLogger(__name__)

#: Versions that RDS offers today; moto has none for MariaDB, and ancient ones for the others.
ENGINE_VERSIONS = {"postgres": "18.1", "mariadb": "10.11.11", "mysql": "8.4.7"}
# What a master password may consist of on every engine, and what needs no quoting anywhere.
_PASSWORD_CHARACTERS = string.ascii_letters + string.digits + "!#*+-.=?_~"
_PASSWORD_LENGTH = 32
_ONE_HOUR = 3600


class RdsHooks(Protocol):
    """What becomes of instances after the API has answered; each call returns at once."""

    def created(self, instance: Any, password: str) -> None:
        """`instance` was asked for; its administrator is to have `password`."""

    def modified(self, instance: Any, *, iam: bool | None, password: str | None) -> None:
        """IAM authentication is to be switched, or the administrator to get another password, now."""

    def deleted(self, instance: Any, forget: Callable[[], None]) -> None:
        """`instance` is to go; `forget` takes it out of Describe."""


#: Takes the ARN of a Lambda function, that of the rule that calls it, and an event for it; returns at once.
Deliver = Callable[[str, str, dict[str, Any]], None]


def close_gaps(rds: RdsHooks, deliver: Deliver) -> None:
    """Patch moto. Call once in a process, before its first request."""
    # AWS has its managed policies in every account; moto leaves them out. It would also start containers.
    default_user_config["iam"]["load_aws_managed_policies"] = True
    default_user_config["lambda"]["use_docker"] = False
    os.environ["VALIDATE_LAMBDA_S3"] = "false"  # code is run from where it lies, not from a bucket
    # The judge reads the bucket from the path: a host name must not tell moto another one.
    moto_settings.S3_IGNORE_SUBDOMAIN_BUCKETNAME = s3_utils.S3_IGNORE_SUBDOMAIN_BUCKETNAME = True
    _close_rds(rds)
    _close_rds_secrets()
    _close_events(deliver)
    _close_sts()
    # AWS: bucket policies are judged with their conditions. moto: ignores conditions, so that every Deny denies all.
    FakeBucket.get_permission = lambda *_: PermissionResult.NEUTRAL


def publish_rds_event(account: str, region: str, instance: str, detail: Mapping[str, Any]) -> None:
    """Put an event about an instance on the default bus. AWS does; moto never does."""
    events_backends[account][region].put_events([{
        "Source": "aws.rds",
        "DetailType": "RDS DB Instance Event",
        "Resources": [instance],
        "Detail": json.dumps(detail),
    }])  # fmt: skip


def secret_password(instance: Any) -> str:
    """Return the password that RDS keeps in Secrets Manager for an instance."""
    version = instance.master_user_secret.secret.versions[instance.master_user_secret.secret.default_version_id]
    return str(json.loads(version["secret_string"])["password"])


def _close_rds(hooks: RdsHooks) -> None:
    instance_class, backend_class = rds_models.DBInstance, rds_models.RDSBackend
    create, modify, delete = (
        backend_class.create_db_instance,
        backend_class.modify_db_instance,
        backend_class.delete_db_instance,
    )
    instance_class.default_engine_versions.update(ENGINE_VERSIONS)
    # AWS: no Endpoint until the instance has one. moto: one from the start, under a name that resolves nowhere.
    instance_class.endpoint = property(lambda self: getattr(self, "local_endpoint", None))
    # AWS: what has been asked for and not been applied yet. moto: nothing.
    instance_class.pending_modified_values = property(lambda self: getattr(self, "local_pending", None) or None)

    def create_db_instance(backend: Any, kwargs: Any) -> Any:
        password = kwargs.get("master_user_password")
        if kwargs.get("db_cluster_identifier") is None:
            _check_password(password, managed=kwargs.get("manage_master_user_password"))
        instance = create(backend, kwargs)
        # AWS: a resource id for each instance. moto: the same one for all.
        instance.dbi_resource_id = "db-" + "".join(
            secrets.choice(string.ascii_uppercase + string.digits) for _ in range(26)
        )
        # AWS: creating, backing-up, available. moto: available at once.
        instance.status = "creating"
        if instance.manage_master_user_password:
            password = secret_password(instance)
        hooks.created(instance, password or "")
        return instance

    def modify_db_instance(backend: Any, identifier: str, kwargs: Any) -> Any:
        instance = backend.describe_db_instances(identifier)[0]
        _check_available(instance)
        wanted = dict(kwargs.items())
        iam = wanted.pop("enable_iam_database_authentication", None)
        password = wanted.pop("master_user_password", None)
        if password is not None:
            _check_password(password, managed=False)
        was_managed = instance.manage_master_user_password
        modify(backend, instance.db_instance_identifier, wanted)
        if instance.manage_master_user_password and not was_managed:
            password = secret_password(instance)
        # AWS: IAM authentication is switched some time later, and without ApplyImmediately in the next maintenance
        # window; ApplyImmediately also applies whatever was pending. moto: nothing is ever pending.
        pending = dict(getattr(instance, "local_pending", {}))
        if iam is not None and iam != instance.enable_iam_database_authentication:
            pending["IAMDatabaseAuthenticationEnabled"] = iam
        elif iam is not None:
            pending.pop("IAMDatabaseAuthenticationEnabled", None)
        if password is not None:
            pending["MasterUserPassword"] = "****"
        instance.local_pending = pending
        answer = copy.copy(instance)
        now = pending.get("IAMDatabaseAuthenticationEnabled") if wanted.get("apply_immediately") else None
        if now is not None or password is not None:
            hooks.modified(instance, iam=now, password=password)
        return answer

    def delete_db_instance(backend: Any, db_instance_identifier: str, *args: Any, **kwargs: Any) -> Any:
        instance = backend.describe_db_instances(db_instance_identifier)[0]
        if instance.status == "deleting":
            raise _invalid_state(f"Instance {instance.db_instance_identifier} is already being deleted.")
        identifier = instance.db_instance_identifier
        deleted = delete(backend, identifier, *args, **kwargs)
        # AWS: deleting, for a while. moto: gone at once.
        backend.databases[identifier] = deleted
        hooks.deleted(deleted, lambda: backend.databases.pop(identifier, None))
        return deleted

    backend_class.create_db_instance = create_db_instance
    backend_class.modify_db_instance = modify_db_instance
    backend_class.delete_db_instance = delete_db_instance


def _close_rds_secrets() -> None:
    # AWS: the administrator's name and a random password. moto: the same fixed pair for all.
    def secret_string(self: Any) -> str:
        password = "".join(secrets.choice(_PASSWORD_CHARACTERS) for _ in range(_PASSWORD_LENGTH))
        return json.dumps({"username": self.resource.master_username, "password": password})

    rds_models.MasterUserSecret._generate_secret_string = secret_string


def _close_events(deliver: Deliver) -> None:
    send = events_models.Rule.send_to_targets

    def send_to_targets(rule: Any, event: Any, transform_input: bool = True) -> None:
        # AWS: a rule that has a schedule alone takes no events. moto: to it no pattern is one that all events match.
        if rule.event_pattern.dump() is None:
            return
        # AWS: disabled rules do nothing. moto: ignores the state.
        if rule.state != "ENABLED" or not rule.event_pattern.matches_event(event):
            return
        functions = [target for target in rule.targets if target["Arn"].startswith("arn:aws:lambda:")]
        for target in functions:
            # AWS: Lambda functions are targets. moto: NotImplementedError.
            deliver(target["Arn"], rule.arn, _as_sent(event))
        if len(functions) < len(rule.targets):
            others = copy.copy(rule)
            others.targets = [target for target in rule.targets if target not in functions]
            send(others, event, transform_input)

    events_models.Rule.send_to_targets = send_to_targets


def _as_sent(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as EventBridge sends it: moto's has the time as a number and a key of its own."""
    sent = copy.deepcopy(dict(event))
    sent.pop("ingestion-time", None)
    if isinstance(sent.get("time"), int | float):
        sent["time"] = datetime.fromtimestamp(sent["time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return sent


def _close_sts() -> None:
    def assume_role(self: Any) -> ActionResult:
        role_arn, duration = self._get_param("RoleArn"), self._get_int_param("DurationSeconds", _ONE_HOUR)
        caller = self.backend.get_caller_identity(self.get_access_key(), self.region)[1]
        role = _role(role_arn)
        if role is None:
            # AWS: a role that doesn't exist and one that doesn't trust are refused alike. moto: makes one up.
            raise STSClientError(
                "AccessDenied", f"User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
            )
        _check_duration(duration, role, chained=":assumed-role/" in caller)
        session = self.backend.assume_role(
            region_name=self.region,
            role_session_name=self._get_param("RoleSessionName"),
            role_arn=role_arn,
            policy=self._get_param("Policy"),
            duration=duration,
            external_id=self._get_param("ExternalId"),
        )
        # AWS: the source identity and the tags stay with the session. moto: drops them.
        session.source_identity = self._get_param("SourceIdentity")
        session.tags = self.params.get("Tags") or []
        answer = {
            "Credentials": session,
            "AssumedRoleUser": {"AssumedRoleId": session.user_id, "Arn": session.arn},
            "PackedPolicySize": 6,
        }
        if session.source_identity:
            answer["SourceIdentity"] = session.source_identity
        return ActionResult(answer)

    sts_responses.TokenResponse.assume_role = assume_role


def _role(arn: str) -> Any | None:
    for account in list(iam_backends):
        for role in list(iam_backends[account]["aws"].roles.values()):
            if role.arn == arn:
                return role
    return None


def _check_duration(duration: int, role: Any, *, chained: bool) -> None:
    # AWS: up to what the role allows, and an hour for a session that assumes another role. moto: anything.
    largest = int(role.max_session_duration or _ONE_HOUR)
    if not 900 <= duration <= 43_200:
        raise STSValidationError(
            f"1 validation error detected: Value '{duration}' at 'durationSeconds' is not in range"
        )
    if chained and duration > _ONE_HOUR:
        raise STSValidationError(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        )
    if duration > largest:
        raise STSValidationError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")


def _check_available(instance: Any) -> None:
    # AWS: an instance that is being made, saved or removed can't be modified. moto: always can.
    if instance.status != "available":
        raise _invalid_state(f"Database instance is not in available state: {instance.db_instance_identifier}.")


def _invalid_state(message: str) -> Exception:
    error: Exception = RDSClientError("InvalidDBInstanceState", message)
    return error


def _check_password(password: str | None, *, managed: bool | None) -> None:
    # AWS: one password and one only, of 8 and more characters without / " @ and space. moto: takes anything.
    if managed and password:
        raise RDSClientError(
            "InvalidParameterCombination",
            "You can't specify MasterUserPassword for an instance with ManageMasterUserPassword enabled.",
        )
    if not managed and not password:
        raise RDSClientError("InvalidParameterValue", "The parameter MasterUserPassword must be provided.")
    if password and (len(password) < 8 or set('/"@ ') & set(password) or not password.isprintable()):
        raise RDSClientError(
            "InvalidParameterValue",
            "The parameter MasterUserPassword is not a valid password. Only printable ASCII "
            "characters besides '/', '@', '\"', ' ' may be used, at least 8 of them.",
        )


# Instances hold what these patches add under names of their own, so that moto never meets them.
sts_models.AssumedRole.source_identity = None
