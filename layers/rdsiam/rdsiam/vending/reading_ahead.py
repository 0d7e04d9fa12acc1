"""Reading ahead: a cold VendFunction reads access.yaml and its applied version while it loads its modules.

Import it before them, and take the clients from here. See docs/decisions/0020-cold-start.md.
"""

import os
from functools import cache

from rdsiam.aws import fast_clients
from rdsiam.state.applied_access import AppliedAccess

#: AWS sets it in every function.
_IN_LAMBDA = "AWS_LAMBDA_RUNTIME_API"
#: How AWS starts a function; a test and the emulator don't say it.
_ON_DEMAND = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") == "on-demand"

#: Returns the client of a service, always the same one; see `fast_clients.client`.
client = cache(fast_clients.client)


def _begin() -> None:
    dynamodb, s3 = client("dynamodb"), client("s3")
    if isinstance(dynamodb, fast_clients.DynamoDb) and isinstance(s3, fast_clients.S3):
        s3.begin_get_object(Bucket=os.environ["RDSIAM_ACCESS_BUCKET"], Key="access.yaml")
        AppliedAccess(dynamodb, os.environ["RDSIAM_INVENTORY_TABLE"]).begin_reading()


# Otherwise the function waits for its first request, with a snapshot's credentials or for hours.
if _ON_DEMAND and _IN_LAMBDA in os.environ:
    _begin()
