"""The command `rdsiam doctor` goes on if RDS, the stack or the inventory may not be read."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from rdsiam.command import doctor
from rdsiam.command.app import run
from rdsiam.command.aws import Aws
from rdsiam.command.errors import Denied
from rdsiam.command.login import LoginOptions
from rdsiam.doctor.case import LoginCase
from rdsiam.errors import ConnectionFailed
from rdsiam.state.record import Applied, Record
from tests.unit.aws.test_rds import Rds, cluster, instance, member, proxy

CALLER = {
    "Arn": "arn:aws:sts::123456789012:assumed-role/app/s",
    "ResponseMetadata": {"HTTPHeaders": {}},
}


def refused(operation: str, code: str = "AccessDenied") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


class Client:
    """A client of AWS; calls of these methods fail."""

    def __init__(self, inner: Any, failures: dict[str, Exception]) -> None:
        self._inner = inner
        self._failures = failures
        self.meta = SimpleNamespace(region_name="eu-west-1")

    def __getattr__(self, name: str) -> Any:
        if name in self._failures:
            return self._raiser(self._failures[name])
        if hasattr(self._inner, name):
            return getattr(self._inner, name)
        return self._raiser(refused("".join(part.capitalize() for part in name.split("_"))))

    def _raiser(self, error: Exception) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> Any:
            raise error

        return call


@pytest.fixture
def account(monkeypatch, tmp_path) -> SimpleNamespace:
    """Return an account in which STS answers, RDS answers but for `failures`, and all else is denied."""
    rds = Rds(
        instance("orders"),
        cluster("shop", "shop-1", "shop-2", IAMDatabaseAuthenticationEnabled=True),
        member("shop-1", "shop"),
        member("shop-2", "shop"),
        proxy("front"),
    )
    held = SimpleNamespace(rds=rds, failures={}, expiry=None, asked=[])
    sts = SimpleNamespace(get_caller_identity=lambda: CALLER)
    clients = {"rds": lambda: Client(held.rds, held.failures), "sts": lambda: sts}

    def client(_: Aws, service: str, *__: Any, **___: Any) -> Any:
        return clients.get(service, lambda: Client(object(), {}))()

    def refuse(_: LoginCase, login: Any) -> Any:
        raise ConnectionFailed("orders", 5432, "login", "PAM authentication failed")

    def token(*_: Any) -> Any:
        held.asked.append(_)
        raise Denied("access.yaml says no", "rdsiam ls")

    for name in ("AWS_PROFILE", "RDSIAM_API_URL", "RDSIAM_INVENTORY_TABLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "HOME": str(tmp_path), "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "s",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Aws, "client", client)
    monkeypatch.setattr(LoginCase, "_connect", refuse)
    monkeypatch.setattr(doctor, "login_token", token)
    return held


def diagnose(monkeypatch: Any, capsys: Any, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run the command; return exit code, rows by check, and stderr."""
    monkeypatch.setattr("sys.argv", ["rdsiam", "doctor", *arguments, "--output", "json"])
    with pytest.raises(SystemExit) as ended:
        run()
    captured = capsys.readouterr()
    rows = {row["check"]: row for row in json.loads(captured.out)} if captured.out else {}
    return int(ended.value.code or 0), rows, captured.err


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("orders", True),
        ("ORDERS", True),
        ("shop", True),
        ("shop-2", True),
        ("front", True),
        ("orders.x.eu-west-1.rds.amazonaws.com", True),
        ("arn:aws:rds:eu-west-1:123456789012:db-proxy:prx-front", True),
    ],
)
def test_each_kind_of_name_is_described(account, monkeypatch, capsys, name, found):
    _, rows, _ = diagnose(monkeypatch, capsys, name, "app")
    assert (rows["database"]["state"] == "OK") is found


@pytest.mark.parametrize(
    ("name", "method", "operation"),
    [
        ("orders", "describe_db_instances", "DescribeDBInstances"),
        ("shop", "describe_db_clusters", "DescribeDBClusters"),
        ("shop-2", "describe_db_instances", "DescribeDBInstances"),
        ("shop-2", "describe_db_clusters", "DescribeDBClusters"),
        ("front", "list_tags_for_resource", "ListTagsForResource"),
    ],
)
@pytest.mark.parametrize("code", ["AccessDenied", "Throttling", "timeout"])
def test_a_database_that_can_not_be_described_is_unknown_and_the_rest_goes_on(
    account, monkeypatch, capsys, name, method, operation, code
):
    slow = ReadTimeoutError(endpoint_url="https://rds")
    account.failures[method] = slow if code == "timeout" else refused(operation, code)
    status, rows, errors = diagnose(monkeypatch, capsys, name, "app")
    assert (status, errors) == (7, "")
    assert len(rows) == 19
    assert rows["database"]["state"] == "UNKNOWN"
    assert rows["identity"]["state"] in ("OK", "UNKNOWN")
    if code == "AccessDenied":
        assert f"rds:{operation}" in rows["database"]["fix"]
        both = "grant rds:DescribeDBClusters and rds:DescribeDBInstances to the caller"
        assert rows["database"]["fix"] == (
            both if operation != "ListTagsForResource" else f"grant rds:{operation} to the caller"
        )


@pytest.mark.parametrize(
    ("name", "method"),
    [("orders", "describe_db_clusters"), ("orders", "describe_db_proxies"), ("shop", "describe_db_proxies")],
)
def test_a_call_that_is_not_needed_may_be_denied(account, monkeypatch, capsys, name, method):
    account.failures[method] = refused("Describe")
    _, rows, _ = diagnose(monkeypatch, capsys, name, "app")
    assert rows["database"]["state"] == "OK"


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("shop", "shop.cluster-x.eu-west-1.rds.amazonaws.com"),
        ("shop-2", "shop-2.x.eu-west-1.rds.amazonaws.com"),
        ("shop.cluster-x.eu-west-1.rds.amazonaws.com", "shop.cluster-x.eu-west-1.rds.amazonaws.com"),
        ("shop.cluster-ro-x.eu-west-1.rds.amazonaws.com", "shop.cluster-ro-x.eu-west-1.rds.amazonaws.com"),
        ("shop-2.x.eu-west-1.rds.amazonaws.com", "shop-2.x.eu-west-1.rds.amazonaws.com"),
        ("front", "front.proxy-x.eu-west-1.rds.amazonaws.com"),
        ("front.proxy-x.eu-west-1.rds.amazonaws.com", "front.proxy-x.eu-west-1.rds.amazonaws.com"),
    ],
)
def test_the_endpoint_that_was_named_is_diagnosed(account, monkeypatch, capsys, name, host):
    _, rows, _ = diagnose(monkeypatch, capsys, name, "app")
    assert host in rows["name"]["detail"]


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("shop.cluster-custom-x.eu-west-1.rds.amazonaws.com", 5),
        ("front.endpoint.proxy-x.eu-west-1.rds.amazonaws.com", 5),
        ("orders.other.eu-west-1.rds.amazonaws.com", 2),
    ],
)
def test_an_endpoint_that_is_not_the_databases_is_refused(account, monkeypatch, capsys, name, exit_code):
    status, rows, errors = diagnose(monkeypatch, capsys, name, "app")
    assert (status, rows) == (exit_code, {})
    assert "[usage]" in errors or "[not-found]" in errors


@pytest.mark.parametrize(
    ("name", "endpoint", "host"),
    [
        ("shop", "reader", "shop.cluster-ro-x.eu-west-1.rds.amazonaws.com"),
        ("shop", "shop-2", "shop-2.x.eu-west-1.rds.amazonaws.com"),
        ("shop-1", "reader", "shop.cluster-ro-x.eu-west-1.rds.amazonaws.com"),
        ("orders", "writer", "orders.x.eu-west-1.rds.amazonaws.com"),
    ],
)
def test_the_endpoint_of_the_option_is_diagnosed(account, monkeypatch, capsys, name, endpoint, host):
    options = ("--endpoint", endpoint, "--api-url", "https://api.example")
    _, rows, _ = diagnose(monkeypatch, capsys, name, "app", *options)
    assert host in rows["name"]["detail"]
    assert account.asked[-1][2].endpoint == endpoint


@pytest.mark.parametrize(("name", "endpoint"), [("shop", "shop-3"), ("orders", "reader"), ("front", "reader")])
def test_an_endpoint_that_a_database_does_not_have_is_an_error_that_names_those_that_it_has(
    account, monkeypatch, capsys, name, endpoint
):
    status, rows, errors = diagnose(monkeypatch, capsys, name, "app", "--endpoint", endpoint)
    assert (status, rows) == (5, {})
    assert f"rdsiam: {name}: " in errors
    assert "writer" in errors
    assert "[no-such-endpoint]" in errors


def test_a_name_that_nothing_has_is_not_found(account, monkeypatch, capsys):
    account.failures["describe_db_proxies"] = refused("DescribeDBProxies")
    status, rows, errors = diagnose(monkeypatch, capsys, "nothing", "app")
    assert (status, rows) == (5, {})
    assert "no instance and no cluster is named nothing" in errors


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("oders", "did you mean orders? [not-found]"),
        ("SHOP-3", "did you mean shop-2 or shop-1 or shop?"),
        ("nothing", "see aws rds describe-db-instances"),
    ],
)
def test_the_closest_databases_are_suggested_for_a_wrong_name(account, monkeypatch, capsys, name, advice):
    account.failures["describe_db_proxies"] = refused("DescribeDBProxies")
    status, _, errors = diagnose(monkeypatch, capsys, name, "app")
    assert status == 5
    assert advice in errors


def test_an_unknown_address_of_the_api_says_what_sets_it(account, monkeypatch, capsys):
    _, rows, _ = diagnose(monkeypatch, capsys, "orders", "app")
    assert rows["API"]["state"] == "UNKNOWN"
    assert rows["API"]["fix"] == "set RDSIAM_API_URL, or grant cloudformation:DescribeStacks"
    assert rows["revocation"]["fix"] == "set RDSIAM_INVENTORY_TABLE, or grant cloudformation:DescribeStacks"


def test_an_inventory_that_may_not_be_read_says_what_to_grant(account, monkeypatch, capsys):
    monkeypatch.setenv("RDSIAM_INVENTORY_TABLE", "inventory")
    _, rows, _ = diagnose(monkeypatch, capsys, "orders", "app")
    assert rows["revocation"]["fix"] == "grant dynamodb:GetItem to the caller"


def test_the_reason_reaches_the_api(account, monkeypatch, capsys):
    monkeypatch.setenv("RDSIAM_API_URL", "https://api")
    diagnose(monkeypatch, capsys, "orders", "app", "--reason", "TICKET-7")
    (asked,) = account.asked
    assert asked[1:] == ("orders", LoginOptions("app", False, "TICKET-7"))


@pytest.mark.parametrize(
    ("record", "detail", "state"),
    [
        ({"revoked": {"app": "key leaked"}}, "app is revoked: key leaked", "FAIL"),
        ({"revoked": {"other": "key leaked"}}, "app is neither revoked nor disabled", "OK"),
        ({"leaving": {"app": "stopped"}}, "app is disabled", "FAIL"),
        ({"accounts": {"app": "created"}, "applied": Applied("v", "d", 1, ("other",))}, "app is disabled", "FAIL"),
        ({"accounts": {"app": "created"}, "applied": Applied("v", "d", 1, ("app",))}, "app is neither", "OK"),
        ({"onboarded_at": None}, "rdsiam has not onboarded orders", "UNKNOWN"),
        ({"resource_id": "db-OTHER", "revoked": {"app": "x"}}, "rdsiam has not onboarded orders", "UNKNOWN"),
        (None, "rdsiam has not onboarded orders", "UNKNOWN"),
    ],
)
def test_an_operator_sees_what_the_inventory_records(account, monkeypatch, capsys, record, detail, state):
    monkeypatch.setenv("RDSIAM_INVENTORY_TABLE", "inventory")
    given = {"resource_id": "db-ORDERS", "onboarded_at": "2026-11-24T12:00:00Z"}
    found = None if record is None else Record(**(given | record))
    monkeypatch.setattr("rdsiam.state.inventory.Inventory.of", lambda *_: found)
    _, rows, _ = diagnose(monkeypatch, capsys, "orders", "app")
    assert (rows["revocation"]["state"], rows["revocation"]["detail"].startswith(detail)) == (state, True)


HOST = "orders.x.eu-west-1.rds.amazonaws.com"
ENTRY = {"identifier": "orders", "arn": "arn:aws:rds:eu-west-1:123456789012:db:orders", "engine": "postgres"}


@pytest.mark.parametrize(
    ("entry", "used"),
    [
        (ENTRY | {"host": HOST, "port": 5432}, True),
        (ENTRY | {"identifier": "Orders", "host": HOST, "port": 5432}, True),
        (ENTRY | {"host": HOST, "port": "5432"}, False),
        (ENTRY | {"host": None, "port": None}, False),
        (ENTRY, False),
        (ENTRY | {"host": "evil.example.com", "port": 5432}, False),
        (ENTRY | {"host": HOST, "port": 5432, "engine": "oracle-ee"}, False),
        (ENTRY | {"identifier": "orders-2", "arn": "arn:x", "host": HOST, "port": 5432}, False),
    ],
)
def test_the_apis_list_is_used_only_for_an_endpoint_that_may_be_the_databases(
    account, monkeypatch, capsys, entry, used
):
    monkeypatch.setenv("RDSIAM_API_URL", "https://api")
    monkeypatch.setattr("rdsiam.command.api.Api.databases", lambda _: [entry])
    account.failures["describe_db_instances"] = refused("DescribeDBInstances")
    _, rows, _ = diagnose(monkeypatch, capsys, "orders", "app")
    assert (HOST in rows["name"]["detail"]) is used
    assert "evil" not in json.dumps(rows)


def test_a_stopped_database_is_one_row_in_a_table(account, monkeypatch, capsys):
    account.rds = Rds(instance("orders", DBInstanceStatus="stopped"))
    monkeypatch.setattr("sys.argv", ["rdsiam", "doctor", "orders", "app"])
    with pytest.raises(SystemExit) as ended:
        run()
    captured = capsys.readouterr()
    assert ended.value.code == 3
    lines = captured.out.splitlines()
    assert len(lines) == 2
    assert lines[0].split() == ["FAIL", "database", "orders", "is", "stopped"]
    assert lines[1].strip() == "→ aws rds start-db-instance --db-instance-identifier orders"
    assert captured.err.startswith("not checked because of the above: name, port, TLS, ")
    assert account.asked == []


def test_credentials_that_end_soon_are_told_from_those_whose_end_is_not_known(account, monkeypatch, capsys):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "temporary")
    _, rows, _ = diagnose(monkeypatch, capsys, "orders", "app")
    assert rows["credentials"]["state"] == "UNKNOWN"
    soon = datetime.now(UTC) + timedelta(minutes=5)
    monkeypatch.setattr(Aws, "credentials", lambda _, inner=Aws.credentials: (inner(_)[0], soon))
    _, rows, _ = diagnose(monkeypatch, capsys, "orders", "app")
    assert rows["credentials"]["state"] == "FAIL"


@pytest.mark.parametrize(("terminal", "columns", "expected"), [
    (True, "40", ["OK  name  the name of the endpoint is", "          10.0.0.1, 10.0.0.2"]),
    (True, "80", ["OK  name  the name of the endpoint is 10.0.0.1, 10.0.0.2"]),
    (True, "20", ["OK  name  the name of the endpoint is 10.0.0.1, 10.0.0.2"]),
    (False, "40", ["OK  name  the name of the endpoint is 10.0.0.1, 10.0.0.2"]),
])  # fmt: skip
def test_a_finding_of_the_doctor_is_wrapped_at_words_on_a_terminal(monkeypatch, terminal, columns, expected):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: terminal))
    lines = doctor._wrapped("OK  name  ", "the name of the endpoint is 10.0.0.1, 10.0.0.2").splitlines()
    assert lines == expected


def test_a_command_of_the_doctor_stays_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    command = "aws rds start-db-instance --db-instance-identifier orders"
    assert doctor._wrapped("    → ", command) == f"    → {command}"
