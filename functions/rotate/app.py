"""RotateFunction: Secrets Manager's four steps. It returns nothing, and raises if a step has to be repeated."""

import os
from functools import cache
from typing import Any

from rdsiam.aws import clients
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.aws.secrets.value import PasswordRules
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.core import log_keys
from rdsiam.core.observability import logger, logs_invocation
from rdsiam.events.aliases import check_no_version
from rdsiam.events.rotate import rotation_request
from rdsiam.rotation.steps import Rotation
from rdsiam.rotation.targets import Targets
from rdsiam.state.inventory import Inventory


@logs_invocation
def handler(event: dict[str, Any], context: Any) -> None:
    """Run the step that the event names."""
    check_no_version(context)
    request = rotation_request(event)
    log_keys.add(step=request.step, secret=request.secret, version=request.token)
    try:
        outcome = _rotation().run(request)
    except Exception as error:
        logger.error("rotation step failed: %s", error)
        raise
    logger.info("rotation step done", outcome=outcome)


@cache
def _rotation() -> Rotation:
    return Rotation(
        SecretStore(SecretsManager(clients.client("secretsmanager"))),
        Targets(clients.client("rds"), Inventory(clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"])),
        PasswordRules(int(os.environ["RDSIAM_PASSWORD_LENGTH"]), os.environ.get("RDSIAM_PASSWORD_EXCLUDE", "")),
    )
