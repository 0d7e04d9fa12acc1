"""MigrateFunction: moves a user from its password to tokens, over days, on an operator's request."""

import os
from functools import cache
from typing import Any

from aws_durable_execution_sdk_python import DurableContext, durable_execution

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.store import AccessStore
from rdsiam.aws import clients
from rdsiam.aws.rds import Databases
from rdsiam.aws.result_store import ResultStore
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.core import log_keys
from rdsiam.core.durable import answered, logs_execution
from rdsiam.core.observability import logger
from rdsiam.engines.logins import Logins
from rdsiam.events import aliases
from rdsiam.events.aliases import check_alias
from rdsiam.events.migrate import MigrationStatusRequest, migrate_request
from rdsiam.migration import flow
from rdsiam.migration.secret_retirement import MigratingSecrets
from rdsiam.migration.services import MigrationServices
from rdsiam.state.applied_access import AppliedAccess
from rdsiam.state.inventory import Inventory
from rdsiam.state.leases import Leases
from rdsiam.state.migrations import Migrations

#: Bytes of JSON of the list of migrations: Lambda accepts 6 MB in all.
_LONGEST_STATUS = 4_000_000


@durable_execution
@logs_execution
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    """Migrate the user that the event names, undo that, or return the state of migrations."""
    request = migrate_request(event)
    log_keys.add_request(request)
    if not context.is_replaying():
        check_alias(aliases.MIGRATE, context.lambda_context, event)
    if isinstance(request, MigrationStatusRequest):
        return answered(context, _services().results, flow.status(_services(), request.database), _LONGEST_STATUS)
    answer = flow.migrate(context, _services(), request)
    logger.info("migration ended", database=request.database, user=request.user, status=answer.status)
    return answered(context, _services().results, answer.to_json())


@cache
def _services() -> MigrationServices:
    dynamodb, secrets_manager = clients.client("dynamodb"), SecretsManager(clients.client("secretsmanager"))
    table, proof_role = os.environ["RDSIAM_INVENTORY_TABLE"], os.environ["RDSIAM_PROOF_ROLE"]
    inventory = Inventory(dynamodb, table)
    newest = AccessStore(clients.client("s3"), os.environ["RDSIAM_ACCESS_BUCKET"], max_age=0)
    return MigrationServices(
        databases=Databases(clients.client("rds"), proof_role),
        access=ConfirmedAccess(newest, AppliedAccess(dynamodb, table).version, max_age=0),
        inventory=inventory,
        leases=Leases(dynamodb, table),
        logins=Logins(secrets_manager, clients.client("sts"), proof_role),
        migrations=Migrations(dynamodb, table),
        secrets=MigratingSecrets(secrets_manager, inventory),
        results=ResultStore(clients.client("s3"), os.environ["RDSIAM_RESULT_BUCKET"], "Migrate"),
        functions=clients.client("lambda"),
        onboard_function=os.environ["RDSIAM_ONBOARD_FUNCTION"],
        # Its own alias for this, which the template can't name in the function's own environment.
        migrate_function=f"{os.environ['AWS_LAMBDA_FUNCTION_NAME']}:continue",
    )
