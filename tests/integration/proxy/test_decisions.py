"""The true decisions of the API, as clients of a proxy read them: allowed, denied, revoked, and cut."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import psycopg
import pytest

from tests.integration import commands
from tests.integration.proxy.proxy_process import ProxyProcess

type Start = Callable[..., ProxyProcess]


def environment(account, place, role: str, home) -> dict[str, str]:
    cloud, keys = account.cloud, account.assume(place[role])
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "AWS_DEFAULT_REGION": cloud.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "RDSIAM_API_URL": cloud.api_url,
        "RDSIAM_CA": str(cloud.ca),
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
    }


@pytest.fixture(scope="module")
def start(account, place, tmp_path_factory) -> Iterator[Start]:
    """Start proxies with the rights of a role; they end with the module at the latest."""
    with ExitStack() as stack:

        def proxy(role: str, *arguments: str) -> ProxyProcess:
            folder = tmp_path_factory.mktemp("proxy")
            process = ProxyProcess(environment(account, place, role, folder), folder, *arguments)
            return stack.enter_context(process)

        yield proxy


@pytest.fixture(scope="module")
def vended(start) -> ProxyProcess:
    """Return a proxy of the role to which tokens are vended."""
    return start("vended", "tokens-postgres:0")


def session(proxy: ProxyProcess, user: str) -> psycopg.Connection[Any]:
    """Open a session through a proxy."""
    (printed,) = proxy.databases.values()
    return psycopg.connect(
        host="127.0.0.1", port=printed.port, user=user, dbname="shop", connect_timeout=30, autocommit=True
    )


def log_in(proxy: ProxyProcess, user: str) -> str:
    """Return the user of a session through a proxy."""
    with session(proxy, user) as opened:
        row = opened.execute("SELECT session_user").fetchone()
    assert row is not None
    return str(row[0])


def denial(proxy: ProxyProcess, user: str) -> str:
    """Return the error that a client of a proxy gets."""
    with pytest.raises(psycopg.OperationalError) as caught:
        log_in(proxy, user)
    text = str(caught.value)
    assert "X-Amz" not in text
    assert "X-Amz" not in proxy.log
    return text


def test_an_allowed_user_logs_in(vended):
    assert log_in(vended, "app") == "app"


@pytest.mark.parametrize(
    ("user", "says"),
    [("app2", "rdsiam ls shows"), ("past", "rdsiam ls shows"), ("oncall", "--reason"), ("nobody", "rdsiam ls shows")],
)
def test_a_denied_user_reads_the_remedy(vended, user, says):
    assert says in denial(vended, user)


def test_a_reason_opens_a_login_that_needs_one(start):
    assert log_in(start("vended", "tokens-postgres:0", "--reason", "TICKET-12: stuck orders"), "oncall") == "oncall"


@pytest.fixture
def describing(account, place) -> Iterator[None]:
    """Let the role that signs itself describe databases."""
    iam, role = account.cloud.client("iam"), place["signing"].rpartition("/")[2]
    statement = {"Effect": "Allow", "Action": ["rds:DescribeDBClusters", "rds:DescribeDBInstances"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=role, PolicyName="describe", PolicyDocument=document)
    yield
    iam.delete_role_policy(RoleName=role, PolicyName="describe")


@pytest.mark.usefixtures("describing")
def test_a_role_that_signs_itself_logs_in_with_local(start):
    assert log_in(start("signing", "tokens-postgres:0", "--local"), "app2") == "app2"


@pytest.mark.parametrize("role", ["signing", "stranger"])
def test_a_role_without_a_login_can_not_start_the_proxy(account, place, tmp_path, role):
    arguments = ["proxy", "tokens-postgres:0"]
    done = commands.run(arguments, environment(account, place, role, tmp_path), limit=60, directory=tmp_path)
    assert done.returncode == 5, done.stderr
    assert "you may not log in to tokens-postgres" in done.stderr


@pytest.mark.parametrize(
    ("role", "user", "says"),
    [("vended", "nobody", "not-allowed"), ("vended", "oncall", "--reason"), ("signing", "app2", "--local"),
     ("stranger", "app", "not-allowed")],
)  # fmt: skip
def test_a_user_of_all_clients_that_gets_no_token_stops_the_start(account, place, tmp_path, role, user, says):
    arguments = ["proxy", "tokens-postgres:0", "-u", user]
    done = commands.run(arguments, environment(account, place, role, tmp_path), limit=60, directory=tmp_path)
    assert done.returncode == 4, done.stderr
    assert says in done.stderr


def test_a_role_that_may_not_describe_reads_what_to_grant(account, place, tmp_path):
    arguments = ["proxy", "tokens-postgres:0", "--local", "-u", "app2"]
    done = commands.run(arguments, environment(account, place, "stranger", tmp_path), limit=60, directory=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "grant rds:DescribeDBClusters" in " ".join(done.stderr.split())


def publish(account, app: dict[str, Any], *callers: str) -> None:
    """Let these roles be the callers of a user, and let the API read it at once."""
    app["callers"] = [{"role": role} for role in callers]
    account.publish_entries()
    for function in ("ReportsFunction", "VendFunction"):
        account.start_afresh(function)


def test_access_that_ends_cuts_connections_only_with_cut(account, place, start):
    keeping = start("vended", "tokens-postgres:0")
    cutting = start("vended", "tokens-postgres:0", "--cut", "--cut-interval", "1")
    app = next(user for user in account.entries["tokens-postgres"]["users"] if user["name"] == "app")
    with session(keeping, "app") as kept, session(cutting, "app") as cut:
        publish(account, app, place["stranger"])
        try:
            ended = time.monotonic() + 60
            while not cut.closed and time.monotonic() < ended:
                with suppress(psycopg.OperationalError):
                    cut.execute("SELECT 1")
                time.sleep(0.5)
            assert cut.closed
            assert kept.execute("SELECT 1").fetchone() == (1,)
            assert "rdsiam ls shows" in denial(keeping, "app")
        finally:
            publish(account, app, place["vended"])
    (line,) = [event for event in cutting.events() if event["message"] == "connection cut"]
    assert line["user"] == "app"
