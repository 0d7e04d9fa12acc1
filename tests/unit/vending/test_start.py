"""The start of VendFunction: light when somebody waits for it, complete when it is prepared beforehand."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SHARDS = {"POWERTOOLS_SERVICE_NAME": "rdsiam", "RDSIAM_CONNECT_ROLE_SHARDS": "4"}
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
    assert loaded & HEAVY == set()


def test_the_first_request_loads_neither_boto3_nor_slow_modules():
    loaded = start("(app._vending(), *sys.modules)[1:]")
    assert not any(f"'{name}'" in loaded for name in HEAVY)


def test_no_client_is_made_before_the_first_request_on_demand():
    assert start("app._vending.cache_info().currsize") == "0"
    assert start("app._vending.cache_info().currsize", AWS_LAMBDA_INITIALIZATION_TYPE="on-demand") == "0"


def test_clients_are_ready_before_the_first_request_if_prepared():
    for kind in ("snap-start", "provisioned-concurrency"):
        assert start("app._vending.cache_info().currsize", AWS_LAMBDA_INITIALIZATION_TYPE=kind) == "1"


def test_a_snapshot_without_keys_has_boto3s_clients():
    variables = {"AWS_ACCESS_KEY_ID": "", "AWS_DEFAULT_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true"}
    kind = start("type(app._vending()._sts).__module__", AWS_LAMBDA_INITIALIZATION_TYPE="snap-start", **variables)
    assert kind == "botocore.client"
