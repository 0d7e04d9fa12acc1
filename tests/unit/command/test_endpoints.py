"""The command's `--endpoint` and host names of endpoints: what is asked, and what is signed here."""

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rdsiam.command.errors import Denied, NotFound, Usage
from rdsiam.command.listed import Listed
from rdsiam.command.login import LoginOptions, LoginToken, login_token
from rdsiam.errors import NoSuchEndpoint
from rdsiam.signer import Credentials
from tests.unit.aws.test_rds import Rds, cluster, custom, instance, member, proxy, proxy_endpoint

ACCOUNT, REGION = "123456789012", "eu-west-1"
X = f"x.{REGION}.rds.amazonaws.com"
SHOP, FRONT = (f"arn:aws:rds:{REGION}:{ACCOUNT}:{name}" for name in ("cluster:shop", "db-proxy:prx-front"))
ORDERS = f"arn:aws:rds:{REGION}:{ACCOUNT}:db:orders"
HOSTS = {
    "writer": f"shop.cluster-{X}",
    "reader": f"shop.cluster-ro-{X}",
    "reports": f"reports.cluster-custom-{X}",
    "shop-1": f"shop-1.{X}",
    "shop-2": f"shop-2.{X}",
}
KINDS = {"writer": "writer", "reader": "reader", "reports": "custom"}
LISTED: list[dict[str, Any]] = [
    {
        "arn": SHOP, "identifier": "shop", "engine": "aurora-postgresql", "users": ["app"], "host": HOSTS["writer"],
        "port": 5432,
        "endpoints": [
            {"name": name, "kind": KINDS.get(name, "instance"), "host": host, "port": 5432}
            for name, host in HOSTS.items()
        ],
    },
    {
        "arn": FRONT, "identifier": "front", "engine": "postgres", "users": ["app", "other"],
        "host": f"front.proxy-{X}", "port": 5432,
        "endpoints": [
            {"name": "writer", "kind": "writer", "host": f"front.proxy-{X}", "port": 5432},
            {"name": "far", "kind": "proxy", "host": f"far.endpoint.proxy-{X}", "port": 5432},
        ],
    },
    {"arn": ORDERS, "identifier": "orders", "engine": "postgres", "users": ["app"], "host": f"orders.{X}"},
]  # fmt: skip


class Api:
    """Answers as the API does for these databases, and records requests for tokens."""

    region = REGION

    def __init__(self, listed: list[dict[str, Any]] = LISTED) -> None:
        self.listed = listed
        self.asked: list[tuple[str, str, str | None]] = []
        self.listings = 0

    def databases(self) -> list[dict[str, Any]]:
        self.listings += 1
        return self.listed

    def without_role(self) -> str:
        return ""

    def token(self, name: str, user: str, _: str | None, endpoint: str | None) -> dict[str, Any]:
        self.asked.append((name, user, endpoint))
        # The API takes the identifiers of instances only.
        arn = f"arn:aws:rds:{REGION}:{ACCOUNT}:db:{name}" if not name.startswith("arn:") else name
        database = next((each for each in LISTED if each["arn"] == arn), None)
        if database is None:
            denied = Denied("denied")
            denied.code = "not-allowed"
            raise denied
        known: Any = database.get("endpoints") or [{"name": "writer", "host": database["host"]}]
        hosts = [each["host"] for each in known if (endpoint or "writer") in (each["name"], each["host"])]
        if not hosts:
            error = NotFound("no such endpoint; it has …")
            error.code = "no-such-endpoint"
            raise error
        return {
            "token": "t", "host": hosts[0], "port": 5432, "user": user, "engine": database["engine"], "database": arn,
        }  # fmt: skip


def ask(name: str, user: str | None = "app", endpoint: str | None = None, api: Api | None = None) -> LoginToken:
    installation: Any = SimpleNamespace(api=api or Api(), aws=SimpleNamespace(account=lambda: ACCOUNT))
    return login_token(installation, name, LoginOptions(user, False, None, endpoint))


@pytest.mark.parametrize("user", ["app", None])
@pytest.mark.parametrize("name", ["shop", "SHOP", SHOP])
@pytest.mark.parametrize("endpoint", HOSTS)
def test_an_endpoint_of_a_database_is_asked_for(name, user, endpoint):
    token = ask(name, user, endpoint)
    assert (token.host, token.database) == (HOSTS[endpoint], SHOP)


@pytest.mark.parametrize("user", ["app", None])
@pytest.mark.parametrize("host", [*HOSTS.values(), HOSTS["reader"].upper(), f"{HOSTS['reports']}."])
def test_the_host_name_of_an_endpoint_leads_to_just_that_endpoint(host, user):
    assert ask(host, user).host == host.lower().rstrip(".")


@pytest.mark.parametrize(
    ("host", "user"), [(f"far.endpoint.proxy-{X}", "other"), (f"front.proxy-{X}", "app"), (f"orders.{X}", None)]
)
def test_so_do_those_of_proxies_and_instances(host, user):
    assert ask(host, user).host == host


def test_a_cname_leads_to_the_endpoint_that_it_names(monkeypatch):
    monkeypatch.setattr("rdsiam.command.described.follow", lambda _: HOSTS["reader"])
    assert ask("reports.example.com").host == HOSTS["reader"]


def test_the_default_is_the_writer_and_the_list_is_not_read():
    api = Api()
    assert ask(SHOP, api=api).host == HOSTS["writer"]
    assert ask("orders", api=api).host == f"orders.{X}"
    assert (api.asked, api.listings) == ([(SHOP, "app", None), ("orders", "app", None)], 0)


@pytest.mark.parametrize(
    ("name", "host"), [("shop", HOSTS["writer"]), ("front", f"front.proxy-{X}"), ("shop-2", HOSTS["shop-2"])]
)
def test_a_cluster_a_proxy_and_a_member_are_named_by_their_identifiers_too(name, host):
    assert ask(name).host == host
    if name != "front":
        assert ask(name, None).host == host


@pytest.mark.parametrize("name", ["nothing", "payroll"])
def test_a_denial_stays_one_if_the_list_has_no_such_database(name):
    with pytest.raises(Denied, match="denied"):
        ask(name)


@pytest.mark.parametrize("name", ["shop", "orders"])
def test_an_unknown_endpoint_is_the_api_s_answer(name):
    with pytest.raises(NotFound, match="it has"):
        ask(name, endpoint="nothing")


@pytest.mark.parametrize("host", [f"none.cluster-custom-{X}", f"none.endpoint.proxy-{X}"], ids=["custom", "of a proxy"])
def test_an_endpoint_that_is_not_in_the_list_is_not_found(host):
    with pytest.raises(NotFound, match="you may not log in to"):
        ask(host)


def test_a_reader_endpoint_that_is_not_in_the_list_is_left_to_the_api():
    api = Api([{**LISTED[0], "endpoints": []}])
    assert ask(HOSTS["reader"], api=api).host == HOSTS["reader"]
    assert api.asked == [(SHOP, "app", HOSTS["reader"])]


@pytest.mark.parametrize("name", [HOSTS["reader"], HOSTS["writer"]])
@pytest.mark.parametrize("local", [True, False])
def test_two_endpoints_are_refused(name, local):
    installation: Any = SimpleNamespace(api=Api(), aws=None)
    for endpoint, problem in (("reader", "names another"), (" ", "is empty")):
        with pytest.raises(Usage, match=problem):
            login_token(installation, name, LoginOptions("app", local, None, endpoint))


FLEET = (
    cluster("shop", "shop-1", "shop-2", custom=[custom("reports", "shop")]),
    member("shop-1", "shop"),
    member("shop-2", "shop"),
    cluster("lonely", "lonely-1"),
    member("lonely-1", "lonely"),
    instance("orders"),
    proxy("front", endpoints=[proxy_endpoint("far", "front", TargetRole="READ_ONLY")]),
)


class FleetRds(Rds):
    """Finds proxies by name."""

    def describe_db_proxies(self, **asked: Any) -> Any:
        found = [each for each in self.found_proxies if asked.get("DBProxyName") in (None, each["DBProxyName"])]
        return {"DBProxies": found}


def sign(name: str, endpoint: str | None = None) -> LoginToken:
    aws = SimpleNamespace(client=lambda _: FleetRds(*FLEET), credentials=lambda: (Credentials("AKID", "secret"), None))
    installation: Any = SimpleNamespace(aws=aws)
    return login_token(installation, name, LoginOptions("app", True, None, endpoint))


@pytest.mark.parametrize(
    ("name", "endpoint", "host"),
    [
        *[("shop", endpoint, host) for endpoint, host in HOSTS.items()],
        ("shop-2", "reader", HOSTS["reader"]),
        ("shop-1", "reports", HOSTS["reports"]),
        ("front", "far", f"far.endpoint.proxy-{X}"),
        ("front", "reader", f"far.endpoint.proxy-{X}"),
        ("orders", "writer", f"orders.{X}"),
        ("lonely", "reader", f"lonely.cluster-ro-{X}"),
        (f"lonely.cluster-ro-{X}", None, f"lonely.cluster-ro-{X}"),
        *[(host, None, host) for host in HOSTS.values()],
        (f"far.endpoint.proxy-{X}", None, f"far.endpoint.proxy-{X}"),
    ],
)
def test_a_token_is_signed_here_for_the_named_endpoint(name, endpoint, host):
    token = sign(name, endpoint)
    assert token.token.startswith(f"{host}:5432/?")
    assert token.host == host


@pytest.mark.parametrize(
    ("name", "endpoint", "problem"),
    [
        ("shop", "nothing", "shop: the cluster has no such endpoint in use; it has writer, reader, reports, shop-1"),
        ("orders", "reader", "orders: an RDS instance has one endpoint, writer; the read replicas"),
        ("front", "nothing", "front: the proxy has no such endpoint in use; it has writer, reader and far"),
    ],
)
def test_an_unknown_endpoint_is_an_error_here_too(name, endpoint, problem):
    with pytest.raises(NoSuchEndpoint) as caught:
        sign(name, endpoint)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    "host",
    [
        f"same.{X}", f"same.cluster-{X}", f"same.cluster-ro-{X}", f"same.proxy-{X}", f"more.endpoint.proxy-{X}",
        f"more.cluster-custom-{X}", f"SAME.{X}.",
    ],
)  # fmt: skip
def test_a_host_name_tells_which_of_a_cluster_its_member_and_a_proxy_with_one_name_is_meant(monkeypatch, host):
    namesakes = (
        cluster("same", "same", custom=[custom("more", "same")]),
        member("same", "same"),
        proxy("same", endpoints=[proxy_endpoint("more", "same")]),
    )
    monkeypatch.setattr(__name__ + ".FLEET", namesakes)
    assert sign(host).host == host.lower().rstrip(".")


@pytest.mark.parametrize("user", ["app", None])
def test_an_identifier_that_two_databases_have_is_refused_with_their_arns(user):
    namesake = {**LISTED[1], "identifier": "shop"}
    with pytest.raises(Usage, match="shop is ambiguous") as caught:
        ask("shop", user, api=Api([LISTED[0], namesake]))
    assert f"{SHOP}, {FRONT}" in str(caught.value.remedy)


@pytest.mark.parametrize("endpoint", ["READER", "reader.", HOSTS["reader"].upper(), f"{HOSTS['reader']}.", "Shop-1"])
def test_the_list_knows_an_endpoint_however_it_is_written(endpoint):
    host, _ = Listed(LISTED[0], endpoint).address
    assert host == HOSTS["shop-1" if endpoint == "Shop-1" else "reader"]


@pytest.mark.parametrize("host", [f"none.cluster-custom-{X}", f"reports.cluster-custom-y.{REGION}.rds.amazonaws.com"])
def test_an_endpoint_that_no_cluster_has_is_not_found(host):
    with pytest.raises(NotFound, match="no cluster and no proxy has the endpoint"):
        sign(host)


@pytest.mark.parametrize(
    ("name", "endpoint", "operation"),
    [
        ("shop", "reader", "DescribeDBClusterEndpoints"),
        (HOSTS["reports"], None, "DescribeDBClusterEndpoints"),
        ("front", "far", "DescribeDBProxyEndpoints"),
        (f"far.endpoint.proxy-{X}", None, "DescribeDBProxyEndpoints"),
    ],
)
def test_without_the_right_to_see_endpoints_the_error_names_it(monkeypatch, name, endpoint, operation):
    def deny(*_: Any, **__: Any) -> Any:
        message = f"User: x is not authorized to perform: rds:{operation}"
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": message}}, operation)

    for method in ("describe_db_cluster_endpoints", "describe_db_proxy_endpoints"):
        monkeypatch.setattr(FleetRds, method, deny)
    with pytest.raises(Denied) as caught:
        sign(name, endpoint)
    assert str(caught.value.remedy).startswith(f"grant rds:{operation} to your role, or sign for an endpoint")


@pytest.mark.parametrize(
    ("host", "operation", "code"),
    [
        (f"none.cluster-custom-{X}", "describe_db_cluster_endpoints", "DBClusterEndpointNotFoundFault"),
        (f"none.endpoint.proxy-{X}", "describe_db_proxy_endpoints", "DBProxyEndpointNotFoundFault"),
    ],
)
def test_so_is_one_that_rds_answers_with_an_error(monkeypatch, host, operation, code):
    def refuse(*_: Any, **__: Any) -> Any:
        raise ClientError({"Error": {"Code": code, "Message": "not found"}}, operation)

    monkeypatch.setattr(FleetRds, operation, refuse)
    with pytest.raises(NotFound, match=f"no cluster and no proxy has the endpoint {host}"):
        sign(host)
