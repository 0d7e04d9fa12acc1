"""ConnectRole and its further shards, which sign vended tokens: their ARNs, from the functions' environment."""

import os
from collections.abc import Mapping


def connect_roles(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the ARNs of all shards, ConnectRole first; a shard's number is its position, from 1.

    CloudFormation has named ConnectRole; the others have the name that the template gives them.
    """
    first = environment["RDSIAM_CONNECT_ROLE"]
    stack, region = environment["POWERTOOLS_SERVICE_NAME"], environment["AWS_REGION"]
    account = first.partition(":role/")[0]
    shards = range(2, int(environment["RDSIAM_CONNECT_ROLE_SHARDS"]) + 1)
    return (first, *(f"{account}:role/{stack}-ConnectRole{shard}-{region}" for shard in shards))
