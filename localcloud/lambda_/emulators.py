"""Execution environments of Lambda functions: processes under AWS's runtime interface emulator, pooled per function."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import logging
import os
import platform
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from localcloud.core import hosts, processes

logger = logging.getLogger(__name__)

_OLDEST = 3600.0  # seconds; the credentials of an environment live twice as long
_START_LIMIT = 10.0
_GRACE = 5.0  # seconds beyond the function's own time limit, which the emulator enforces
_PATH = "/2015-03-31/functions/function/invocations"
#: Runs a function in its environment.
RUNTIME = Path(__file__).with_name("runtime.py")


@dataclass(frozen=True)
class DurableConfig:
    """Settings of a durable function: the time limit of an execution, and how long it is kept."""

    execution_timeout: int
    retention_days: int


@dataclass(frozen=True)
class Function:
    """A Lambda function as the template declares it, its environment resolved."""

    logical_id: str
    name: str
    arn: str
    role_arn: str
    handler: str
    code: Path
    layers: tuple[Path, ...]
    environment: Mapping[str, str] = field(repr=False)
    timeout: int = 3
    memory: int = 128
    reserved: int | None = None
    aliases: tuple[str, ...] = ()
    durable: DurableConfig | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of an invocation: the function's answer, or the error as Lambda describes it."""

    payload: bytes = field(repr=False)
    failed: bool = False


class TooManyRequests(Exception):
    """The function's reserved concurrency is zero."""


class EmulatorMissing(Exception):
    """The runtime interface emulator is not installed."""


#: Makes a fresh environment's variables beside the template's: the endpoint and credentials of the role.
Credentials = Callable[[Function], Mapping[str, str]]


def emulator() -> Path:
    """Return the runtime interface emulator, which is a part of AWS SAM CLI.

    :raises EmulatorMissing: SAM CLI is not installed in the folder of `make setup`.
    """
    machine = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")
    library = Path(sys.prefix) / "sam" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    path = library / "site-packages" / "samcli" / "local" / "rapid" / f"aws-lambda-rie-{machine}"
    if not path.exists():
        raise EmulatorMissing(f"there is no {path.name} below {sys.prefix}/sam: run `make setup`")
    return path


class Pool:
    """The execution environments of one function; as on AWS, one runs one invocation at a time.

    :param log: file for the function's output.
    :param largest: largest number at a time, if the function has no smaller concurrency reserved.
    """

    def __init__(self, function: Function, credentials: Credentials, log: Path, largest: int) -> None:
        self.function = function
        self._credentials = credentials
        self._log = log
        size = largest if function.reserved is None else min(function.reserved, largest)
        self._slots = threading.BoundedSemaphore(size) if size else None
        self._idle: list[_Environment] = []
        self._lock = threading.Lock()
        self._all: set[_Environment] = set()
        self._stopped = False

    def invoke(self, payload: bytes, arn: str) -> Outcome:
        """Run the function once, in a warm environment if one is free; wait for a turn if all are busy.

        :param arn: the ARN that the function is invoked by, with its qualifier if it has one.
        :raises TooManyRequests: the function may not run at all.
        """
        if self._slots is None:
            raise TooManyRequests(self.function.name)
        with self._slots:
            environment = self._take()
            try:
                outcome = environment.invoke(payload, arn)
            except _EnvironmentLost as lost:
                self._drop(environment)
                return lost.outcome
            except BaseException:
                self._drop(environment)
                raise
            with self._lock:
                self._idle.append(environment)
            return outcome

    def stop(self) -> None:
        """End all environments, busy ones too."""
        with self._lock:
            self._stopped = True
            environments = list(self._all)
            self._idle.clear()
        for environment in environments:
            self._drop(environment)

    def _take(self) -> _Environment:
        while True:
            with self._lock:
                if self._stopped:
                    raise RuntimeError(f"{self.function.name} is being stopped")
                candidate = self._idle.pop() if self._idle else None
            if candidate is None:
                break
            if candidate.is_fresh():
                return candidate
            self._drop(candidate)
        environment = _Environment(self.function, self._credentials(self.function), self._log)
        with self._lock:
            self._all.add(environment)
        environment.wait_until_listening()
        return environment

    def _drop(self, environment: _Environment) -> None:
        environment.stop()
        with self._lock:
            self._all.discard(environment)


class _EnvironmentLost(Exception):
    """The invocation ended its environment: a crash or a time-out, described by `outcome`."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("execution environment lost")
        self.outcome = outcome


class _Environment:
    def __init__(self, function: Function, credentials: Mapping[str, str], log: Path) -> None:
        self._function = function
        self._born = time.monotonic()
        self._port = processes.free_port()
        self._process = processes.spawn(
            [
                emulator(),
                "--log-level", "warn",
                "--runtime-interface-emulator-address", f"127.0.0.1:{self._port}",
                "--runtime-api-address", f"127.0.0.1:{processes.free_port()}",
                sys.executable, "-P", RUNTIME, function.handler,
            ],
            log=log,
            env={**_base_environment(function), **function.environment, **credentials},
            cwd=function.code,
        )  # fmt: skip

    def is_fresh(self) -> bool:
        return self._process.poll() is None and time.monotonic() - self._born < _OLDEST

    def wait_until_listening(self) -> None:
        deadline = time.monotonic() + _START_LIMIT
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            time.sleep(0.005)
        raise RuntimeError(f"the emulator of {self._function.name} does not listen")

    def invoke(self, payload: bytes, arn: str) -> Outcome:
        """Run one invocation.

        :raises _EnvironmentLost: it crashed or took too long.
        """
        request_id = str(uuid.uuid4())
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._function.timeout + _GRACE)
        try:
            client_context = base64.b64encode(json.dumps({"invoked_function_arn": arn}).encode()).decode()
            headers = {"X-Amzn-RequestId": request_id, "X-Amz-Client-Context": client_context}
            connection.request("POST", _PATH, payload, headers)
            answer = connection.getresponse()
            body = answer.read()
        except TimeoutError:
            raise _EnvironmentLost(_timed_out(request_id, self._function.timeout)) from None
        except (OSError, http.client.HTTPException):
            raise _EnvironmentLost(_crashed(request_id, self._process.poll())) from None
        finally:
            connection.close()
        if answer.status == http.client.OK and body.startswith(b"Task timed out after"):
            raise _EnvironmentLost(_timed_out(request_id, self._function.timeout))
        if answer.status != http.client.OK:
            raise _EnvironmentLost(_as_lambda_says(body, request_id))
        return Outcome(body, failed=_is_error(body))

    def stop(self) -> None:
        # Killed without notice, as AWS ends an environment.
        for child in _children(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        processes.stop(self._process, how=signal.SIGKILL)


def _base_environment(function: Function) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PYTHONPATH": os.pathsep.join(str(path) for path in (function.code, *function.layers)),
        "PYTHONUNBUFFERED": "1",
        **hosts.variables({}),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
        "AWS_LAMBDA_FUNCTION_VERSION": "1" if function.aliases else "$LATEST",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(function.timeout),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": time.strftime("%Y/%m/%d/[$LATEST]") + uuid.uuid4().hex,
    }


def _children(pid: int) -> Iterator[int]:
    """Return the runtime, which the emulator puts into a process group of its own."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def _timed_out(request_id: str, seconds: int) -> Outcome:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    message = f"{stamp} {request_id} Task timed out after {seconds:.2f} seconds"
    return _error("Sandbox.Timedout", message)


def _crashed(request_id: str, code: int | None) -> Outcome:
    how = "signal: killed" if code is None or code < 0 else f"exit status {code}"
    return _error("Runtime.ExitError", f"RequestId: {request_id} Error: Runtime exited with error: {how}")


def _error(error_type: str, message: str) -> Outcome:
    return Outcome(json.dumps({"errorType": error_type, "errorMessage": message}).encode(), failed=True)


def _as_lambda_says(body: bytes, request_id: str) -> Outcome:
    try:
        known = "errorMessage" in json.loads(body)
    except (ValueError, TypeError):
        known = False
    return Outcome(body, failed=True) if known else _crashed(request_id, None)


def _is_error(body: bytes) -> bool:
    """Tell whether the runtime reported an exception, which the emulator returns like an answer."""
    if not body.startswith(b'{"errorMessage"'):
        return False
    report = json.loads(body)
    return isinstance(report, dict) and report.keys() == {"errorMessage", "errorType", "requestId", "stackTrace"}
