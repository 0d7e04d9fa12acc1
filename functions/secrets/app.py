"""SecretsFunction: sets the schedules of rotations that access.yaml declares, and runs operators' requests."""

import os
from functools import cache
from typing import Any

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.store import AccessStore
from rdsiam.aws import clients
from rdsiam.aws.rds import Databases
from rdsiam.aws.result_store import ResultStore
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.aws.secrets.schedules import RotatingSecrets
from rdsiam.aws.secrets.value import PasswordRules
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.core import log_keys
from rdsiam.core.large_answers import bounded
from rdsiam.core.observability import logger, logs_invocation
from rdsiam.engines.logins import Logins
from rdsiam.events import aliases
from rdsiam.events.aliases import check_alias
from rdsiam.events.secrets import SecretsRequest, secrets_request
from rdsiam.rotation.operations import RotationOperations
from rdsiam.rotation.results import ScheduleOptions
from rdsiam.rotation.schedules import Schedules
from rdsiam.rotation.services import RotationServices
from rdsiam.rotation.targets import Targets
from rdsiam.state.applied_access import AppliedAccess
from rdsiam.state.inventory import Inventory


@logs_invocation
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Run the request of the event; its answer holds no value of a secret."""
    request = secrets_request(event)
    log_keys.add_request(request)
    check_alias(aliases.SECRETS, context, event)
    if request.action == "apply":
        return _apply(request)
    return _operate(RotationOperations(_services()), request)


def _apply(request: SecretsRequest) -> dict[str, Any]:
    options = ScheduleOptions(
        request.user, request.plan, request.confirm, request.secret or None, withdraw=request.withdraw
    )
    schedules = Schedules(_services()).apply(request.database, options)
    reason = str(schedules.refusal or "")
    logger.info("schedules applied", database=schedules.database, status=schedules.status, reason=reason)
    return bounded(schedules.to_json(), _results())


def _operate(operations: RotationOperations, request: SecretsRequest) -> dict[str, Any]:
    match request.action:
        case "list":
            statuses = [status.to_json() for status in operations.list(request.databases)]
            return {"secrets": statuses, "skipped": operations.skipped}
        case "show":
            return operations.show(request.secret).to_json()
        case "rotate":
            return {"secret": request.secret, "version": operations.rotate(request.secret, request.reason)}
        case "unstick":
            return operations.unstick(request.secret, request.plan).to_json()
        case _:
            return operations.sessions(request.secret).to_json()


@cache
def _results() -> ResultStore:
    return ResultStore(clients.client("s3"), os.environ["RDSIAM_RESULT_BUCKET"], "Secrets")


@cache
def _services() -> RotationServices:
    secrets_manager = SecretsManager(clients.client("secretsmanager"))
    dynamodb, table = clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"]
    inventory = Inventory(dynamodb, table)
    newest = AccessStore(clients.client("s3"), os.environ["RDSIAM_ACCESS_BUCKET"], max_age=0)
    return RotationServices(
        databases=_databases(),
        targets=Targets(clients.client("rds"), inventory),
        access=ConfirmedAccess(newest, AppliedAccess(dynamodb, table).version, max_age=0),
        inventory=inventory,
        logins=Logins(None, None, ""),  # the manager signs its own tokens: neither the master's secret nor other roles
        secrets=RotatingSecrets(secrets_manager, os.environ["RDSIAM_ROTATE_FUNCTION"], newest.names_user),
        store=SecretStore(secrets_manager),
        rules=PasswordRules(int(os.environ["RDSIAM_PASSWORD_LENGTH"]), os.environ.get("RDSIAM_PASSWORD_EXCLUDE", "")),
    )


def _databases() -> Databases:
    return Databases(clients.client("rds"), os.environ["RDSIAM_ROTATE_FUNCTION"])
