"""The command uses an answer of the API only if it is about what was asked, and asks no API that a directory names."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rdsiam import command
from rdsiam.command import login as login_module
from rdsiam.command.errors import Denied, ExecutionFailed, NotFound, Usage
from rdsiam.command.login import LoginOptions, LoginToken, login_token
from rdsiam.signer import Credentials
from tests.unit.aws.test_rds import Rds, cluster, member

ACCOUNT, REGION = "123456789012", "eu-central-1"
ORDERS = f"arn:aws:rds:{REGION}:{ACCOUNT}:db:orders"
PROXY = f"arn:aws:rds:{REGION}:{ACCOUNT}:db-proxy:prx-0123"
HOST = f"orders.c0ffee.{REGION}.rds.amazonaws.com"
GOOD = {"token": "t", "host": HOST, "port": 5432, "user": "app", "engine": "postgres", "database": ORDERS}


def login(name: str, requested_user: str | None = "app", **answer: Any) -> LoginToken:
    """Return the token for the answer of an API."""
    listed = [{"arn": answer.get("database", ORDERS), "identifier": "orders", "users": ["app"]}]
    api = SimpleNamespace(token=lambda *_: GOOD | answer, databases=lambda: listed, region=REGION)
    installation: Any = SimpleNamespace(api=api, aws=SimpleNamespace(account=lambda: ACCOUNT))
    return login_token(installation, name, LoginOptions(requested_user, False, None))


@pytest.mark.parametrize("name", ["orders", ORDERS])
@pytest.mark.parametrize("user", ["app", None])
def test_an_answer_about_the_requested_database_is_used(name, user):
    assert login(name, user).host == HOST


def test_a_proxy_is_recognized_by_its_endpoint():
    host = f"orders.proxy-c0ffee.{REGION}.rds.amazonaws.com"
    assert login("orders", None, database=PROXY, host=host).host == host
    with pytest.raises(ExecutionFailed):
        login("orders", None, database=PROXY, host=f"other.proxy-c0ffee.{REGION}.rds.amazonaws.com")


@pytest.mark.parametrize("name", ["orders", ORDERS])
@pytest.mark.parametrize(
    "answer",
    [
        {"user": "admin"},
        {"database": ORDERS.replace(ACCOUNT, "999999999999")},
        {"database": ORDERS.replace(REGION, "us-east-1")},
        {"database": ORDERS.replace("orders", "payments")},
        {"database": "orders"},
    ],
    ids=["user", "account", "region", "identifier", "no ARN"],
)
def test_an_answer_about_another_user_or_database_is_refused(name, answer):
    with pytest.raises(ExecutionFailed, match="asked for app on"):
        login(name, **answer)


def test_an_endpoint_of_another_region_is_refused():
    with pytest.raises(ExecutionFailed, match="asked for app on"):
        login("orders", host=HOST.replace(REGION, "us-east-1"))


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("shop", "shop.cluster-x.eu-west-1.rds.amazonaws.com"),
        ("shop.cluster-ro-x.eu-west-1.rds.amazonaws.com", "shop.cluster-ro-x.eu-west-1.rds.amazonaws.com"),
        ("shop-1", "shop-1.x.eu-west-1.rds.amazonaws.com"),
        ("shop-2", "shop-2.x.eu-west-1.rds.amazonaws.com"),
        ("shop-2.x.eu-west-1.rds.amazonaws.com", "shop-2.x.eu-west-1.rds.amazonaws.com"),
    ],
    ids=["cluster", "the readers' endpoint", "writer", "reader", "the reader's endpoint"],
)
def test_a_token_that_is_signed_here_is_for_the_named_endpoint_of_a_cluster(name, host):
    rds = Rds(cluster("shop", "shop-1", "shop-2"), *(member(f"shop-{number}", "shop") for number in (1, 2)))
    credentials = (Credentials("AKIDEXAMPLE", "secret"), None)
    installation: Any = SimpleNamespace(aws=SimpleNamespace(client=lambda _: rds, credentials=lambda: credentials))
    token = login_token(installation, name, LoginOptions("app", True, None))
    assert token.token.startswith(f"{host}:5432/?")
    assert (token.host, token.port) == (host, 5432)


@pytest.mark.parametrize("user", [None, "app"])
@pytest.mark.parametrize(
    "endpoint",
    [
        f"orders.cluster-ro-c0ffee.{REGION}.rds.amazonaws.com",
        f"orders.cluster-custom-c0ffee.{REGION}.rds.amazonaws.com",
        "orders.cluster-c0ffee.us-east-1.rds.amazonaws.com",
    ],
    ids=["the readers'", "a custom one", "in another region"],
)
def test_a_token_for_another_endpoint_than_the_requested_is_refused(endpoint, user):
    cluster = {"database": ORDERS.replace(":db:", ":cluster:")}
    named = f"orders.cluster-c0ffee.{REGION}.rds.amazonaws.com"
    assert login(named, user, host=named, **cluster).host == named
    with pytest.raises((NotFound, Usage), match=r"by its identifier|does not exist|--api-url"):
        login(endpoint, user, host=named, **cluster)


@pytest.mark.parametrize("name", ["Orders", ORDERS.replace("orders", "Orders")])
@pytest.mark.parametrize("user", ["app", None])
def test_capitals_in_an_identifier_are_read_as_rds_writes_them(name, user):
    assert login(name, user).host == HOST


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("orders.cluster-ro-c0ffee.us-east-1.rds.amazonaws.com", "us-east-1"),
        ("reports.cluster-custom-c0ffee.us-east-1.rds.amazonaws.com", "us-east-1"),
        ("orders.endpoint.proxy-c0ffee.us-east-1.rds.amazonaws.com", "us-east-1"),
        ("orders.c0ffee.us-east-1.rds.amazonaws.com", "us-east-1"),
        ("orders.c0ffee.eusc-de-east-1.rds.amazonaws.eu", "eusc-de-east-1"),
    ],
    ids=["the readers'", "a custom one", "a proxy's", "an instance's", "another partition's"],
)
def test_the_api_is_not_asked_about_an_endpoint_of_another_region(endpoint, why):
    api: Any = SimpleNamespace(region=REGION)
    installation: Any = SimpleNamespace(api=api, aws=SimpleNamespace(account=lambda: ACCOUNT))
    for user in (None, "app"):
        with pytest.raises(Usage, match=why):
            login_token(installation, endpoint, LoginOptions(user, False, None))


@pytest.mark.parametrize(
    "endpoint",
    [
        f"orders.otherhash.{REGION}.rds.amazonaws.com",
        f"orders.proxy-c0ffee.{REGION}.rds.amazonaws.com",
        f"orders.cluster-c0ffee.{REGION}.rds.amazonaws.com",
        f"orders.cluster-ro-c0ffee.{REGION}.rds.amazonaws.com",
    ],
    ids=["another account's", "a proxy", "a cluster of that name", "a cluster's readers"],
)
def test_an_endpoint_that_only_begins_alike_is_refused(endpoint):
    with pytest.raises(Usage, match="gives tokens for"):
        login(endpoint)
    with pytest.raises(Usage, match="gives tokens for"):
        login(endpoint, host="localhost")


@pytest.mark.parametrize("kind", ["cluster-custom", "endpoint.proxy"])
def test_an_endpoint_whose_name_tells_no_database_and_that_is_not_listed_is_not_found(kind):
    with pytest.raises(NotFound, match="may not log in to"):
        login(f"orders.{kind}-c0ffee.{REGION}.rds.amazonaws.com")


@pytest.mark.parametrize(
    "endpoint",
    [
        "shop.x.eu-west-1.rds.amazonaws.com",
        "shop.cluster-y.eu-west-1.rds.amazonaws.com",
        "shop.cluster-x.us-east-1.rds.amazonaws.com",
        "shop.proxy-x.eu-west-1.rds.amazonaws.com",
        "shop-2.cluster-ro-x.eu-west-1.rds.amazonaws.com",
        "shop.cluster-custom-x.eu-west-1.rds.amazonaws.com",
        "shop.endpoint.proxy-x.eu-west-1.rds.amazonaws.com",
    ],
)
def test_a_token_is_signed_here_for_the_databases_own_endpoints_only(endpoint):
    rds = Rds(cluster("shop", "shop-1", "shop-2"), *(member(f"shop-{number}", "shop") for number in (1, 2)))
    credentials = (Credentials("AKIDEXAMPLE", "secret"), None)
    installation: Any = SimpleNamespace(aws=SimpleNamespace(client=lambda _: rds, credentials=lambda: credentials))
    with pytest.raises((NotFound, Usage)):
        login_token(installation, endpoint, LoginOptions("app", True, None))


@pytest.mark.parametrize(
    "name",
    [
        f"{HOST}:5432",
        f"postgres://app:s3cret@{HOST}:5432/shop?sslmode=verify-full",
        f"jdbc:postgresql://{HOST}/shop",
        f"mysql+pymysql://app:s3cret@{HOST}",
        f"app@{HOST}",
    ],
)
def test_a_connection_string_is_answered_with_its_host_alone(name):
    with pytest.raises(Usage) as caught:
        login(name)
    assert caught.value.remedy == f"name it {HOST}"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["postgres://app:s3cret@db.corp/shop", "mysql://app:s3cret@localhost"])
def test_a_password_in_a_name_is_not_repeated(name):
    with pytest.raises(Usage) as caught:
        login(name)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["..", "../x", "a..b", f"{'x' * 64}.example"])
def test_what_can_not_be_the_name_of_a_host_does_not_resolve(name):
    with pytest.raises(NotFound, match="does not resolve"):
        login(name)


@pytest.fixture
def evil() -> Iterator[SimpleNamespace]:
    """Serve an API that names another database, and record the requests."""
    told: list[str] = []

    class Evil(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["content-length"])).decode())
            body = GOOD | {"database": ORDERS.replace(ACCOUNT, "999999999999")}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Evil) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", told=told)
        server.shutdown()
        thread.join()


def test_an_untrusted_file_of_a_directory_changes_no_api(tmp_path, evil):
    """As in a repository that was just cloned: its file counts for nothing beside the user's own."""
    home, folder = tmp_path / "home", tmp_path / "cloned"
    folder.mkdir()
    (folder / "rdsiam.toml").write_text(f'api_url = "{evil.url}"\n')
    (home / ".config" / "rdsiam").mkdir(parents=True)
    (home / ".config" / "rdsiam" / "config.toml").write_text('api_url = "http://127.0.0.1:1"\n')
    done = subprocess.run(
        [sys.executable, "-c", "from rdsiam.command import main; main()", "env", "orders", "-u", "app"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(Path(command.__file__).parents[2]),
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_REGION": REGION,
        },
    )

    assert (done.stdout, evil.told) == ("", [])
    assert done.returncode == 6, "the user's own API is not there"
    assert f"{folder}/rdsiam.toml is not trusted" in done.stderr


@pytest.mark.parametrize("empty", ["", " ", "\t"])
def test_an_empty_user_is_refused_before_the_api_is_asked(empty):
    with pytest.raises(Usage, match=r"^the name of the user is empty"):
        login("orders", empty)


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", ""])
def test_an_arn_of_another_region_is_refused_before_the_api_is_asked(region):
    installation: Any = SimpleNamespace(api=SimpleNamespace(region=REGION))
    arn = ORDERS.replace(REGION, region)
    with pytest.raises(Usage, match=rf"^{arn} is in region {region or 'none'}, the API's is {REGION}; name the API"):
        login_token(installation, arn, LoginOptions("app", False, None))


def test_a_role_that_may_only_connect_is_told_how_to_sign(monkeypatch):
    def denied(*_: Any) -> None:
        raise Denied("orders: DescribeDBClusters: AccessDenied")

    monkeypatch.setattr(login_module, "describe_at", denied)
    installation: Any = SimpleNamespace(aws=None)
    with pytest.raises(Denied, match=r"AccessDenied; grant rds:Describe.*rdsiam token --host HOST"):
        login_token(installation, "orders", LoginOptions("app", True, None))


@pytest.mark.parametrize(
    ("name", "user", "remedy"),
    [
        ("oders", "app", "did you mean orders? ask for an entry"),
        ("Orders", "ap", "did you mean app? ask for an entry"),
        ("orders", "app", "ask for an entry"),
        ("payments", "app", "ask for an entry"),
        (ORDERS.replace("orders", "oders"), "app", "ask for an entry"),
    ],
)
def test_a_denial_suggests_names_of_the_callers_own_list(name, user, remedy):
    def deny(*_: object) -> None:
        denied = Denied("access.yaml says no", "ask for an entry")
        denied.code = "not-allowed"
        raise denied

    listed = [{"arn": ORDERS, "identifier": "orders", "users": ["app"]}]
    api = SimpleNamespace(token=deny, databases=lambda: listed, region=REGION)
    installation: Any = SimpleNamespace(api=api, aws=SimpleNamespace(account=lambda: ACCOUNT))
    with pytest.raises(Denied) as error:
        login_token(installation, name, LoginOptions(user, False, None))
    assert (error.value.remedy, error.value.code) == (remedy, "not-allowed")
