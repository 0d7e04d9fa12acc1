"""Logins of applications: region, credentials and TLS, and the drivers that they are for."""

import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy
from botocore.credentials import RefreshableCredentials

from rdsiam import pool
from rdsiam.errors import ConnectionFailed, DatabaseNotFound, InvalidRequest, NoSuchEndpoint
from rdsiam.signer import Credentials
from rdsiam.tokens import drivers
from rdsiam.tokens.trust import ca_for
from tests.unit.aws.test_rds import Rds, cluster, custom, instance, member, proxy, proxy_endpoint

KEYS = Credentials("AKIDEXAMPLE", "the-secret-key")
HOST = "orders.x.eu-west-1.rds.amazonaws.com"


@pytest.fixture(autouse=True)
def _no_region(monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "RDSIAM_CA"):
        monkeypatch.delenv(name, raising=False)


def login(host: str = HOST, **options: Any) -> pool.Login:
    return pool.Login(host, 5432, "app", credentials=lambda: KEYS, **options)


# --- region ---


@pytest.mark.parametrize(
    ("host", "given", "environment", "region"),
    [
        (HOST, None, {}, "eu-west-1"),
        (HOST, None, {"AWS_REGION": "us-east-1"}, "eu-west-1"),
        (HOST, "eu-north-1", {"AWS_REGION": "us-east-1"}, "eu-north-1"),
        ("localhost", None, {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-2"}, "us-east-1"),
        ("db.example.com", None, {"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-east-2"}, "us-east-2"),
        ("db.example.com", "eu-north-1", {}, "eu-north-1"),
    ],
)
def test_the_region_is_the_given_one_or_the_hosts_or_the_environments(monkeypatch, host, given, environment, region):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert f"%2F{region}%2Frds-db%2F" in login(host, region=given).token()


def test_a_host_without_a_region_in_its_name_needs_a_region():
    with pytest.raises(InvalidRequest, match="AWS_REGION"):
        pool.Login("db.example.com", 5432, "app")


# --- drivers ---


def test_a_login_is_bound_to_one_engine():
    with pytest.raises(InvalidRequest):
        pool.use_tokens(sqlalchemy.Engine, login())
    with pytest.raises(InvalidRequest, match="psycopg"):
        pool.use_tokens(sqlalchemy.create_engine("sqlite://"), login())


@pytest.mark.parametrize(
    ("version", "unknown"), [(110000, {"gssencmode", "require_auth"}), (150008, {"require_auth"}), (160000, set())]
)
def test_an_old_libpq_gets_no_option_that_it_does_not_know(version, unknown):
    all_options = drivers.libpq(HOST, 5432, "app", "t", 180000)
    assert (all_options["sslmode"], all_options["require_auth"], all_options["gssencmode"]) == (
        "verify-full",
        "password",
        "disable",
    )
    got = drivers.libpq(HOST, 5432, "app", "t", version)
    assert got == {name: value for name, value in all_options.items() if name not in unknown}


@pytest.mark.parametrize("driver", ["asyncpg", "pymysql", "asyncmy", "aiomysql"])
def test_contexts_verify_chain_and_name(driver):
    context = getattr(login(), driver)()["ssl"]
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert context.get_ca_certs()


def test_mysqls_own_drivers_verify_chain_and_name():
    connector, client = login().mysql_connector(), login().mysqlclient()
    assert (connector["ssl_verify_cert"], connector["ssl_verify_identity"]) == (True, True)
    assert (client["ssl_mode"], client["ssl"]) == ("VERIFY_IDENTITY", {"ca": ca_for(HOST)})
    assert connector["ssl_ca"] == ca_for(HOST)


def test_a_token_of_aiomysql_is_given_out_only_inside_tls():
    arguments = login().aiomysql()
    with pytest.raises(ConnectionFailed, match="tls") as caught:
        arguments["password"].encode("latin1")
    assert "X-Amz" not in str(caught.value)
    arguments["ssl"].wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=HOST)
    assert arguments["password"].encode("latin1").startswith(HOST.encode())
    with pytest.raises(ConnectionFailed):
        login().aiomysql()["password"].encode("latin1")


# --- credentials ---


@pytest.mark.parametrize(("minutes", "renewed"), [(16, 0), (14, 1)])
def test_credentials_are_reused_and_renewed_before_a_token_would_outlive_them(monkeypatch, minutes, renewed):
    calls = []

    def refresh() -> dict[str, str]:
        calls.append(1)
        end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        return {"access_key": "new", "secret_key": "s", "token": "t", "expiry_time": end}

    end = datetime.now(UTC) + timedelta(minutes=minutes)
    found = RefreshableCredentials("old", "s", "t", end, refresh, "test")
    looked: list[int] = []

    def look(_: Any) -> RefreshableCredentials:
        looked.append(1)
        return found

    monkeypatch.setattr("botocore.session.Session.get_credentials", look)
    one = pool.Login("db.x.eu-west-1.rds.amazonaws.com", 5432, "app")
    tokens = [one.token() for _ in range(3)]
    assert (len(looked), len(calls)) == (1, renewed)
    assert all(("Credential=new%2F" in token) is bool(renewed) for token in tokens)


def test_a_login_without_credentials_says_so(monkeypatch):
    monkeypatch.setattr("botocore.session.Session.get_credentials", lambda _: None)
    with pytest.raises(pool.NoCredentials):
        pool.Login("db.x.eu-west-1.rds.amazonaws.com", 5432, "app").token()


def test_a_login_shows_no_secret():
    one = login()
    one.token()
    assert KEYS.secret_key not in repr(one)
    assert "X-Amz" not in repr(one)


FLEET = (
    cluster("shop", "shop-1", "shop-2", custom=[custom("reports", "shop")]),
    member("shop-1", "shop"),
    member("shop-2", "shop"),
    instance("orders"),
    proxy("front", EngineFamily="MYSQL", endpoints=[proxy_endpoint("far", "front", TargetRole="READ_ONLY")]),
)


class Client(Rds):
    """RDS's client for the fleet, with the classes of errors that botocore makes."""

    def __init__(self) -> None:
        super().__init__(*FLEET)
        names = ("DBClusterNotFoundFault", "DBInstanceNotFoundFault", "DBProxyNotFoundFault")
        self.exceptions = type("Exceptions", (), {name: type(name, (Exception,), {}) for name in names})

    def _answer(self, key: str, found: list[Any], kind: str, code: str, asked: dict[str, Any]) -> Any:
        name = asked.get("DBProxyName") or asked.get(f"{kind}Identifier")
        keys = [f"{kind}{suffix}" for suffix in ("Name", "Identifier", "Arn")]
        named = [each for each in found if name in map(each.get, keys)]
        if name is not None and not named:
            raise getattr(self.exceptions, code.removesuffix("Fault") + "Fault")
        return {key: named} if name is not None else super()._answer(key, found, kind, code, asked)


@pytest.fixture
def rds(monkeypatch):
    asked = []

    def create_client(_: Any, service: str, region_name: str | None) -> Client:
        asked.append((service, region_name))
        return Client()

    monkeypatch.setattr("botocore.session.Session.create_client", create_client)
    return asked


@pytest.mark.parametrize(
    ("database", "endpoint", "host", "port"),
    [
        ("shop", "writer", "shop.cluster-x", 5432),
        ("shop", "reader", "shop.cluster-ro-x", 5432),
        ("shop", "reports", "reports.cluster-custom-x", 5432),
        ("shop", "shop-2", "shop-2.x", 5432),
        ("shop-2", "writer", "shop-2.x", 5432),
        ("orders", "writer", "orders.x", 5432),
        ("front", "reader", "far.endpoint.proxy-x", 3306),
    ],
)
def test_a_login_finds_the_endpoint_of_a_database(rds, database, endpoint, host, port):
    found = pool.Login.to(database, "app", endpoint, credentials=lambda: Credentials("AKID", "secret"))
    assert (found.host, found.port) == (f"{host}.eu-west-1.rds.amazonaws.com", port)
    assert found.token().startswith(f"{found.host}:{port}/?Action=connect&DBUser=app&")
    assert rds == [("rds", None)]


def test_the_default_is_the_writer_and_rds_is_asked_in_the_given_region(rds):
    assert pool.Login.to("shop", "app", region="eu-west-1").host == "shop.cluster-x.eu-west-1.rds.amazonaws.com"
    assert rds == [("rds", "eu-west-1")]


@pytest.mark.parametrize("endpoint", ["nothing", "shop-3"])
def test_an_endpoint_that_a_database_does_not_have_is_an_error(rds, endpoint):
    with pytest.raises(
        NoSuchEndpoint, match=r"shop: the cluster has no such .* it has writer, reader, reports, shop-1 and shop-2"
    ):
        pool.Login.to("shop", "app", endpoint)
    with pytest.raises(NoSuchEndpoint, match="orders: an RDS instance has one endpoint"):
        pool.Login.to("orders", "app", "reader")


@pytest.mark.parametrize("name", ["shop-1", "arn:aws:rds:eu-west-1:123456789012:db:shop-1"])
def test_a_member_of_a_cluster_has_its_own_endpoint_and_others_are_its_clusters(rds, name):
    assert pool.Login.to(name, "app").host == pool.Login.to("shop", "app", "shop-1").host
    problem = "a member of the cluster shop has one endpoint, writer, which is its own; name the cluster shop as the"
    with pytest.raises(NoSuchEndpoint, match=problem) as error:
        pool.Login.to(name, "app", "reader")
    assert "replica" not in str(error.value)


@pytest.mark.parametrize("name", ["", "nothing", " ", "shop*"])
def test_a_name_that_rds_takes_for_all_databases_is_none(rds, monkeypatch, name):
    for method in ("describe_db_instances", "describe_db_clusters"):
        describe = getattr(Rds, method)
        monkeypatch.setattr(Rds, method, lambda self, describe=describe, **_: describe(self))
    with pytest.raises(DatabaseNotFound):
        pool.Login.to(name, "app")


@pytest.mark.parametrize("name", ["SHOP", "arn:aws:rds:eu-west-1:123456789012:cluster:shop"])
@pytest.mark.parametrize("endpoint", ["reader", "shop-1"])
def test_a_cluster_has_all_of_its_endpoints_however_it_is_named(rds, name, endpoint):
    assert pool.Login.to(name, "app", endpoint).host == pool.Login.to("shop", "app", endpoint).host


def test_a_database_that_does_not_exist_is_an_error(rds):
    with pytest.raises(DatabaseNotFound, match="is named nothing in region eu-west-1"):
        pool.Login.to("nothing", "app")
