"""Durable executions of Lambda functions, run by AWS's own local runner in a process of its own."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from localcloud.core import processes
from localcloud.core.tails import last_lines
from localcloud.core.web import Request, Response
from localcloud.lambda_.emulators import Function, Outcome
from localcloud.lambda_.quotas import Quotas, check_payloads

logger = logging.getLogger(__name__)

#: Lambda answers a synchronous invocation after 15 minutes at the latest.
LONGEST_WAIT = 900.0
_START_LIMIT = 30.0
_CHECKPOINT = re.compile(r"/2025-12-01/durable-executions/(?P<execution>.+)/checkpoint/?")
_ENDED = {"SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED"}


class ExecutionAlreadyStarted(Exception):
    """An execution of this name has another payload."""


class RunnerFailed(Exception):
    """AWS's local runner did not start, or answered with an error."""


@dataclass(frozen=True)
class Execution:
    """A started execution, by its ARN."""

    arn: str


class Runner:
    """AWS's local runner: keeps executions and their checkpoints, and invokes the handlers when there is work.

    :param endpoint: address that it invokes functions at.
    :param credentials: credentials that it signs with, as environment variables.
    :param environments: largest number of environments of a function at a time.
    """

    def __init__(
        self,
        endpoint: str,
        region: str,
        account: str,
        credentials: Mapping[str, str],
        directory: Path,
        log: Path,
        environments: int,
    ) -> None:
        self._endpoint = endpoint
        self._region = region
        self._account = account
        self._credentials = credentials
        self._directory = directory
        self._log = log
        self._environments = environments
        self._port = processes.free_port()
        self._process: processes.Process | None = None
        self._lock = threading.Lock()
        self._quotas = Quotas()
        self._names: dict[tuple[str, str, str], tuple[str, Execution]] = {}

    def start(self, functions: Iterable[tuple[str, Mapping[str, Any] | None]]) -> None:
        """Start the runner.

        :param functions: names of all functions that may be invoked, and their DurableConfig if they have one.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        configs = self._directory / "functions.json"
        configs.write_text(
            json.dumps({name: {"DurableConfig": config} if config else {} for name, config in functions})
        )
        self._process = processes.spawn(
            [
                Path(sys.executable).with_name("dex-local-runner"), "start-server",
                "--host", "127.0.0.1", "--port", str(self._port), "--log-level", "WARNING",
                "--lambda-endpoint", self._endpoint,
                "--local-runner-endpoint", f"http://127.0.0.1:{self._port}",
                "--local-runner-region", self._region,
                "--store-type", "memory",
                "--function-configs", f"file://{configs}",
            ],
            log=self._log,
            env={
                "PATH": os.defpath,
                "LANG": "C.UTF-8",
                "HOME": str(self._directory),
                # It has a thread for each processor, and four more: functions that wait need none.
                "PYTHON_CPU_COUNT": str(self._environments),
                **self._credentials,
            },
            cwd=self._directory,
        )  # fmt: skip

    def wait_until_ready(self) -> None:
        """Wait until the runner answers.

        :raises RunnerFailed: it ended, or does not answer within 30 s.
        """
        deadline = time.monotonic() + _START_LIMIT
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            try:
                if self._call("GET", "/health").status == http.client.OK:
                    return
            except OSError:
                time.sleep(0.02)
        raise RunnerFailed(f"the durable runner does not answer{last_lines(self._log)}")

    def stop(self) -> None:
        """End the runner and its executions."""
        if self._process is not None:
            processes.stop(self._process, how=signal.SIGKILL)  # it keeps no data that a kill could damage

    def begin(self, function: Function, qualifier: str, name: str | None, payload: bytes) -> Execution:
        """Start an execution, or find the execution of the same name and payload.

        :raises ExecutionAlreadyStarted: the name is taken by an execution with another payload.
        """
        assert function.durable is not None
        key = (function.name, qualifier, name or str(uuid.uuid4()))
        digest = hashlib.sha256(payload).hexdigest()
        with self._lock:
            if key in self._names:
                known, execution = self._names[key]
                if known != digest:
                    raise ExecutionAlreadyStarted(key[2])
                return execution
            answer = self._call("POST", "/start-durable-execution", {
                "AccountId": self._account,
                "FunctionName": function.name,
                "FunctionQualifier": qualifier,
                "ExecutionName": key[2],
                "ExecutionTimeoutSeconds": function.durable.execution_timeout,
                "ExecutionRetentionPeriodDays": function.durable.retention_days,
                "InvocationId": str(uuid.uuid4()),
                "Input": payload.decode() or "null",
            })  # fmt: skip
            if answer.status != http.client.CREATED:
                raise RunnerFailed(f"the durable runner answered {answer.status} when {function.name} was started")
            execution = Execution(json.loads(answer.body)["ExecutionArn"])
            self._quotas.begin(execution.arn, payload)
            self._names[key] = (digest, execution)
            return execution

    def wait(self, execution: Execution, limit: float = LONGEST_WAIT) -> Outcome:
        """Wait for an execution's end and return its result or its error, as Lambda answers an invocation.

        :raises TimeoutError: it has not ended, and goes on.
        """
        deadline = time.monotonic() + limit
        pause = 0.01
        while time.monotonic() < deadline:
            details = json.loads(self._call("GET", _path(execution)).body)
            if details.get("Status") in _ENDED:
                return _outcome(details)
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)
        raise TimeoutError(f"{execution.arn} runs for more than {limit:.0f} s")

    def arn_of(self, execution: str) -> str | None:
        """Return the ARN that AWS would give an execution, which this runner calls `<name>/<id>`; None if unknown."""
        with self._lock:
            function = next((key[0] for key, (_, known) in self._names.items() if known.arn == execution), None)
        if function is None:
            # An execution that the runner began itself, when a durable function invoked another one.
            answer = self._call("GET", _path(Execution(execution)))
            owner = json.loads(answer.body).get("FunctionArn", "") if answer.status == http.client.OK else ""
            function = owner.split(":function:")[-1].partition(":")[0]
        if not function:
            return None
        return f"arn:aws:lambda:{self._region}:{self._account}:function:{function}:1/durable-execution/{execution}"

    def forward(self, request: Request) -> Response:
        """Answer a call of the Lambda API about executions: checkpoints, state, history, callbacks.

        :raises CheckpointRefused: a checkpoint has a payload that is too large.
        """
        target = request.path + (f"?{request.query}" if request.query else "")
        try:
            if found := _CHECKPOINT.fullmatch(unquote(request.path)):
                return self._checkpoint(found["execution"], target, json.loads(request.body))
            return self._send(request.method, target, request.body)
        except (ConnectionError, http.client.HTTPException) as error:
            # The runner is stopped while a function still reports: the function's client may try again.
            logger.warning("the durable runner did not answer %s: %s", request.method, error)
            return Response(http.client.SERVICE_UNAVAILABLE)

    def _checkpoint(self, execution: str, target: str, body: dict[str, Any]) -> Response:
        """Answer a checkpoint; one that exceeds a quota ends the execution."""
        check_payloads(body["Updates"])
        exceeded = self._quotas.exceeded(execution, body["Updates"])
        if not exceeded:
            return self._call("POST", target, body)
        logger.warning("%s failed: %s", execution, exceeded)
        error = {"ErrorType": "QuotaExceeded", "ErrorMessage": exceeded}
        failure = {"Id": f"quota-{uuid.uuid4()}", "Type": "EXECUTION", "Action": "FAIL", "Error": error}
        answer = self._call("POST", target, body | {"Updates": [failure]})
        if answer.status != http.client.OK:
            return answer
        without_token = {key: value for key, value in json.loads(answer.body).items() if key != "CheckpointToken"}
        return Response(answer.status, answer.headers, json.dumps(without_token).encode())

    def _call(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> Response:
        return self._send(method, target, b"" if body is None else json.dumps(body).encode())

    def _send(self, method: str, target: str, body: bytes) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, target, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            headers = tuple(
                (key, value) for key, value in answer.getheaders() if key.lower().startswith(("content", "x-"))
            )
            return Response(answer.status, headers, answer.read())
        finally:
            connection.close()


def _path(execution: Execution) -> str:
    return f"/2025-12-01/durable-executions/{quote(execution.arn, safe='')}"


def _outcome(details: Mapping[str, Any]) -> Outcome:
    if details["Status"] == "SUCCEEDED":
        return Outcome((details.get("Result") or "null").encode())
    error = details.get("Error") or {}
    report = {
        "errorMessage": error.get("ErrorMessage") or f"the execution ended as {details['Status']}",
        "errorType": error.get("ErrorType") or details["Status"],
        "stackTrace": error.get("StackTrace") or [],
    }
    return Outcome(json.dumps(report).encode(), failed=True)
