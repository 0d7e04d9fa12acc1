"""The patch of moto's DynamoDB: each write is atomic, as conditions depend on it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from localcloud.moto_patches.patch import Patch

#: Reentrant, as a transaction of moto calls the other operations.
_writing = threading.RLock()


def _alone(operation: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(operation)
    def alone(*arguments: Any, **named: Any) -> Any:
        with _writing:
            return operation(*arguments, **named)

    return alone


class Writes(Patch):
    """Writes, one at a time: moto checks a condition and writes in two steps, between which another thread may write.

    Two runs had the same lease at once, and the later one overwrote a policy that the earlier one had written.
    """

    target = "moto.dynamodb.models.DynamoDBBackend"
    changed_values: ClassVar = dict.fromkeys(("put_item", "update_item", "delete_item", "transact_write_items"), _alone)
