"""The start of VendFunction: light when somebody waits for it, complete when it is prepared beforehand."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[3]
SHARDS = {"POWERTOOLS_SERVICE_NAME": "rdsiam", "RDSIAM_CONNECT_ROLE_SHARDS": "4"}
#: Loaded by pydantic's search for plugins.
SEARCHING = {"importlib.metadata", "zipfile"}
HEAVY = {"boto3", "botocore.session", "botocore.client", "botocore.loaders", "urllib3", "psycopg", "pymysql"}


def start(print_this: str, **variables: str) -> str:
    """Import the handler as Lambda does, and return what the expression is then."""
    path = os.pathsep.join([str(ROOT / "layers" / "rdsiam"), str(ROOT / "functions" / "vend")])
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1"}
    names = ("ACCESS_BUCKET", "INVENTORY_TABLE", "DECISIONS_TABLE", "CONNECT_ROLE", "CA_URL", "PROXY_CA_URL")
    ours = {f"RDSIAM_{name}": "arn:aws:iam::123456789012:role/x" for name in names}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; import app; print({print_this})"],
        env={"PYTHONPATH": path, "POWERTOOLS_METRICS_NAMESPACE": "test", **SHARDS, **keys, **ours, **variables},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.strip()


def test_a_cold_start_loads_neither_boto3_nor_what_is_slow_in_botocore():
    loaded = set(start("*sys.modules").split())
    assert {"rdsiam.vending.flow", "rdsiam.aws.fast_clients"} <= loaded
    assert loaded & (HEAVY | SEARCHING) == set()


def test_the_first_request_loads_neither_boto3_nor_slow_modules():
    loaded = start("(app._vending(), *sys.modules)[1:]")
    assert not any(f"'{name}'" in loaded for name in HEAVY)


def test_no_client_is_made_before_the_first_request_on_demand():
    assert start("app._vending.cache_info().currsize") == "0"
    assert start("app._vending.cache_info().currsize", AWS_LAMBDA_INITIALIZATION_TYPE="on-demand") == "0"


def test_clients_are_ready_before_the_first_request_if_prepared():
    for kind in ("snap-start", "provisioned-concurrency"):
        assert start("app._vending.cache_info().currsize", AWS_LAMBDA_INITIALIZATION_TYPE=kind) == "1"


@pytest.fixture
def aws():
    """Answer S3 with an access.yaml and DynamoDB with its applied version; record the requests."""
    with Aws() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Aws(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked = []
        self.variables = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_port}", "AWS_LAMBDA_RUNTIME_API": "x"}


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Aws

    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append(self.headers.get("x-amz-target") or unquote(self.path))
        item = {"Item": {"applied_version": {"S": "one"}}}
        body = FILE if self.command == "GET" else json.dumps(item).encode()
        self.send_response(200)
        for name, value in (("content-length", str(len(body))), ("etag", '"e"'), ("x-amz-version-id", "one")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


FILE = (
    b"version: 1\ndatabases: [{match: {identifier: orders}, users: [{name: app, privileges: readonly, on: [shop]}]}]\n"
)
#: Waits for all calls that were begun.
ALL_READ = "[thread.join() for thread in __import__('threading').enumerate() if thread.daemon]"
READS = {"/arn:aws:iam::123456789012:role/x/access.yaml", "DynamoDB_20120810.GetItem"}


def test_a_cold_start_has_begun_what_its_first_request_reads_and_reads_it_once(aws):
    assert start("app._vending()._stores.access.current().version", **aws.variables) == "one"
    assert sorted(aws.asked) == sorted(READS)


def test_a_cold_start_begins_to_read_before_any_request(aws):
    start(ALL_READ, **aws.variables)
    assert set(aws.asked) == READS


@pytest.mark.parametrize("kind", ["snap-start", "provisioned-concurrency"])
def test_what_waits_for_its_first_request_reads_nothing_ahead(aws, kind):
    start(ALL_READ, AWS_LAMBDA_INITIALIZATION_TYPE=kind, **aws.variables)
    assert aws.asked == []


def test_a_snapshot_without_keys_has_boto3s_clients():
    variables = {"AWS_ACCESS_KEY_ID": "", "AWS_DEFAULT_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true"}
    kind = start("type(app._vending()._sts).__module__", AWS_LAMBDA_INITIALIZATION_TYPE="snap-start", **variables)
    assert kind == "botocore.client"
