"""`sam local` against localcloud: the functions in containers, AWS and the databases on this machine.

A container reaches this machine by the address of Docker's bridge, and localcloud listens on the loopback interface
alone, under the name in its databases' certificates. So `localhost` gets that address as a second one inside the
containers, and a relay on it passes connections on. (`--docker-network host` does not give SAM CLI 1.170's containers
the host's network.)

`sam local invoke` can start AWS's emulator of durable executions itself, but tells it of no function that an execution
may invoke. Where one must, the same emulator runs beside it, as SAM CLI calls it "external".
"""

import asyncio
import contextlib
import json
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

import pytest
import yaml

from localcloud import client, processes
from tests.integration.fix_account import TRUST, Account
from tests.sam.fix_build import HOST, ROOT, SAM, environment

EVENTS = ROOT / "events"
REGION = "eu-west-1"  # that the events are of
_IMAGE = f"public.ecr.aws/lambda/python:3.13-{HOST}"


@dataclass
class Local:
    """An account, and `sam local` with functions that work in it."""

    account: Account
    template: Path
    directory: Path
    bridge: str
    emulator_port: int
    invoked_port: int

    def invoke(self, function: str, event: Any, **settings: str) -> Any:
        """Run `sam local invoke` and return the function's answer, an error as Lambda returns it.

        :param event: the name of a file in events/, or what such a file would hold.
        """
        path = EVENTS / event if isinstance(event, str) else self.directory / "event.json"
        if not isinstance(event, str):
            path.write_text(json.dumps(event))
        done = subprocess.run(
            [SAM, "local", "invoke", function, "--event", path, *self._options()],
            cwd=self.directory, env=self._environment(function, **settings),
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        # Where the function is durable, SAM CLI prints the execution for people, with the answer in a row of its own.
        rows = [line.removeprefix("Result: ") for line in done.stdout.splitlines() if line.lstrip().startswith("{")]
        rows += [line.split("Result:")[1].strip(" │|") for line in done.stdout.splitlines() if "Result:" in line]
        assert rows, done.stdout + done.stderr
        return json.loads(rows[-1])

    @contextlib.contextmanager
    def serve(self, command: str, function: str, port: int) -> Iterator[str]:
        """Run `sam local start-api` or `start-lambda` with the credentials of one function; its address."""
        process = processes.spawn(
            [SAM, "local", command, "--port", str(port), "--warm-containers", "LAZY", *self._options()],
            log=self.directory / f"{command}.log",
            env=self._environment(function),
            cwd=self.directory,
        )
        try:
            _wait_for(port, process, self.directory / f"{command}.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            processes.stop(process, limit=30)

    def _options(self) -> list[str]:
        return [
            "--template", str(self.template), "--env-vars", str(self.directory / "environment.json"),
            "--parameter-overrides", f"Architecture={HOST}",
            "--skip-pull-image", "--add-host", f"localhost:{self.bridge}", "--region", REGION,
        ]  # fmt: skip

    def _environment(self, function: str, **settings: str) -> dict[str, str]:
        """What SAM CLI hands to the function: the credentials of its role, as Lambda would."""
        lambda_, iam = self.account.cloud.client("lambda"), self.account.cloud.client("iam")
        name = self.account.cloud.functions[function].split(":")[0]
        role = lambda_.get_function_configuration(FunctionName=name)["Role"]
        # Only Lambda may assume it: for the test, the account's administrator too.
        iam.update_assume_role_policy(RoleName=role.split("/")[-1], PolicyDocument=json.dumps(TRUST))
        credentials = self.account.assume(role)
        return environment(
            AWS_ACCESS_KEY_ID=credentials["AccessKeyId"],
            AWS_SECRET_ACCESS_KEY=credentials["SecretAccessKey"],
            AWS_SESSION_TOKEN=credentials["SessionToken"],
            AWS_DEFAULT_REGION=REGION,
            **({"DURABLE_EXECUTIONS_EXTERNAL_EMULATOR_PORT": str(self.emulator_port)} | settings),
        )


@pytest.fixture(scope="session")
def local(builds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """`sam local` with one PostgreSQL database, orders-1, that nobody has onboarded yet."""
    directory = tmp_path_factory.mktemp("sam")
    with contextlib.ExitStack() as stack:
        cloud = stack.enter_context(client.start("--region", REGION, log=directory / "cloud.log"))
        account = Account(cloud)
        _stop_events(cloud)  # otherwise localcloud's own functions would be there first
        database = account.create("orders-1")
        bridge = _bridge()
        endpoint = account.wait(database)["Endpoint"]
        stack.enter_context(_relay(bridge, [int(cloud.endpoint.rsplit(":", 1)[1]), endpoint["Port"]]))
        template = _template(builds(HOST))
        made = Local(account, template, directory, bridge, processes.free_port(), processes.free_port())
        (directory / "environment.json").write_text(json.dumps(_variables(cloud)))
        stack.enter_context(made.serve("start-lambda", "PolicyFunction", made.invoked_port))
        stack.enter_context(_emulator(made))
        yield made


def _template(build: Path) -> Path:
    """SAM CLI sets only variables that the template has; on AWS nothing sets this one."""
    template = yaml.safe_load((build / "template.yaml").read_text())
    template["Globals"]["Function"]["Environment"]["Variables"]["AWS_ENDPOINT_URL"] = ""
    path = build / "local.yaml"
    path.write_text(yaml.safe_dump(template))
    return path


def _variables(cloud: client.RunningCloud) -> dict[str, dict[str, str]]:
    """The functions' environment as deployed, with the names by which they are known to `sam local`."""
    functions = {key: name.split(":")[0] for key, name in cloud.functions.items()}
    logical = {name: key for key, name in functions.items()}
    deployed = cloud.client("lambda")
    return {
        key: {
            variable: logical.get(value, value)
            for variable, value in deployed.get_function_configuration(FunctionName=name)["Environment"][
                "Variables"
            ].items()
        }
        | {"AWS_ENDPOINT_URL": cloud.endpoint.replace("127.0.0.1", "localhost")}
        for key, name in functions.items()
    }


def _stop_events(cloud: client.RunningCloud) -> None:
    events = cloud.client("events")
    for rule in events.list_rules()["Rules"]:
        events.disable_rule(Name=rule["Name"])


def _bridge() -> str:
    """Return the address at which containers reach this machine."""
    hosts = subprocess.run(
        ["docker", "run", "--rm", "--add-host", "machine:host-gateway", "--entrypoint", "/bin/cat", _IMAGE,  # noqa: S607
         "/etc/hosts"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return next(line.split()[0] for line in hosts.splitlines() if line.split()[1:] == ["machine"])


@contextlib.contextmanager
def _relay(address: str, ports: list[int]) -> Iterator[None]:
    """Pass connections to these ports of `address` on to the same ports of the loopback interface."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def passing_to(port: int) -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

        return serve

    async def run() -> None:
        for port in ports:
            await asyncio.start_server(passing_to(port), address, port)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(run())
    thread = threading.Thread(target=loop.run_forever, daemon=True, name="relay")
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextlib.contextmanager
def _emulator(local: Local) -> Iterator[None]:
    functions = {key: {} for key in local.account.cloud.functions}
    process = processes.spawn(
        [
            Path(sys.executable).with_name("dex-local-runner"), "start-server",
            "--host", "0.0.0.0", "--port", str(local.emulator_port), "--log-level", "WARNING",  # noqa: S104
            "--lambda-endpoint", f"http://127.0.0.1:{local.invoked_port}", "--local-runner-region", REGION,
            "--store-type", "memory", "--function-configs", json.dumps(functions),
        ],
        log=local.directory / "emulator.log",
        env=environment(AWS_ACCESS_KEY_ID="local", AWS_SECRET_ACCESS_KEY="local", AWS_DEFAULT_REGION=REGION),
        cwd=local.directory,
    )  # fmt: skip
    try:
        _wait_for(local.emulator_port, process, local.directory / "emulator.log")
        yield
    finally:
        processes.stop(process)


def _wait_for(port: int, process: processes.Process, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def post(url: str, body: str) -> tuple[int, dict[str, Any]]:
    """POST JSON and return status and answer, of errors too."""
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"}, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
