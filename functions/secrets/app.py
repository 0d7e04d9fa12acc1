"""SecretsFunction: sets the schedules of rotations as access.yaml says, and looks after rotations for operators."""

import os
from functools import cache
from typing import Any

from rdsiam.access.store import AccessStore
from rdsiam.aws import clients
from rdsiam.aws.rds import Databases
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.aws.secrets.schedules import RotatingSecrets
from rdsiam.aws.secrets.value import PasswordRules
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.core.observability import logger
from rdsiam.engines.logins import Logins
from rdsiam.events import aliases
from rdsiam.events.aliases import check_alias
from rdsiam.events.secrets import SecretsRequest, secrets_request
from rdsiam.rotation.new_secrets import Services
from rdsiam.rotation.operations import Watch
from rdsiam.rotation.schedules import Schedules
from rdsiam.rotation.targets import Targets
from rdsiam.state.inventory import Inventory


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Do what the event asks for, and answer without a value of any secret."""
    request = secrets_request(event)
    check_alias(aliases.SECRETS, context, event)
    if request.action == "apply":
        applied = Schedules(_services()).follow(
            request.database, request.user, request.plan, request.confirm, request.secret or None, request.withdraw
        )
        answer = applied.to_json()
        logger.info("schedules done", database=answer["database"], status=answer["status"], reason=answer["reason"])
        return answer
    return _watched(_watch(), request)


def _watched(watch: Watch, request: SecretsRequest) -> dict[str, Any]:
    match request.action:
        case "list":
            return {
                "secrets": [one.to_json() for one in watch.list(request.databases)],
                "skipped": watch.secrets.skipped,
            }
        case "show":
            return watch.show(request.secret).to_json()
        case "rotate":
            return {"secret": request.secret, "version": watch.rotate(request.secret, request.reason)}
        case "unstick":
            return watch.unstick(request.secret, request.plan)
        case _:
            return watch.sessions(request.secret)


@cache
def _services() -> Services:
    secrets_manager = SecretsManager(clients.client("secretsmanager"))
    inventory = Inventory(clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"])
    return Services(
        databases=_databases(),
        targets=Targets(clients.client("rds"), inventory),
        access=AccessStore(clients.client("s3"), os.environ["RDSIAM_ACCESS_BUCKET"], max_age=0),
        inventory=inventory,
        logins=Logins(None, None, ""),  # the manager signs its own tokens: neither the master's secret nor other roles
        secrets=RotatingSecrets(secrets_manager, os.environ["RDSIAM_ROTATE_FUNCTION"]),
        store=SecretStore(secrets_manager),
        rules=PasswordRules(int(os.environ["RDSIAM_PASSWORD_LENGTH"]), os.environ.get("RDSIAM_PASSWORD_EXCLUDE", "")),
    )


@cache
def _watch() -> Watch:
    services = _services()
    return Watch(services.databases, services.targets, services.secrets, services.store, services.inventory)


def _databases() -> Databases:
    return Databases(clients.client("rds"), os.environ["RDSIAM_ROTATE_FUNCTION"])
