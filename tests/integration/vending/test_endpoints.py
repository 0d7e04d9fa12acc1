"""Tokens and logins at a cluster's writer, readers, custom endpoints and instances: API, command and pool."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from rdsiam.pool import Login
from rdsiam.signer import Credentials
from tests.integration import commands
from tests.integration.account import ROOT, until
from tests.integration.api_requests import get, post

#: What a role needs besides `rds-db:connect` for `--local --endpoint` and `Login.to`, as docs/command.md says.
DESCRIBE = ["rds:DescribeDBClusterEndpoints", "rds:DescribeDBClusters", "rds:DescribeDBInstances"]
#: Endpoints, and whether they lead to a reader.
REACHED = {"writer": False, "reader": True, "shop-reports": True, "endpoints-1": False, "endpoints-2": True}


@pytest.fixture(scope="module")
def cluster(account, databases) -> Iterator[SimpleNamespace]:
    """Return an onboarded cluster with a reader and a custom endpoint, and a role that may log in to it."""
    role = account.make_role("endpoints")
    account.let_call_the_api(role)
    statement = {"Sid": "Describe", "Effect": "Allow", "Action": DESCRIBE, "Resource": "*"}
    account.cloud.client("iam").put_role_policy(
        RoleName="endpoints",
        PolicyName="describe",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    for name in ("endpoints", "endpoints-front"):
        user = {"name": "app", "privileges": "readonly", "on": ["shop"], "callers": [{"role": role}], "roles": [role]}
        account.entries[name] = {"match": {"identifier": name}, "users": [user]}
    account.publish_entries()
    databases.make_cluster("endpoints", "aurora-postgresql", members=2, DatabaseName="shop")
    arn = databases.cluster("endpoints")["DBClusterArn"]
    account.wait_onboarded(arn, 120)
    databases.rds.create_db_cluster_endpoint(
        DBClusterIdentifier="endpoints", DBClusterEndpointIdentifier="shop-reports", EndpointType="READER"
    )
    databases.available("endpoints-2")
    until(lambda: _custom(databases)["Status"] == "available", 30)
    _forget_lists(account)
    yield SimpleNamespace(arn=arn, role=role, keys=account.assume(role), described=databases.cluster("endpoints"))
    _forget_lists(account)


def _forget_lists(account: Any) -> None:
    """Let the functions read access.yaml and the inventory again at once, not within a minute."""
    for function in ("ReportsFunction", "VendFunction"):
        account.start_afresh(function)


def _custom(databases: Any) -> dict[str, Any]:
    described = databases.rds.describe_db_cluster_endpoints(DBClusterEndpointIdentifier="shop-reports")
    return dict(described["DBClusterEndpoints"][0])


@pytest.fixture
def run(account, cluster, tmp_path):
    """Run the command with the rights of the role."""

    def run(*arguments: str) -> Any:
        environment = {
            "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "layers" / "rdsiam"),
            "AWS_ENDPOINT_URL": account.cloud.endpoint, "AWS_REGION": account.cloud.region,
            "AWS_ACCESS_KEY_ID": cluster.keys["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": cluster.keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": cluster.keys["SessionToken"], "AWS_EC2_METADATA_DISABLED": "true",
            "RDSIAM_API_URL": account.cloud.api_url, "RDSIAM_CA": str(account.cloud.ca),
        }  # fmt: skip
        return commands.run(arguments, environment, limit=60)

    return run


def vend(account: Any, cluster: Any, endpoint: str) -> dict[str, Any]:
    answer = post(account, cluster.keys, {"database": cluster.arn, "user": "app", "endpoint": endpoint})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def is_reader(account: Any, host: str, port: int, token: str) -> bool:
    """Log in over verified TLS, and return whether the server is a reader."""
    tls: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": str(account.cloud.ca)}
    with psycopg.connect(host=host, port=port, user="app", password=token, dbname="shop", **tls) as session:
        row = session.execute("SELECT pg_is_in_recovery()").fetchone()
    assert row is not None
    return bool(row[0])


@pytest.mark.parametrize("endpoint", REACHED)
def test_a_token_logs_in_at_its_endpoint_and_at_no_other_server(account, cluster, endpoint):
    answer = vend(account, cluster, endpoint)
    assert is_reader(account, answer["host"], answer["port"], answer["token"]) == REACHED[endpoint]
    other = vend(account, cluster, "writer" if REACHED[endpoint] else "reader")
    with pytest.raises(psycopg.OperationalError, match="PAM authentication failed"):
        is_reader(account, other["host"], other["port"], answer["token"])


def test_a_token_of_a_custom_endpoint_names_it(account, databases, cluster):
    answer = vend(account, cluster, "shop-reports")
    assert (answer["host"], answer["port"]) == (_custom(databases)["Endpoint"], cluster.described["Port"])
    assert answer["token"].startswith(f"{answer['host']}:{answer['port']}/?")


def test_the_list_has_all_endpoints_and_decisions_name_theirs(account, cluster):
    (listed,) = get(account, cluster.keys, "/databases").json()["databases"]
    names = [(endpoint["name"], endpoint["kind"]) for endpoint in listed["endpoints"]]
    assert names == [
        ("writer", "writer"), ("reader", "reader"), ("shop-reports", "custom"), ("endpoints-1", "instance"),
        ("endpoints-2", "instance"),
    ]  # fmt: skip
    addresses = {endpoint["name"]: (endpoint["host"], endpoint["port"]) for endpoint in listed["endpoints"]}
    assert addresses["writer"] == (listed["host"], listed["port"])
    answer = vend(account, cluster, "reader")
    assert addresses["reader"] == (answer["host"], answer["port"])
    newest = get(account, cluster.keys, "/decisions?limit=1").json()["decisions"][0]
    assert (newest["database"], newest["endpoint"], newest["outcome"]) == (cluster.arn, "reader", "allowed")


def test_an_unknown_endpoint_is_named_as_such_to_nobody_but_callers_who_may_log_in(account, cluster):
    body = {"database": cluster.arn, "user": "app", "endpoint": "endpoints-3"}
    answer = post(account, cluster.keys, body)
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-endpoint")
    assert "it has writer, reader, shop-reports, endpoints-1 and endpoints-2" in answer.json()["detail"]
    stranger = account.make_role("endpoints-stranger")
    account.let_call_the_api(stranger)
    keys = account.assume(stranger)
    denials = [
        {name: value for name, value in post(account, keys, body | changed).json().items() if name != "request_id"}
        for changed in ({}, {"endpoint": "reader"}, {"database": "nothing"}, {"user": "nobody"})
    ]
    assert [denial["code"] for denial in denials] == ["not-allowed"] * 4
    assert all(denial == denials[0] for denial in denials)


@pytest.mark.parametrize("local", [[], ["--local", "-u", "app"]], ids=["API", "local"])
@pytest.mark.parametrize("name", ["endpoints", pytest.param("endpoints-2", marks=pytest.mark.exhaustive)])
def test_programs_log_in_at_the_named_endpoint(run, local, name):
    query = ["-d", "shop", "--", "-XAtc", "SELECT pg_is_in_recovery()"]
    for endpoint in ("reader", "endpoints-2", "writer"):
        done = run("psql", name, "--endpoint", endpoint, *local, *query)
        assert (done.stdout, done.returncode) == ("f\n" if endpoint == "writer" else "t\n", 0), done.stderr
    done = run("exec", name, "--endpoint", "endpoints-2", *local, "-d", "shop", "--", "psql", "-XAtc", query[-1])
    assert (done.stdout, done.returncode) == ("t\n", 0), done.stderr


def test_a_member_is_named_by_its_identifier(run):
    for user in ([], ["-u", "app"]):
        done = run("psql", "endpoints-2", *user, "-d", "shop", "--", "-XAtc", "SELECT pg_is_in_recovery()")
        assert (done.stdout, done.returncode) == ("t\n", 0), done.stderr


@pytest.mark.parametrize("local", [[], pytest.param(["--local"], marks=pytest.mark.exhaustive)], ids=["API", "local"])
def test_an_unknown_endpoint_ends_the_command_with_those_that_exist(run, local):
    done = run("token", "endpoints", "-u", "app", "--endpoint", "nothing", *local)
    assert (done.stdout, done.returncode) == ("", 5)
    assert "it has writer, reader, shop-reports, endpoints-1 and endpoints-2" in done.stderr
    assert "[no-such-endpoint]" in done.stderr


def test_ls_shows_a_row_for_each_endpoint(run, cluster):
    done = run("ls", "--endpoints", "--output", "csv")
    rows = [line.split(",")[:3] for line in done.stdout.splitlines()]
    assert rows[:3] == [
        ["database", "name", "kind"], ["endpoints", "writer", "writer"], ["endpoints", "reader", "reader"],
    ]  # fmt: skip


def test_the_doctor_diagnoses_the_reader(run, cluster):
    done = run("doctor", "endpoints", "app", "--endpoint", "reader", "--output", "json")
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert cluster.described["ReaderEndpoint"] in rows["port"]["detail"]
    assert [rows[check]["state"] for check in ("name", "port", "TLS", "API", "login")] == ["OK"] * 5, rows


def test_a_pool_finds_the_reader(account, cluster, monkeypatch):
    keys = Credentials(*(cluster.keys[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")))
    for name, value in {
        "AWS_ENDPOINT_URL": account.cloud.endpoint, "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key, "AWS_SESSION_TOKEN": str(keys.session_token),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for endpoint in ("reader", "writer"):
        login = Login.to("endpoints", "app", endpoint, region=account.cloud.region)
        assert is_reader(account, login.host, login.port, login.token()) == (endpoint == "reader")


@pytest.fixture
def proxy(account, databases, cluster):
    """Return an onboarded proxy with a read-only endpoint; nothing listens there."""
    subnets = [subnet["SubnetId"] for subnet in account.cloud.client("ec2").describe_subnets()["Subnets"]]
    made = databases.rds.create_db_proxy(
        DBProxyName="endpoints-front", EngineFamily="POSTGRESQL", DefaultAuthScheme="IAM_AUTH", VpcSubnetIds=subnets,
        RoleArn="arn:aws:iam::123456789012:role/proxy",
    )["DBProxy"]  # fmt: skip
    account.wait_onboarded(made["DBProxyArn"], 60)
    databases.rds.create_db_proxy_endpoint(
        DBProxyName="endpoints-front", DBProxyEndpointName="front-reads", VpcSubnetIds=subnets, TargetRole="READ_ONLY"
    )
    until(lambda: _of_proxy(databases)["Status"] == "available", 30)
    _forget_lists(account)
    yield made["DBProxyArn"]
    databases.rds.delete_db_proxy_endpoint(DBProxyEndpointName="front-reads")
    databases.rds.delete_db_proxy(DBProxyName="endpoints-front")


def _of_proxy(databases: Any) -> dict[str, Any]:
    described = databases.rds.describe_db_proxy_endpoints(DBProxyEndpointName="front-reads")
    return dict(described["DBProxyEndpoints"][0])


def test_the_token_of_a_proxy_s_endpoint_names_it_and_the_proxy_s_resource_id(account, databases, cluster, proxy, run):
    host = _of_proxy(databases)["Endpoint"]
    for endpoint in ("reader", "front-reads", host):
        answer = post(account, cluster.keys, {"database": proxy, "user": "app", "endpoint": endpoint})
        assert (answer.status_code, answer.json()["host"], answer.json()["port"]) == (200, host, 5432), answer.text
    done = run("token", host)
    assert done.stdout.startswith(f"{host}:5432/?Action=connect&DBUser=app&"), done.stderr
    answer = post(account, cluster.keys, {"database": proxy, "user": "app", "endpoint": "nothing"})
    assert "it has writer, reader and front-reads" in answer.json()["detail"]


@pytest.mark.parametrize("local", [[], pytest.param(["--local"], marks=pytest.mark.exhaustive)], ids=["API", "local"])
def test_the_host_name_of_an_endpoint_leads_to_just_that_endpoint(account, cluster, run, local):
    hosts = {name: vend(account, cluster, name)["host"] for name in REACHED}
    for name, host in hosts.items():
        done = run("psql", host, "-u", "app", *local, "-d", "shop", "--", "-XAtc", "SELECT pg_is_in_recovery()")
        assert (done.stdout, done.returncode) == ("t\n" if REACHED[name] else "f\n", 0), done.stderr
    done = run("doctor", hosts["reader"], "app", "--output", "json")
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert hosts["reader"] in rows["port"]["detail"]
    assert [rows[check]["state"] for check in ("name", "port", "TLS", "API", "login")] == ["OK"] * 5, rows
