"""Users with passwords, Secrets Manager in this process, and processes that die in the middle of a step."""

import os
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.server import ThreadedMotoServer

from rdsiam.events.rotate import Step
from tests.integration.children import CHILDREN
from tests.integration.rotation.dying import DieAt, run_until
from tests.integration.rotation.passwords import Passwords
from tests.integration.rotation.rotating import REGION, MakeRotating, Rotating, patch_moto, rotating_maker
from tests.kinds import MYSQL_EXHAUSTIVE, OLDER_EXHAUSTIVE


@pytest.fixture(scope="module", params=["postgres", OLDER_EXHAUSTIVE, "mariadb", MYSQL_EXHAUSTIVE])
def passwords(request, account) -> Iterator[Passwords]:
    """Return a database of each engine."""
    arn = account.create(f"rotated-{request.param}", request.param)
    account.wait(arn)
    yield Passwords(account, arn)
    for name in [one for one in account.entries if one.startswith(f"rotated-{request.param}/")]:
        del account.entries[name]
    account.publish_entries()


@pytest.fixture(scope="module")
def secrets_manager() -> Iterator[Any]:
    """Return a client of moto in this process, with localcloud's patches."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        with mock_aws(config={"core": {"reset_boto3_session": False}}):
            patch_moto()
            yield boto3.client("secretsmanager", region_name=REGION)


@pytest.fixture(scope="module")
def make_rotating(secrets_manager: Any) -> MakeRotating:
    """Make a user and its secret."""
    return rotating_maker(secrets_manager)


@pytest.fixture(scope="module")
def die_at(secrets_manager) -> Iterator[DieAt]:
    """Run steps in processes that find this one's Secrets Manager over HTTP."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())

    def die(rotating: Rotating, step: Step, token: str, point: int) -> bool:
        recorded = (rotating.place.database, rotating.user, rotating.databases.record)
        where = (*recorded, endpoint, os.environ["RDSIAM_CA"])
        child = CHILDREN.Process(target=run_until, args=(rotating.request(step, token), point, *where))
        child.start()
        child.join(60)
        assert child.exitcode in {0, 9}, child.exitcode
        return child.exitcode == 9

    yield die
    server.stop()
