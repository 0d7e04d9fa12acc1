"""`sam local` against localcloud: the functions in containers, AWS and the databases on this machine.

A container reaches this machine by the address of Docker's bridge, and localcloud listens on the loopback interface
alone. So `localhost` and the name of the database get that address inside the containers, and a relay on it passes
connections on. (`--docker-network host` does not give SAM CLI 1.170's containers
the host's network.)

`sam local invoke` can start AWS's emulator of durable executions itself, but tells it of no function that an execution
may invoke. Where one must, the same emulator runs beside it, as SAM CLI calls it "external".
"""

import asyncio
import contextlib
import json
import queue
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.config import Config

from localcloud import client
from localcloud.aws.expand import read
from localcloud.core import processes
from tests.integration.account import TRUST, Account
from tests.sam.builds import HOST, ROOT, SAM, environment

EVENTS = ROOT / "events"
REGION = "eu-west-1"  # that the events are of
_GIVEN = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_IMAGE = f"public.ecr.aws/lambda/python:3.13-{HOST}"


@dataclass
class Local:
    """An account, and `sam local` with functions that work in it under the credentials of their roles."""

    account: Account
    directory: Path
    template: Path
    bridge: str
    database: str  # name of its endpoint
    emulator: int  # port of the emulator of durable executions
    functions: str = ""  # address of `sam local start-lambda`

    def invoke(self, function: str, event: Path, own_emulator: bool = False) -> Any:
        """Run `sam local invoke` and return the function's answer, an error as Lambda returns it.

        :param own_emulator: let SAM CLI start the emulator of durable executions.
        """
        settings = {"DURABLE_EXECUTIONS_EXTERNAL_EMULATOR_PORT": str(self.emulator)}
        if own_emulator:  # under a name and at a port that another checkout's tests don't use
            port = str(processes.free_port())
            settings = {"DURABLE_EXECUTIONS_EMULATOR_PORT": port, "DURABLE_EXECUTIONS_CONTAINER_NAME": f"rdsiam-{port}"}
        done = subprocess.run(
            [SAM, "local", "invoke", function, "--event", event, *self._options()],
            cwd=self.directory, env=environment(**settings),
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        # Of a durable execution SAM CLI prints a summary for people; the answer is one row of it.
        rows = [line.removeprefix("Result:").strip() for line in done.stdout.splitlines()]
        answers = [row for row in rows if row.startswith("{")]
        assert answers, done.stdout + done.stderr
        return json.loads(answers[-1])

    def invoke_warm(self, function: str, event: Path) -> Any:
        """Invoke through `sam local start-lambda`, whose containers stay: the same, in a fifth of the time."""
        answer = boto3.client(
            "lambda",
            endpoint_url=self.functions,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(read_timeout=180, retries={"total_max_attempts": 1}),
        ).invoke(FunctionName=function, Payload=event.read_bytes())
        return json.load(answer["Payload"])

    @contextlib.contextmanager
    def serve(self, command: str) -> Iterator[str]:
        """Run `sam local start-api` or `sam local start-lambda`; gives its address."""
        port, log = processes.free_port(), self.directory / f"{command}.log"
        process = processes.spawn(
            [SAM, "local", command, "--port", str(port), "--warm-containers", "LAZY", *self._options()],
            log=log,
            env=environment(DURABLE_EXECUTIONS_EXTERNAL_EMULATOR_PORT=str(self.emulator)),
            cwd=self.directory,
        )
        with _running(process, port, log):
            yield f"http://127.0.0.1:{port}"

    def _options(self) -> list[str]:
        return [
            "--template", str(self.template), "--env-vars", str(self.directory / "environment.json"),
            "--parameter-overrides", f"Architecture={HOST}",
            "--skip-pull-image", "--add-host", f"localhost:{self.bridge}",
            "--add-host", f"{self.database}:{self.bridge}", "--region", REGION,
        ]  # fmt: skip


def write_template(build: Path) -> Path:
    """Write the template with its loops written out, and with variables that only tests set: SAM CLI sets no others."""
    template = read(build / "template.yaml")
    template["Globals"]["Function"]["Environment"]["Variables"] |= dict.fromkeys(_GIVEN, "")
    path = build / "local.yaml"
    path.write_text(yaml.safe_dump(template))
    return path


def variables_of(account: Account) -> dict[str, dict[str, str]]:
    """Return the environment of each function as deployed, and what Lambda adds to it."""
    names = {key: name.split(":")[0] for key, name in account.cloud.functions.items()}
    logical_ids = {name: key for key, name in names.items()}  # the names that `sam local` knows
    return {key: _variables_of(account, name, logical_ids) for key, name in names.items()}


def _variables_of(account: Account, name: str, logical_ids: dict[str, str]) -> dict[str, str]:
    function = account.cloud.client("lambda").get_function_configuration(FunctionName=name)
    # Only Lambda may assume the role: for the tests, the account's administrator too.
    account.cloud.client("iam").update_assume_role_policy(
        RoleName=function["Role"].rsplit("/", 1)[1], PolicyDocument=json.dumps(TRUST)
    )
    credentials = account.assume(function["Role"])
    given = (
        account.cloud.endpoint.replace("127.0.0.1", "localhost"),
        credentials["AccessKeyId"],
        credentials["SecretAccessKey"],
        credentials["SessionToken"],
    )
    declared = function["Environment"]["Variables"]
    # The emulator of durable executions knows functions by their logical ids, and no aliases. EventsFunction, which is
    # not durable, invokes the functions of localcloud.
    if "-EventsFunction-" not in name:
        declared = {key: logical_ids.get(_bare(str(value)), value) for key, value in declared.items()}
    return declared | dict(zip(_GIVEN, given, strict=True))


def _bare(value: str) -> str:
    """Return the name of a function if the value is its ARN with an alias, else the value."""
    found = re.fullmatch(r"arn:[^:]*:lambda:[^:]*:[^:]*:function:([^:]+):[^:]+", value)
    return found[1] if found else value


def stop_events(cloud: client.RunningCloud) -> None:
    events = cloud.client("events")
    for rule in events.list_rules()["Rules"]:
        events.disable_rule(Name=rule["Name"])


def bridge_address() -> str:
    """Return the address at which containers reach this machine."""
    options = ["--rm", "--add-host", "machine:host-gateway", "--entrypoint", "/bin/cat"]
    command = ["docker", "run", *options, _IMAGE, "/etc/hosts"]
    hosts = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return next(line.split()[0] for line in hosts.splitlines() if line.split()[1:] == ["machine"])


@contextlib.contextmanager
def relay(address: str, goals: dict[int, str]) -> Iterator[None]:
    """Pass connections to ports of `address` on to the same ports of the hosts that are given for them."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def passing_to(host: str, port: int) -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there_reader, there_writer = await asyncio.open_connection(host, port)
            await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

        return serve

    async def run() -> None:
        stop = asyncio.Event()
        started.put((asyncio.get_running_loop(), stop))
        for port, host in goals.items():
            await asyncio.start_server(passing_to(host, port), address, port)
        await stop.wait()

    started: queue.Queue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()
    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True, name="relay")
    thread.start()
    loop, stop = started.get()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@contextlib.contextmanager
def no_container_left(build: Path) -> Iterator[None]:
    """Remove containers of this checkout: SAM CLI forgets those of durable functions, and all when it is killed."""
    _remove_containers(build)
    try:
        yield
    finally:
        _remove_containers(build)


def _remove_containers(build: Path) -> None:
    filters = [f"--filter=volume={each}" for each in build.iterdir() if each.is_dir()]
    found = subprocess.run(["docker", "ps", "--all", "--quiet", *filters], capture_output=True, text=True, check=True)  # noqa: S607
    if containers := found.stdout.split():
        subprocess.run(["docker", "rm", "--force", *containers], capture_output=True, check=True)  # noqa: S607


@contextlib.contextmanager
def run_emulator(local: Local) -> Iterator[None]:
    functions: dict[str, Any] = {key: {} for key in local.account.cloud.functions}
    log = local.directory / "emulator.log"
    process = processes.spawn(
        [
            Path(sys.executable).with_name("dex-local-runner"), "start-server",
            "--host", "0.0.0.0", "--port", str(local.emulator), "--log-level", "WARNING",  # noqa: S104
            "--lambda-endpoint", local.functions, "--local-runner-region", REGION,
            "--store-type", "memory", "--function-configs", json.dumps(functions),
        ],
        log=log,
        env=environment(AWS_ACCESS_KEY_ID="local", AWS_SECRET_ACCESS_KEY="local", AWS_DEFAULT_REGION=REGION),
        cwd=local.directory,
    )  # fmt: skip
    with _running(process, local.emulator, log):
        yield


@contextlib.contextmanager
def _running(process: processes.Process, port: int, log: Path) -> Iterator[None]:
    """Wait until a server listens, and stop it in the end."""
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        processes.stop(process, limit=30)  # SAM CLI removes its containers first


def post(url: str, body: str) -> tuple[int, dict[str, Any]]:
    """POST JSON and return status and answer, of errors too."""
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"}, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
