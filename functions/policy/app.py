"""PolicyFunction: writes the IAM policies of one database, from access.yaml and Describe alone."""

import os
from functools import cache
from typing import Any

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.store import AccessStore
from rdsiam.aws import clients
from rdsiam.aws.rds import Databases
from rdsiam.aws.result_store import ResultStore
from rdsiam.core import log_keys
from rdsiam.core.connect_roles import connect_roles
from rdsiam.core.large_answers import bounded
from rdsiam.core.observability import logger, logs_invocation
from rdsiam.events.aliases import check_no_version
from rdsiam.events.policy import policy_request
from rdsiam.policies.iam_policies import ConnectPolicies
from rdsiam.policies.role_policies import Stack
from rdsiam.policies.shards import ConnectRoles
from rdsiam.policies.writer import Assumptions, PolicyWriter
from rdsiam.state.applied_access import AppliedAccess
from rdsiam.state.inventory import Inventory
from rdsiam.state.leases import Leases
from rdsiam.state.role_leases import RoleLeases


@logs_invocation
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Write, or plan, the policies of the database that the event names."""
    check_no_version(context)
    request = policy_request(event)
    log_keys.add_request(request)
    writer = _writer()
    if request.withdraw:
        written = writer.withdraw(request.database)
    elif request.plan:
        written = writer.plan(request.database, Assumptions(request.assume_revoked, request.confirm))
    else:
        written = writer.write(request.database)
    logger.info(
        "policies done",
        database=request.database,
        status=written.status,
        code=written.code,
        reason=written.reason,
        incomplete=[part.reason for part in written.incomplete],
    )
    return bounded(written.to_json(), _results())


@cache
def _results() -> ResultStore:
    return ResultStore(clients.client("s3"), os.environ["RDSIAM_RESULT_BUCKET"], "Policy")


@cache
def _writer() -> PolicyWriter:
    roles = ConnectRoles(connect_roles())
    stack = Stack(os.environ["AWS_REGION"], os.environ["POWERTOOLS_SERVICE_NAME"])
    dynamodb, table = clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"]
    newest = AccessStore(clients.client("s3"), os.environ["RDSIAM_ACCESS_BUCKET"], max_age=0)
    return PolicyWriter(
        Databases(clients.client("rds"), roles.arns[0]),
        ConfirmedAccess(newest, AppliedAccess(dynamodb, table).version, max_age=0),
        Inventory(dynamodb, table),
        ConnectPolicies(clients.client("iam"), stack, roles.arns, int(os.environ["RDSIAM_POLICIES_PER_ROLE"])),
        roles,
        RoleLeases(Leases(dynamodb, table)),
    )
