"""Clients that know nothing of tokens, through the proxy and rdsiam's API and functions, to databases of localcloud."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.integration.proxy.proxy_process import LAYER, ProxyProcess

QUERIES = {
    "postgres": '-XAtc "SELECT session_user"',
    "mariadb": "-N -e \"SELECT substring_index(user(), '@', 1)\"",
}


@pytest.fixture(scope="module")
def environment(account, place, tmp_path_factory) -> Callable[[str], dict[str, str]]:
    """Return the environment of a proxy that has a role's credentials."""

    def of(role: str) -> dict[str, str]:
        cloud, keys = account.cloud, account.assume(place[role])
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path_factory.mktemp("home")),
            "PYTHONPATH": str(LAYER),
            "AWS_ENDPOINT_URL": cloud.endpoint,
            "AWS_REGION": cloud.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
            "RDSIAM_API_URL": cloud.api_url,
            "RDSIAM_CA": str(cloud.ca),
        }

    return of


@pytest.fixture(scope="module")
def proxy(environment, tmp_path_factory) -> Iterator[Callable[..., ProxyProcess]]:
    with contextlib.ExitStack() as stack:

        def start(role: str, *arguments: str) -> ProxyProcess:
            folder = tmp_path_factory.mktemp("proxy")
            return stack.enter_context(ProxyProcess(environment(role), folder, *arguments))

        yield start


def run(command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_printed_commands_log_in_by_the_api(proxy):
    process = proxy("vended", "tokens-postgres:0", "tokens-mariadb:0", "-u", "app", "-d", "shop")
    for kind, query in QUERIES.items():
        for _ in range(2):
            done = run(f"{process.databases[f'tokens-{kind}'].command} {query}")
            assert done.stdout == "app\n", done.stderr
    assert "X-Amz" not in process.log


def test_printed_commands_log_in_by_the_caller_s_own_credentials(account, place, proxy):
    account.cloud.client("iam").put_role_policy(
        RoleName=place["signing"].rpartition("/")[2],
        PolicyName="describe",
        PolicyDocument='{"Version": "2012-10-17", "Statement": [{"Sid": "See", "Effect": "Allow", "Resource": "*", '
        '"Action": ["rds:DescribeDBInstances", "rds:DescribeDBClusters"]}]}',
    )
    process = proxy("signing", "tokens-postgres:0", "tokens-mariadb:0", "-u", "app2", "-d", "shop", "--local")
    for kind, query in QUERIES.items():
        done = run(f"{process.databases[f'tokens-{kind}'].command} {query}")
        assert done.stdout == "app2\n", done.stderr
