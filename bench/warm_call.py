"""The cost of a warm POST /tokens in the handler: run by bench.vending in a process with a function's environment.

`python -m bench.warm_call FOLDER` reads an event from stdin and writes one line of JSON to stderr: milliseconds of CPU
of one call, the median without what goes to AWS and comes back, and how many AWS calls that one made.
"""

import importlib
import json
import statistics
import sys
import time
import types
from collections import Counter
from typing import Any
from unittest.mock import patch

CALLS = 500


def main() -> None:
    """Call the handler in FOLDER once for real, then many times with what travels to AWS cut off and counted."""
    sys.path.insert(0, sys.argv[1])
    handler = importlib.import_module("app").handler
    event = json.load(sys.stdin)
    context = types.SimpleNamespace(
        aws_request_id="6e1f0b3c-8a52-4f0e-9d0b-0d6ce2d1d1f1", function_name="vend", memory_limit_in_mb=1024,
        invoked_function_arn="arn:aws:lambda:eu-central-1:123456789012:function:vend:live",
    )  # fmt: skip
    _check(handler(event, context))
    counted = _cut_off()
    taken = []
    for _ in range(CALLS):
        began = time.process_time()
        answer = handler(event, context)
        taken.append((time.process_time() - began) * 1000)
        _check(answer)
    made = {operation: number / CALLS for operation, number in counted.items()}
    sys.stderr.write(json.dumps({"milliseconds": statistics.median(taken), "calls": made}) + "\n")


def _check(answer: dict[str, Any]) -> None:
    if "X-Amz-Signature=" not in json.loads(answer["body"])["token"]:
        raise RuntimeError(f"no token: status {answer['statusCode']}")


def _cut_off() -> Counter[str]:
    """Answer every call to AWS as PutItem is answered, on either way there is; return the count by operation."""
    from botocore.endpoint import Endpoint

    from rdsiam.aws import fast_clients

    counted: Counter[str] = Counter()

    def send(_: object, method: str, path: str, headers: dict[str, str], body: bytes, query: str = "") -> Any:
        counted[headers.get("x-amz-target", "").rpartition(".")[2] or f"{method} {path}"] += 1
        return 200, {}, b"{}"

    def make_request(_: object, operation: Any, request: object) -> Any:
        counted[operation.name] += 1
        return types.SimpleNamespace(status_code=200, headers={}), {"ResponseMetadata": {"HTTPStatusCode": 200}}

    patch.object(fast_clients._Endpoint, "send", send).start()
    patch.object(Endpoint, "make_request", make_request).start()
    return counted


if __name__ == "__main__":
    main()
