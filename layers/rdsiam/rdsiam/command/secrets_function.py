"""SecretsFunction as the command asks it: one call, one answer, and its refusals as errors with an exit code."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from rdsiam.command.aws import Aws, told
from rdsiam.command.errors import Different, ExecutionFailed, NotFound, TryAgain, Usage
from rdsiam.command.output import visible
from rdsiam.command.settings import Settings

#: The function's own time limit, and some more.
_SECONDS = 310
_PAUSE = 1.0
#: So often a version may not be seen, which was made a moment ago.
_SURELY = 3
#: What the function raises, and what that is here.
_ERRORS: Mapping[str, type[Exception]] = {
    "Refused": Different,
    "InvalidRequest": Usage,
    "DatabaseNotFound": NotFound,
    "DatabaseNotReady": TryAgain,
    "ConnectionFailed": TryAgain,
    "EndpointUnreachable": TryAgain,
    "AccessFileUnavailable": TryAgain,
}


class SecretsFunction:
    """SecretsFunction, asked with the caller's credentials.

    :param name: its name or ARN; None for the stack's output.
    """

    def __init__(self, aws: Aws, name: str | None, stack: str | None) -> None:
        settings = Settings({"secrets_function": name, "stack": stack}, aws.outputs)
        self._name = settings.get("secrets_function", "SecretsFunction").value
        self._client = aws.client("lambda", read_timeout=_SECONDS)

    def ask(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return the function's answer.

        :raises Different: it refuses, and says why.
        """
        with told(self._name):
            answer = self._client.invoke(FunctionName=self._name, Payload=json.dumps(payload))
            result = json.load(answer["Payload"])
        if not answer.get("FunctionError"):
            return result if isinstance(result, dict) else {}
        kind, message = str(result.get("errorType")), visible(str(result.get("errorMessage")))
        raise _ERRORS.get(kind, ExecutionFailed)(message if kind in _ERRORS else f"{self._name}: {kind}: {message}")

    def rotate(self, secret: str, reason: str | None, seconds: float, tell: Callable[[str], None]) -> None:
        """Rotate a secret now, and wait until that is done.

        :param tell: told of what it has come to, one line each time.
        :raises TryAgain: it has not ended after so many seconds.
        """
        version = self.ask({"rotate": secret} | ({"reason": reason} if reason else {}))["version"]
        tell(f"began, version {version}")
        end, state, lost = time.monotonic() + seconds, "", 0
        while True:
            shown = self.ask({"show": secret})
            if shown["current_version"] == version:
                tell("done")
                return
            if shown["state"] != state:
                state = shown["state"]
                tell(state)
            lost = 0 if shown["pending_since"] else lost + 1
            if lost > _SURELY:
                raise TryAgain("given up: its version is pending no more; the log of RotateFunction says why")
            if time.monotonic() > end:
                raise TryAgain(
                    f"not done after {seconds:g} s; Secrets Manager tries again for some hours, and the cause is in "
                    "the log of RotateFunction"
                )
            time.sleep(_PAUSE)
