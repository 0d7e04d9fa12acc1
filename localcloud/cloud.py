"""A cloud on this machine: starts its parts in order, and stops them in reverse."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import boto3
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from localcloud import first_databases
from localcloud.aws.deploy import Template
from localcloud.aws.front import CONTROL, Front
from localcloud.core import hosts, processes
from localcloud.core.certificates import Authority
from localcloud.core.sigv4 import Credential
from localcloud.core.web import Request, Response
from localcloud.databases.rds.fleet import Fleet
from localcloud.databases.rds.names import Names
from localcloud.databases.servers import mysql_choice
from localcloud.databases.token_verifier import TokenVerifier
from localcloud.iam import principals
from localcloud.iam.calls import Need, Place
from localcloud.iam.judge import Judge
from localcloud.iam.permissions import CallDenied, Permissions
from localcloud.lambda_.durable import Runner
from localcloud.lambda_.emulators import Function
from localcloud.lambda_.function_policies import FunctionPolicies
from localcloud.lambda_.functions import Functions, LambdaError
from localcloud.lambda_.http_api import HttpApi
from localcloud.logs import STDERR, log_to_file
from localcloud.moto_patches.events import fire_schedule, send_as_rds
from localcloud.moto_patches.patch import apply_patches
from localcloud.moto_patches.rotations import Rotations
from localcloud.moto_patches.settings import set_environment
from localcloud.moto_patches.table import patches
from localcloud.settings import Settings
from localcloud.start_failures import check_space

logger = logging.getLogger(__name__)

ACCOUNT = "123456789012"
_ADMINISTRATOR_ACCESS = "arn:aws:iam::aws:policy/AdministratorAccess"
_SESSION_SECONDS = 7200
_LIVE = "live"  # the alias that operators invoke


class Cloud:
    """All parts of one `python -m localcloud`. A context manager: leaving it stops all parts and removes all files.

    :param check: called between the steps of the start; what it raises ends the start.
    """

    def __init__(self, settings: Settings, check: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._go_on = check
        self._cleanup = contextlib.ExitStack()
        self._runner_credential = Credential(
            access_key="ASIALOCALCLOUDRUNNER",
            secret_key=secrets.token_urlsafe(30),
            principal_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/localcloud/durable-runner",
            account=ACCOUNT,
        )

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def describe(self) -> dict[str, Any]:
        """Return the line of JSON that `python -m localcloud` prints."""
        return {
            "aws_endpoint_url": self._front.server.url,
            "region": self._settings.region,
            "account": ACCOUNT,
            "credentials": {"access_key_id": self._admin.access_key, "secret_access_key": self._admin.secret_key},
            "api_url": self._api.server.url,
            "functions": {function.logical_id: _invocable(function) for function in self._deployment.functions},
            "outputs": dict(self._deployment.outputs),
            "databases": self._databases,
            "mysql": mysql_choice.product(),
            "ca": str(self._authority.path),
            "environment": hosts.variables({}),
            "directory": str(self._directory),
            "logs": str(self._logs),
            "log": None if self._log == STDERR else str(self._log),
        }

    def _start(self) -> None:
        began = time.monotonic()
        settings = self._settings
        self._directory = self._make_directory()
        self._open_logs()
        template = Template(settings.template, settings.region, ACCOUNT)
        judge = Judge(self._logs / "judge.log")
        self._cleanup.callback(judge.close)
        self._authority = Authority(self._directory)
        judged = principals.Principals(judge)
        self._place = Place(settings.region, ACCOUNT)
        self._front = Front(self._secret_of, self._check, self._lambda_api, self._control, settings.port)
        runner = Runner(
            self._front.server.url,
            settings.region,
            ACCOUNT,
            _as_environment(self._runner_credential),
            self._directory / "durable",
            self._logs / "durable-runner.log",
            settings.environments,
        )
        self._function_policies = FunctionPolicies(self._place, lambda arn: self._functions.check(arn))
        self._permissions = Permissions(
            judged,
            self._place,
            self._function_policies.policy_of,
            runner.arn_of,
            self._directory / "statements.jsonl",
        )
        verifier = TokenVerifier(principals.secret_of, self._permissions.may_connect, settings.region)
        names = Names()
        self._cleanup.callback(names.close)
        self._fleet = Fleet(self._directory / "databases", self._authority, verifier, names, settings.administrator)
        self._cleanup.callback(self._fleet.stop)
        runner.start(template.durable_configs.items())
        self._cleanup.callback(runner.stop)
        self._fleet.prepare()
        self._functions = Functions(
            settings.region, ACCOUNT, self._environment_of, runner, self._logs, settings.environments
        )
        self._cleanup.callback(self._functions.stop)
        self._go_on()
        set_environment()
        rotations = Rotations(self._invoke_rotation, self._may_rotate)
        apply_patches(patches(self._fleet, self._deliver, rotations))
        self._admin = _make_administrator()
        self._api = self._make_api()
        for server in (self._front.server, self._api.server):
            server.start()
            self._cleanup.callback(server.stop)
        self._go_on()
        self._deploy(template)
        self._go_on()
        runner.wait_until_ready()
        self._databases = first_databases.make(
            self._client, settings.databases, self._authority.path, self._fleet.failure_of, self._go_on
        )
        gc.freeze()  # moto's services stay, so that the collector need not look through them time and again
        logger.info("cloud is up: %s after %.1f s", self._front.server.url, time.monotonic() - began)

    def _open_logs(self) -> None:
        self._logs = self._directory / "logs"
        self._logs.mkdir()
        self._log = self._settings.log or self._logs / "localcloud.log"
        if self._settings.log is None:
            self._cleanup.callback(log_to_file(self._log))

    def _make_api(self) -> HttpApi:
        return HttpApi(
            self._settings.region,
            ACCOUNT,
            principals.secret_of,
            self._functions.invoke,
            _user_id,
            self._check_caller,
            self._check_gateway,
        )

    def _deploy(self, template: Template) -> None:
        self._deployment = template.deploy(
            self._session(),
            self._front.server.url,
            self._api.server.url,
            self._parameters(),
            self._settings.parameters,
        )
        self._function_policies.deploy(self._deployment.resource_policies)
        self._functions.deploy(self._deployment.functions)
        self._api.deploy(self._deployment.routes)

    def _make_directory(self) -> Path:
        directory = Path(tempfile.mkdtemp(prefix="localcloud-"))
        directory.chmod(0o711)  # the database servers run as nobody and have to pass through
        processes.remove_when_we_end(directory)
        self._cleanup.callback(_remove, directory)
        check_space(directory)
        return directory

    def _parameters(self) -> dict[str, str]:
        return {
            "Publishers": self._admin.principal_arn,
            "Operators": self._admin.principal_arn,
            "Administrators": self._admin.principal_arn,
            "DatabaseCa": self._authority.pem,
            "DatabaseCaUrl": self._authority.path.as_uri(),
        }

    def _secret_of(self, access_key: str) -> Credential | None:
        if access_key == self._runner_credential.access_key:
            return self._runner_credential
        return principals.secret_of(access_key)

    def _lambda_api(self, request: Request, caller: Credential) -> Response | None:
        answer = self._function_policies.handle(request)
        return answer or self._functions.handle(request, from_runner=caller is self._runner_credential)

    def _control(self, request: Request) -> Response:
        """Have AWS send an event now.

        `POST /schedules/<name of the rule>`: that of a scheduled rule. `POST /events`: an event of RDS, in JSON.
        """
        match = re.fullmatch(r"/schedules/(?P<rule>[^/]+)", unquote(request.path))
        try:
            if (request.method, request.path) == ("POST", "/events"):
                send_as_rds(ACCOUNT, self._settings.region, json.loads(request.body))
                return Response(204)
            if match is None or request.method != "POST":
                raise LookupError(f"localcloud has no {request.method} {request.path}")
            fire_schedule(ACCOUNT, self._settings.region, match["rule"])
        except LookupError as error:
            return Response(404, (("Content-Type", "text/plain"),), str(error).encode())
        return Response(204)

    def _check(self, caller: Credential, service: str, request: Request) -> None:
        if service == CONTROL:
            if caller.access_key != self._admin.access_key:
                raise CallDenied(f"{caller.principal_arn} is not the administrator of this cloud")
            return
        # The durable runner is Lambda itself; its invocations were judged with the checkpoints that asked for them.
        if caller is self._runner_credential and service == "lambda":
            return
        self._permissions.check(caller, service, request)

    def _check_caller(self, caller: Credential, route: str) -> None:
        self._permissions.check_need(caller, Need("execute-api:Invoke", self._place.arn("execute-api", route)))

    def _check_gateway(self, function: str, route: str) -> None:
        source = self._place.arn("execute-api", route)
        self._permissions.check_service("apigateway.amazonaws.com", function, source)

    def _deliver(self, function: str, rule: str, event: Mapping[str, Any]) -> None:
        try:
            self._permissions.check_service("events.amazonaws.com", function, rule)
        except CallDenied as denied:
            logger.error("event not delivered: %s", denied)
            return
        self._functions.invoke_event(function, event)

    def _may_rotate(self, function: str, secret: str) -> None:
        try:
            self._functions.check(function)
            self._permissions.check_service("secretsmanager.amazonaws.com", function, secret)
        except CallDenied as denied:
            logger.error("rotation refused: %s", denied)
            raise PermissionError(str(denied)) from None
        except LambdaError as error:
            raise LookupError(str(error)) from None

    def _invoke_rotation(self, function: str, secret: str, event: Mapping[str, str]) -> bool:
        self._may_rotate(function, secret)
        try:
            return not self._functions.invoke(function, json.dumps(event).encode()).failed
        except LambdaError as error:
            logger.error("%s could not be invoked for a rotation: %s", function, error)
            return False

    def _environment_of(self, function: Function) -> Mapping[str, str]:
        """Return a fresh environment's variables: region, endpoint, and credentials of the function's role."""
        session = sts_backends[ACCOUNT]["aws"].assume_role(
            region_name=self._settings.region,
            role_session_name=function.name,
            role_arn=function.role_arn,
            policy=None,
            duration=_SESSION_SECONDS,
            external_id=None,
        )
        return {
            "AWS_REGION": self._settings.region,
            "AWS_DEFAULT_REGION": self._settings.region,
            "AWS_ENDPOINT_URL": self._front.server.url,
            "AWS_ACCESS_KEY_ID": session.access_key_id,
            "AWS_SECRET_ACCESS_KEY": session.secret_access_key,
            "AWS_SESSION_TOKEN": session.session_token,
        }

    def _session(self) -> boto3.Session:
        return boto3.Session(self._admin.access_key, self._admin.secret_key, region_name=self._settings.region)

    def _client(self, service: str) -> Any:
        return self._session().client(service, endpoint_url=self._front.server.url)  # type: ignore[call-overload]


def _invocable(function: Function) -> str:
    return f"{function.name}:{_LIVE}" if _LIVE in function.aliases else function.name


def _make_administrator() -> Credential:
    backend = iam_backends[ACCOUNT]["aws"]
    user = backend.create_user("us-east-1", "administrator")
    backend.attach_user_policy(_ADMINISTRATOR_ACCESS, "administrator")
    key = backend.create_access_key("administrator")
    return Credential(key.access_key_id, key.secret_access_key, user.arn, ACCOUNT)


def _user_id(caller: Credential) -> str:
    return str(sts_backends[ACCOUNT]["aws"].get_caller_identity(caller.access_key, "us-east-1")[0])


def _as_environment(credential: Credential) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": credential.access_key, "AWS_SECRET_ACCESS_KEY": credential.secret_key}


def _remove(directory: Path) -> None:
    for _ in range(20):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.05)
    logger.warning("%s could not be removed", directory)
