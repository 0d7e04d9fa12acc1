"""Builds of the application, and `sam local` with them."""

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from localcloud import client
from localcloud.core import processes
from tests.integration.account import Account
from tests.sam.builds import ARCHITECTURES, HOST, build
from tests.sam.local import (
    REGION,
    Local,
    bridge_address,
    no_container_left,
    relay,
    run_emulator,
    stop_events,
    variables_of,
    write_template,
)


@pytest.fixture(scope="session")
def builds():
    """Both builds: a function that waits for the directory of one of them."""
    with ThreadPoolExecutor() as pool:
        made: dict[str, Future[Path]] = {each: pool.submit(build, each) for each in ARCHITECTURES}
        yield lambda architecture: made[architecture].result()


@pytest.fixture(scope="session")
def local(builds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """`sam local` with one PostgreSQL database, orders-1, that nobody has onboarded yet."""
    directory = tmp_path_factory.mktemp("sam")
    with contextlib.ExitStack() as stack:
        cloud = stack.enter_context(client.start("--region", REGION, log=directory / "cloud.log"))
        account = Account(cloud)
        stop_events(cloud)  # otherwise localcloud's own functions would be there first
        database = account.create("orders-1", Port=processes.free_port())  # this machine may have another at 5432
        bridge = bridge_address()
        endpoint = account.wait(database)["Endpoint"]
        own = int(cloud.endpoint.rsplit(":", 1)[1])
        stack.enter_context(relay(bridge, {own: "127.0.0.1", endpoint["Port"]: endpoint["Address"]}))
        (directory / "environment.json").write_text(json.dumps(variables_of(account)))
        stack.enter_context(no_container_left(builds(HOST)))
        template, emulator = write_template(builds(HOST)), processes.free_port()
        made = Local(account, directory, template, bridge, endpoint["Address"], emulator)
        made.functions = stack.enter_context(made.serve("start-lambda"))
        stack.enter_context(run_emulator(made))
        yield made
