"""The part of the Lambda API that runs functions: invocations of all types, and durable executions."""

from __future__ import annotations

import json
import logging
import re
import threading
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import parse_qs, unquote

from localcloud.core.web import Request, Response
from localcloud.lambda_.durable import Execution, ExecutionAlreadyStarted, Runner, RunnerFailed
from localcloud.lambda_.emulators import Credentials, Function, Outcome, Pool, TooManyRequests
from localcloud.lambda_.quotas import CheckpointRefused

logger = logging.getLogger(__name__)

LARGEST_SYNCHRONOUS = 6 * 1024 * 1024
LARGEST_ASYNCHRONOUS = 1024 * 1024
RETRIES = 2
#: Seconds before the first and second retry of an asynchronous invocation; AWS waits one and two minutes.
PAUSES = (0.5, 1.0)
#: The mark of AWS's runner for running a durable function's handler rather than starting an execution.
HANDLER_MARKER = "X-Dex-Handler-Invoke"

_INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations/?")
_EXECUTIONS = re.compile(r"/2025-12-01/(durable-execution.*|functions/[^/]+/durable-executions)")
_NAME = re.compile(
    r"(?:arn:aws:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):function:"
    r"|(?P<partial>\d{12}):function:|function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,140})(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]+))?"
)


class LambdaError(Exception):
    """An error of the Lambda API: its code, its HTTP status and its message."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Functions:
    """Runs the functions of one cloud.

    :param credentials: makes a fresh environment's variables: endpoint, region, credentials of the role.
    :param logs: directory for one log per function, named by its logical id.
    :param environments: largest number of environments of a function at a time.
    """

    def __init__(
        self, region: str, account: str, credentials: Credentials, runner: Runner, logs: Path, environments: int
    ) -> None:
        self._region = region
        self._account = account
        self._credentials = credentials
        self._runner = runner
        self._logs = logs
        self._environments = environments
        self._pools: dict[str, Pool] = {}
        self._stopping = threading.Event()

    def deploy(self, functions: Iterable[Function]) -> None:
        """Make functions invocable."""
        for function in functions:
            log = self._logs / f"{function.logical_id}.log"
            log.touch()
            self._pools[function.name] = Pool(function, self._credentials, log, self._environments)

    def stop(self) -> None:
        """End all environments."""
        self._stopping.set()
        for pool in self._pools.values():
            pool.stop()

    def handle(self, request: Request, *, from_runner: bool) -> Response | None:
        """Answer a call of the Lambda API, or return None if the call runs no function.

        :param from_runner: the caller is the durable runner, which alone may run a durable function's handler.
        """
        path = unquote(request.path)
        try:
            if invoked := _INVOKE.fullmatch(path):
                return self._invoke(unquote(invoked[1]), request, from_runner=from_runner)
            if _EXECUTIONS.match(path):
                return self._runner.forward(request)
        except LambdaError as error:
            return error_response(error.code, error.status, str(error))
        except CheckpointRefused as error:
            return error_response(error.code, 400, str(error))
        return None

    def check(self, name: str) -> None:
        """Check that there is a function of that name or ARN.

        :raises LambdaError: there is no such function.
        """
        self._find(name, None)

    def invoke(self, name: str, payload: bytes) -> Outcome:
        """Invoke a function by name or ARN and wait, durable ones too, as API Gateway does.

        :raises LambdaError: there is no such function, or it may not be invoked like this.
        """
        function, qualifier = self._find(name, None)
        return self._run(function, qualifier, payload)

    def invoke_later(self, name: str, payload: bytes) -> None:
        """Invoke a function by name or ARN in the background, twice more if it fails, as EventBridge does.

        :raises LambdaError: there is no such function, or it may not be invoked like this.
        """
        function, qualifier = self._find(name, None)
        self._start_later(function, qualifier, None, payload)

    def invoke_event(self, arn: str, event: Mapping[str, object]) -> None:
        """Deliver an event to a function; a failure is logged, as no caller waits for an answer."""
        try:
            self.invoke_later(arn, json.dumps(event).encode())
        except (LambdaError, RunnerFailed) as error:
            logger.error("event not delivered to %s: %s", arn, error)

    def _invoke(self, name: str, request: Request, *, from_runner: bool) -> Response:
        query = parse_qs(request.query)
        function, qualifier = self._find(name, query.get("Qualifier", [None])[0])
        kind = request.header("X-Amz-Invocation-Type") or "RequestResponse"
        _check(request.body, kind)
        headers = (("X-Amzn-RequestId", str(uuid.uuid4())), ("X-Amz-Executed-Version", "$LATEST"))
        if kind == "DryRun":
            return Response(204, headers)
        if from_runner and request.header(HANDLER_MARKER) == "true":
            return _answer(self._run_once(function, qualifier, request.body), headers)
        execution_name = request.header("X-Amz-Durable-Execution-Name")
        if kind == "Event":
            arn = self._start_later(function, qualifier, execution_name, request.body)
            return Response(202, (*headers, *_arn_header(arn)))
        if function.durable is None:
            return _answer(self._run_once(function, qualifier, request.body), headers)
        execution = self._begin(function, qualifier, execution_name, request.body)
        try:
            return _answer(self._runner.wait(execution), (*headers, *_arn_header(execution.arn)))
        except TimeoutError as error:
            raise LambdaError("ServiceException", 504, str(error)) from None

    def _run(self, function: Function, qualifier: str, payload: bytes) -> Outcome:
        if function.durable is None:
            return self._run_once(function, qualifier, payload)
        return self._runner.wait(self._begin(function, qualifier, None, payload))

    def _run_once(self, function: Function, qualifier: str, payload: bytes) -> Outcome:
        arn = f"{function.arn}:{qualifier}" if qualifier else function.arn
        try:
            outcome = self._pools[function.name].invoke(payload or b"{}", arn)
        except TooManyRequests:
            raise LambdaError("TooManyRequestsException", 429, "Rate Exceeded.") from None
        if len(outcome.payload) > LARGEST_SYNCHRONOUS:
            message = f"Response payload size exceeded maximum allowed payload size ({LARGEST_SYNCHRONOUS} bytes)."
            report = {"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"}
            return Outcome(json.dumps(report).encode(), failed=True)
        if outcome.failed:
            logger.info("function failed: %s %s", function.logical_id, _error_type(outcome))
        return outcome

    def _begin(self, function: Function, qualifier: str, name: str | None, payload: bytes) -> Execution:
        if not qualifier:
            raise LambdaError(
                "InvalidParameterValueException", 400, "You cannot invoke a durable function using an unqualified ARN."
            )
        try:
            return self._runner.begin(function, qualifier, name, payload)
        except ExecutionAlreadyStarted:
            message = f"Durable execution already started with a different payload: {name}"
            raise LambdaError("DurableExecutionAlreadyStartedException", 409, message) from None

    def _start_later(self, function: Function, qualifier: str, name: str | None, payload: bytes) -> str | None:
        if function.durable is not None:
            return self._begin(function, qualifier, name, payload).arn
        threading.Thread(
            target=self._with_retries, args=(function, qualifier, payload), daemon=True, name="event"
        ).start()
        return None

    def _with_retries(self, function: Function, qualifier: str, payload: bytes) -> None:
        for pause in (*PAUSES[:RETRIES], None):
            try:
                if not self._run_once(function, qualifier, payload).failed:
                    return
            except LambdaError as error:
                logger.warning("event not delivered: %s %s", function.logical_id, error.code)
            except Exception as error:
                if self._stopping.is_set():
                    return
                logger.warning("event not delivered: %s %s", function.logical_id, error)
            if pause is None or self._stopping.wait(pause):
                break
        logger.warning("event given up: %s failed %s times", function.logical_id, RETRIES + 1)

    def _find(self, name: str, qualifier: str | None) -> tuple[Function, str]:
        """Return the function and the qualifier of a name, empty if it has none."""
        parsed = _NAME.fullmatch(name)
        if parsed is None:
            raise LambdaError("ValidationException", 400, f"{name!r} is not the name of a function")
        inner = parsed["qualifier"]
        if inner and qualifier and inner != qualifier:
            message = "The derived qualifier from the function name does not match the specified qualifier."
            raise LambdaError("InvalidParameterValueException", 400, message)
        used = inner or qualifier or ""
        pool = self._pools.get(parsed["name"])
        elsewhere = parsed["region"] not in (None, self._region) or (
            (parsed["account"] or parsed["partial"]) not in (None, self._account)
        )
        arn = f"arn:aws:lambda:{self._region}:{self._account}:function:{parsed['name']}" + (f":{used}" if used else "")
        if pool is None or elsewhere or used not in ("", "$LATEST", "1", *pool.function.aliases):
            raise LambdaError("ResourceNotFoundException", 404, f"Function not found: {arn}")
        return pool.function, used


def error_response(code: str, status: int, message: str) -> Response:
    """Return an error as the Lambda API writes it."""
    headers = (
        ("Content-Type", "application/json"),
        ("X-Amzn-ErrorType", code),
        ("X-Amzn-RequestId", str(uuid.uuid4())),
    )
    return Response(status, headers, json.dumps({"Type": "User", "Message": message, "message": message}).encode())


def _check(payload: bytes, kind: str) -> None:
    if kind not in ("RequestResponse", "Event", "DryRun"):
        raise LambdaError("InvalidParameterValueException", 400, f"unknown invocation type {kind!r}")
    largest = LARGEST_ASYNCHRONOUS if kind == "Event" else LARGEST_SYNCHRONOUS
    if len(payload) > largest:
        message = f"{len(payload)} byte payload is too large for the {kind} invocation type (limit {largest} bytes)"
        raise LambdaError("RequestTooLargeException", 413, message)
    if payload:
        try:
            json.loads(payload)
        except ValueError:
            message = "Could not parse request body into json."
            raise LambdaError("InvalidRequestContentException", 400, message) from None


def _answer(outcome: Outcome, headers: tuple[tuple[str, str], ...]) -> Response:
    failed = (("X-Amz-Function-Error", "Unhandled"),) if outcome.failed else ()
    return Response(200, (*headers, *failed, ("Content-Type", "application/json")), outcome.payload)


def _arn_header(arn: str | None) -> tuple[tuple[str, str], ...]:
    return (("X-Amz-Durable-Execution-Arn", arn),) if arn else ()


def _error_type(outcome: Outcome) -> str:
    report = json.loads(outcome.payload)
    return str(report.get("errorType")) if isinstance(report, dict) else "?"
