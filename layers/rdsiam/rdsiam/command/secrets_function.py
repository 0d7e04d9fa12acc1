"""SecretsFunction, invoked by the command; its errors become errors with an exit code."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rdsiam.command import output
from rdsiam.command.aws import translate_errors
from rdsiam.command.errors import ExecutionFailed, FunctionError, TryAgain, is_known
from rdsiam.command.installation import Installation
from rdsiam.command.output import visible

#: Slightly more than the function's own time limit.
_SECONDS = 310
_PAUSE = 1.0
#: A new version may be missing from this many answers in a row, because Secrets Manager shows it late.
_MAX_MISSING = 3


class SecretsFunction:
    """SecretsFunction, invoked with the caller's credentials."""

    def __init__(self, installation: Installation) -> None:
        self._name = installation.settings.get("secrets_function").value
        self._stopped = threading.Event()
        self._client = installation.aws.client("lambda", read_timeout=_SECONDS)

    def ask(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return the function's answer.

        :raises FunctionError: the function refuses, or raises another error of rdsiam.
        """
        with translate_errors(self._name):
            answer = self._client.invoke(FunctionName=self._name, Payload=json.dumps(payload))
            result = json.load(answer["Payload"])
        if not answer.get("FunctionError"):
            return result if isinstance(result, dict) else {}
        kind, message = str(result.get("errorType")), visible(str(result.get("errorMessage")))
        raise FunctionError(kind, message) if is_known(kind) else ExecutionFailed(f"{self._name}: {kind}: {message}")

    def rotate(self, secret: str, reason: str | None, seconds: float, progress: Callable[[str], None]) -> None:
        """Rotate a secret now, and wait for the end.

        :param progress: called with one line for each new state.
        :raises TryAgain: the rotation has not ended in time.
        """
        if self._stopped.is_set():
            raise TryAgain("not begun: the command was interrupted")
        version = self.ask({"rotate": secret} | ({"reason": reason} if reason else {}))["version"]
        progress(f"began, version {version}")
        try:
            self._wait(secret, version, seconds, progress)
        except KeyboardInterrupt:
            output.progress(f"the rotation of {secret} to version {version} goes on: rdsiam rotate status shows it")
            raise

    def stop_waiting(self) -> None:
        """Let the threads that wait for rotations end soon; the rotations go on."""
        self._stopped.set()

    def _wait(self, secret: str, version: str, seconds: float, progress: Callable[[str], None]) -> None:
        end, state, missing = time.monotonic() + seconds, "", 0
        while True:
            current = self.ask({"show": secret})
            if current["current_version"] == version:
                progress("done")
                return
            if current["state"] != state:
                state = current["state"]
                progress(state)
            missing = 0 if current["pending_since"] else missing + 1
            if missing > _MAX_MISSING:
                raise TryAgain("given up: its version is no longer pending", "see the log of RotateFunction")
            if time.monotonic() > end:
                raise TryAgain(
                    f"not done after {seconds:g} s",
                    "Secrets Manager tries again for some hours; for the cause see the log of RotateFunction",
                )
            if self._stopped.wait(_PAUSE):
                raise TryAgain("interrupted: the rotation goes on", "see rdsiam rotate status")
