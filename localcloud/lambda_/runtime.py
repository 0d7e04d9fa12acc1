"""Runs a function under AWS's runtime client, with the ARN that it was invoked by.

AWS's emulator gives every function the same ARN. The real one comes as the client context, which nothing here uses.
This file is run by its path, outside the package, so that functions can't import localcloud.

While a function's modules are loaded, which frees nothing, the garbage collector is off: a tenth of a cold start.
"""

import gc
import sys
from typing import Any

from awslambdaric import bootstrap
from awslambdaric.__main__ import main

_create = bootstrap.create_lambda_context


def _with_the_real_arn(client_context: str | None, *arguments: Any) -> Any:
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    context = _create(None, *arguments)
    if client_context:
        named = bootstrap.parse_json_header(client_context, "Client Context")
        context.invoked_function_arn = named["invoked_function_arn"]
    return context


if __name__ == "__main__":
    gc.disable()
    bootstrap.create_lambda_context = _with_the_real_arn
    main(sys.argv)
