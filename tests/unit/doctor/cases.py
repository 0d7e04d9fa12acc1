"""Cases for the doctor's checks: AWS as a healthy account answers, and ways in which a call fails."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from rdsiam.doctor.case import LoginCase, Undescribed, UserRecord, unknown
from rdsiam.doctor.checks import Row, diagnose
from rdsiam.errors import ConnectionFailed, NotAllowed, Stage
from rdsiam.signer import Credentials
from tests.unit.databases import ORDERS

KEYS = Credentials("AKIDEXAMPLE", "the-secret-key", "the-session-token")
DATABASE = replace(ORDERS, resource_id="db-ABC", host="localhost", port=1, master_user="boss")
CLUSTER = replace(
    DATABASE, arn="arn:aws:rds:eu-west-1:123456789012:cluster:shop", identifier="shop", engine="aurora-postgresql",
    resource_id="cluster-ABC", kind="cluster",
)  # fmt: skip
MEMBER = replace(
    CLUSTER, arn="arn:aws:rds:eu-west-1:123456789012:db:shop-2", identifier="shop-2", kind="instance", replica_of="shop"
)
REPLICA = replace(DATABASE, identifier="orders-copy", replica_of="orders")
PROXY = replace(
    DATABASE, arn="arn:aws:rds:eu-west-1:123456789012:db-proxy:prx-1", identifier="front", resource_id="prx-1",
    kind="proxy", engine_version="", master_user="",
)  # fmt: skip
ENDPOINTS = {"instance": DATABASE, "replica": REPLICA, "cluster": CLUSTER, "member": MEMBER, "proxy": PROXY}
ROLE = "arn:aws:sts::123456789012:assumed-role/app/session"
CONNECT = "arn:aws:rds-db:eu-west-1:123456789012:dbuser:db-ABC/app"
UNDESCRIBED = Undescribed("orders", unknown("you may not call rds:DescribeDBInstances", "grant it"))
_POLICY = {"Statement": {"Effect": "Allow", "Action": "rds-db:connect", "Resource": CONNECT}}


def healthy() -> dict[str, Any]:
    """Return the answers of an account in which everything is well."""
    date = format_datetime(datetime.now(UTC), usegmt=True)
    return {
        "get_caller_identity": {"Arn": ROLE, "ResponseMetadata": {"HTTPHeaders": {"date": date}}},
        "list_role_policies": {"PolicyNames": ["inline"]},
        "get_role_policy": {"PolicyDocument": _POLICY},
        "list_attached_role_policies": {"AttachedPolicies": [{"PolicyArn": "arn:aws:iam::aws:policy/p"}]},
        "get_policy": {"Policy": {"DefaultVersionId": "v1"}},
        "get_policy_version": {"PolicyVersion": {"Document": _POLICY}},
        "get_role": {"Role": {"Arn": "arn:aws:iam::123456789012:role/app"}},
        "simulate_principal_policy": {"EvaluationResults": [{"EvalDecision": "allowed"}]},
        "describe_db_proxies": {"DBProxies": [{"DBProxyName": "front"}]},
        "describe_db_proxy_targets": {"Targets": [{"RdsResourceId": "other"}]},
        "get_metric_statistics": {"Datapoints": []},
    }


def refused(code: str) -> Callable[[str], Exception]:
    """Return AWS's error of that code, for an operation."""
    return lambda operation: ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


#: Ways in which a call of AWS fails.
FAILURES: Mapping[str, Callable[[str], Exception]] = {
    "denied": refused("AccessDenied"),
    "denied, as others say it": refused("AccessDeniedException"),
    "throttled": refused("Throttling"),
    "throttled, as others say it": refused("ThrottlingException"),
    "failed": refused("InternalFailure"),
    "slow": lambda _: ReadTimeoutError(endpoint_url="https://aws"),
    "unreachable": lambda _: ConnectTimeoutError(endpoint_url="https://aws"),
    "no way": lambda _: EndpointConnectionError(endpoint_url="https://aws"),
}


def operation_of(method: str) -> str:
    """Return the operation that a method calls, as IAM's actions name it."""
    name = "".join(part.capitalize() for part in method.split("_"))
    return name.replace("DescribeDb", "DescribeDB").replace("DescribeOrderableDb", "DescribeOrderableDB")


@dataclass
class Aws:
    """AWS with these answers, by method; a method without an answer fails."""

    answers: Mapping[str, Any]
    failure: Callable[[str], Exception] = FAILURES["denied"]
    called: set[tuple[str, str]] = field(default_factory=set)

    def __call__(self, service: str) -> Any:
        return SimpleNamespace(**{method: self._method(service, method) for method in self.answers})

    def _method(self, service: str, method: str) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> Any:
            self.called.add((service, method))
            if self.answers[method] is None:
                raise self.failure(operation_of(method))
            return self.answers[method]

        return call


def rows(case: LoginCase) -> dict[str, Row]:
    """Return all rows by check; every state but OK has advice."""
    found = {row.check: row for row in diagnose(case)}
    assert all(row.state == "OK" or row.fix for row in found.values())
    return found


def case_of(target: Any = DATABASE, aws: Any = None, **changes: Any) -> LoginCase:
    """Return a case that nothing speaks against, with these changes."""
    given: dict[str, Any] = {
        "user": "app", "credentials": KEYS, "expiry": None, "region": "eu-west-1", "ask": None, "record": None,
    }  # fmt: skip
    return LoginCase(target, client=aws or Aws(healthy()), **{**given, **changes})


def failed_login(text: str, stage: Stage = "login", code: str | None = None) -> ConnectionFailed:
    """Return the error of a login."""
    return ConnectionFailed("orders", 5432, stage, text, code)


def denial(code: str, problem: str = "access.yaml says no", remedy: str = "do this") -> Callable[[], Any]:
    """Return an API that denies with that code."""

    def ask() -> Any:
        error = NotAllowed(problem, remedy)
        error.code = code
        raise error

    return ask


def vended() -> Any:
    """Return an answer of the API."""
    return SimpleNamespace(
        token="the-token",
        host="localhost",
        port=1,
        family="postgres",
        database=DATABASE.arn,
    )


def recording(result: Any) -> Any:
    """Return an inventory that answers with a record, or fails."""

    def record(_: Any) -> UserRecord:
        if isinstance(result, Exception):
            raise result
        assert isinstance(result, UserRecord)
        return result

    return record
