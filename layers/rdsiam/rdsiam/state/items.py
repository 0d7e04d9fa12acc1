"""Items of InventoryTable, many at once."""

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rdsiam.core.batches import batched

#: DynamoDB's limit for one BatchGetItem.
_AT_ONCE = 100
_ATTEMPTS = 8


def items_of(dynamodb: Any, table: str, arns: Iterable[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield ARN and item of every database that has an item, by consistent reads.

    :raises RuntimeError: DynamoDB left keys unanswered several times, which it does while it is overloaded.
    """
    for some in batched(sorted(set(arns)), _AT_ONCE):
        keys = {"Keys": [{"database": {"S": arn}} for arn in some], "ConsistentRead": True}
        request = {table: keys}
        for attempt in range(_ATTEMPTS):
            answer = dynamodb.batch_get_item(RequestItems=request)
            for item in answer["Responses"].get(table, ()):
                yield item["database"]["S"], item
            request = answer.get("UnprocessedKeys", {})
            if not request:
                break
            time.sleep(random.random() * min(0.1 * 2**attempt, 5))  # noqa: S311
        else:
            raise RuntimeError(f"DynamoDB left keys of {table} unanswered {_ATTEMPTS} times")
