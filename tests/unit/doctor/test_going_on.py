"""The doctor goes on if a call fails, and says first if the database doesn't run or the user can't be declared."""

from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from pydantic import ValidationError

from rdsiam.access.model import User
from rdsiam.core.arn import Arn
from rdsiam.doctor import failures
from rdsiam.doctor.case import ListedDatabase, LoginCase, UserRecord
from rdsiam.engines.logins import AUDITOR
from rdsiam.errors import AccessFileUnavailable, NotAllowed, RdsiamError
from rdsiam.signer import Credentials
from tests.unit.doctor.cases import (
    DATABASE,
    FAILURES,
    ROLE,
    UNDESCRIBED,
    Aws,
    case_of,
    denial,
    failed_login,
    healthy,
    operation_of,
    refused,
    rows,
    vended,
)


class Session:
    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def server(monkeypatch):
    """Let every login work, unless a test sets an error."""
    answer: dict[str, Any] = {"error": None, "tokens": []}

    def connect(case: LoginCase, login: Any) -> Session:
        answer["tokens"].append(login.secret)
        if login.user == AUDITOR and case.user != AUDITOR:
            raise failed_login("PAM authentication failed")
        if answer["error"] is not None:
            raise answer["error"]
        return Session()

    monkeypatch.setattr(LoginCase, "_connect", connect)
    return answer


# --- calls that fail ---


def called() -> list[tuple[str, str]]:
    """Return every call of AWS that the doctor makes, for a database and for a proxy."""
    aws = Aws(healthy())
    for target in (DATABASE, replace(DATABASE, kind="proxy")):
        rows(case_of(target, aws))
    return sorted(aws.called)


@pytest.mark.parametrize(("service", "method"), called())
def test_every_call_has_an_action_that_exists(service, method):
    name = operation_of(method)
    assert failures.action(name) == f"{service}:{name}"
    assert name in botocore.session.get_session().get_service_model(service).operation_names


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(("service", "method"), called())
def test_a_call_that_fails_leaves_its_checks_unknown_and_changes_no_other(service, method, failure):
    before = rows(case_of())
    after = rows(case_of(aws=Aws(healthy() | {method: None}, FAILURES[failure])))
    # The difference of the clocks may be rounded to another second.
    different = {name: row for name, row in after.items() if row != before[name] and row.state != "OK"}
    assert {name for name, row in after.items() if row.state != before[name].state} == set(different)
    assert list(after) == list(before)
    assert different
    assert {row.state for row in different.values()} == {"UNKNOWN"}
    for row in different.values():
        if failure.startswith("denied"):
            assert f"grant {service}:{operation_of(method)}" in row.fix
        elif failure.startswith("throttled"):
            assert "throttles" in row.detail


@pytest.mark.parametrize("failure", FAILURES)
def test_a_caller_without_any_right_learns_what_needs_none(failure):
    answers: dict[str, Any] = dict.fromkeys(healthy())
    found = rows(case_of(UNDESCRIBED, Aws(answers, FAILURES[failure])))
    assert {row.state for row in found.values()} == {"UNKNOWN"}
    assert found["database"].detail == "you may not call rds:DescribeDBInstances"
    assert found["name"].skipped
    assert not found["identity"].skipped
    assert not found["database"].skipped


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "UnrecognizedClientException"])
def test_credentials_that_aws_does_not_accept_are_wrong_and_not_denied(code):
    found = rows(case_of(aws=Aws(dict.fromkeys(healthy()), refused(code))))
    assert found["identity"].state == "FAIL"
    assert "renew your credentials" in found["identity"].fix


def test_a_slow_sts_is_asked_once():
    calls: list[str] = []

    def slow(operation: str) -> Exception:
        calls.append(operation)
        return FAILURES["slow"](operation)

    found = rows(case_of(aws=Aws(healthy() | {"get_caller_identity": None}, slow)))
    assert found["clock"].state == found["identity"].state == "UNKNOWN"
    assert calls == ["GetCallerIdentity"]


# --- states of the database ---

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


@pytest.mark.parametrize(
    ("kind", "status", "fix"),
    [
        ("instance", "stopped", "aws rds start-db-instance --db-instance-identifier orders"),
        ("replica", "stopped", "aws rds start-db-instance --db-instance-identifier orders-copy"),
        ("cluster", "stopped", "aws rds start-db-cluster --db-cluster-identifier shop"),
        ("member", "stopped", "aws rds start-db-cluster --db-cluster-identifier shop"),
        ("instance", "stopping", "then aws rds start-db-instance"),
        ("cluster", "stopping", "then aws rds start-db-cluster"),
        ("instance", "starting", "aws rds wait db-instance-available --db-instance-identifier orders"),
        ("cluster", "starting", "aws rds wait db-cluster-available --db-cluster-identifier shop"),
        ("member", "creating", "aws rds wait db-instance-available --db-instance-identifier shop-2"),
        ("instance", "creating", "aws rds wait db-instance-available"),
        ("proxy", "creating", "aws rds describe-db-proxies --db-proxy-name front"),
        ("instance", "deleting", "name another database"),
        ("instance", "delete-precheck", "name another database"),
        ("instance", "failed", "aws rds restore-db-instance-to-point-in-time --source-db-instance-identifier orders"),
        ("cluster", "failed", "aws rds restore-db-cluster-to-point-in-time --source-db-cluster-identifier shop"),
        ("cluster", "cloning-failed", "aws rds describe-events --source-type db-cluster --source-identifier shop"),
        ("cluster", "migration-failed", "--source-type db-cluster"),
        ("instance", "restore-error", "aws rds restore-db-instance-to-point-in-time"),
        ("instance", "incompatible-restore", "aws rds restore-db-instance-to-point-in-time"),
        ("instance", "incompatible-network", "aws rds describe-events --source-type db-instance"),
        ("instance", "incompatible-option-group", "aws rds describe-events"),
        ("instance", "incompatible-parameters", "aws rds describe-events"),
        ("proxy", "incompatible-network", "aws rds describe-events --source-type db-proxy --source-identifier front"),
        ("proxy", "insufficient-resource-limits", "aws rds describe-events --source-type db-proxy"),
        ("proxy", "suspended", "aws rds describe-db-proxies"),
        ("proxy", "deleting", "name another database"),
        ("instance", "inaccessible-encryption-credentials", "enable its KMS key"),
        ("instance", "inaccessible-encryption-credentials-recoverable", "then aws rds start-db-instance"),
        ("cluster", "inaccessible-encryption-credentials-recoverable", "then aws rds start-db-cluster"),
        ("instance", "insufficient-capacity", "aws rds describe-events"),
        ("instance", "storage-full", "--allocated-storage"),
    ],
)
def test_a_database_that_does_not_run_is_reported_first_and_nothing_else_is_blamed(server, kind, status, fix):
    server["error"] = failed_login("no route to host", "port")
    found = rows(case_of(replace(ENDPOINTS[kind], status=status, host="localhost", port=1)))
    first, *others = found.values()
    assert (first.check, first.state) == ("database", "FAIL")
    assert status in first.detail
    assert fix in first.fix
    assert {row.state for row in others} == {"UNKNOWN"}
    assert all(row.skipped for row in others)
    assert server["tokens"] == []


@pytest.mark.parametrize(
    "status",
    ["modifying", "rebooting", "maintenance", "upgrading", "renaming", "resetting-master-credentials", "promoting",
     "configuring-iam-database-auth", "moving-to-vpc", "converting-to-vpc"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ENDPOINTS)
def test_a_database_in_transition_is_named_for_what_its_server_does_not_answer(server, kind, status):
    server["error"] = failed_login("connection refused", "port")
    found = rows(case_of(replace(ENDPOINTS[kind], status=status, host="no-such-host.invalid")))
    assert found["database"].state == "UNKNOWN"
    assert status in found["database"].detail
    for check in ("name", "port", "TLS", "login"):
        assert found[check].state == "UNKNOWN"
    assert status in found["name"].detail


@pytest.mark.parametrize(
    "status",
    ["available", "backing-up", "storage-optimization", "storage-config-upgrade", "backtracking",
     "storage-initialization", "a-status-of-next-year"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ENDPOINTS)
def test_a_database_that_runs_is_ok_whatever_rds_does_with_it(kind, status):
    assert rows(case_of(replace(ENDPOINTS[kind], status=status)))["database"].state == "OK"


def test_a_cluster_without_an_instance_is_given_one():
    row = rows(case_of(replace(CLUSTER, host=None)))["database"]
    assert row.state == "FAIL"
    assert "the cluster has no instance" in row.detail
    assert "aws rds create-db-instance --db-cluster-identifier shop" in row.fix


# --- users that no entry can declare ---

OF_USER = ("API", "revocation", "role or plugin", "login", "resource id", "policy decision")


@pytest.mark.parametrize("kind", ["instance", "replica", "cluster", "member"])
@pytest.mark.parametrize(
    ("secret", "says"),
    [("arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db", "secret:rds!db"), (None, "does not manage")],
)
def test_the_master_is_explained_and_its_login_is_not_tried(server, kind, secret, says):
    server["error"] = failed_login('password authentication failed for user "boss"')
    found = rows(case_of(replace(ENDPOINTS[kind], master_secret_arn=secret), user="boss"))
    row = found["user"]
    assert row.state == "FAIL"
    assert "boss is the master user: it logs in by password, and rdsiam never makes it an IAM user" in row.detail
    assert says in row.detail
    source = {"instance": "orders", "replica": "orders", "cluster": "shop", "member": "shop"}[kind]
    assert row.fix == f"declare a user of your own in access.yaml, then rdsiam onboard {source}"
    assert {found[check].state for check in OF_USER} == {"UNKNOWN"}
    assert {check for check, row in found.items() if row.state == "FAIL"} - {"port"} == {"user"}


def test_a_master_that_logs_in_by_token_is_well():
    assert rows(case_of(replace(DATABASE, master_secret_arn=None), user="boss"))["user"].state == "OK"


@pytest.mark.parametrize(
    ("engine", "user"),
    [
        ("postgres", "rdsadmin"),
        ("postgres", "rds_superuser"),
        ("postgres", "pg_monitor"),
        ("aurora-postgresql", "rdsproxyadmin"),
        ("mysql", "rdsadmin"),
        ("mysql", "mysql.sys"),
        ("mariadb", "mariadb.sys"),
    ],
)
def test_users_of_rds_and_of_the_server_are_named_as_such(engine, user):
    row = rows(case_of(replace(DATABASE, engine=engine), user=user))["user"]
    assert (row.state, "RDS or of the server" in row.detail) == ("FAIL", True)


def test_rdsiams_own_users_are_named_as_such_and_still_checked(server):
    assert rows(case_of(user="rdsiam_manager"))["login"].state == "OK"
    server["error"] = failed_login("PAM authentication failed")
    for user in ("rdsiam_manager", "rdsiam_auditor"):
        found = rows(case_of(user=user))
        assert (found["user"].state, found["login"].state) == ("UNKNOWN", "FAIL")


@pytest.mark.parametrize("user", ["rds_app", "rds", "RDSapp", "aws_app", "mysql.app"])
def test_a_user_of_a_reserved_name_is_named_as_such_and_still_checked(user):
    found = rows(case_of(user=user))
    assert (found["user"].state, found["login"].state) == ("UNKNOWN", "OK")
    with pytest.raises(ValidationError):
        User(name=user, privileges="readonly", on=["shop"])


@pytest.mark.parametrize("user", ["app", "Boss", "pgbouncer", "administrator"])
def test_other_users_can_be_declared(user):
    assert rows(case_of(user=user))["user"].state == "OK"
    assert User(name=user, privileges="readonly", on=["shop"]).name == user


# --- the API's answer ---


def test_with_the_api_alone_its_answer_is_used(server):
    aws = Aws(dict.fromkeys(healthy()) | {"get_caller_identity": healthy()["get_caller_identity"]})
    found = rows(case_of(UNDESCRIBED, aws, ask=vended))
    assert server["tokens"] == ["the-token"]
    well = ("IAM authentication", "identity", "user", "API", "revocation", "login", "resource id", "policy decision")
    assert {check: found[check].state for check in well} == dict.fromkeys(well, "OK")
    assert "of the API" in found["login"].detail
    assert vended().host in found["name"].detail
    assert "FAIL" not in {row.state for row in found.values()} - {found["name"].state, found["port"].state}
    assert "the-token" not in repr(found)


LISTED = ListedDatabase(DATABASE.arn, "mariadb", "localhost", 1)


@pytest.mark.parametrize("target", [DATABASE, UNDESCRIBED], ids=["described", "undescribed"])
def test_a_caller_that_gave_no_reason_is_not_sent_after_policies_of_its_own(server, target):
    server["error"] = failed_login("PAM authentication failed")
    aws = Aws(
        healthy() | {"get_role_policy": {"PolicyDocument": {"Statement": []}}, "list_attached_role_policies": None}
    )
    found = rows(case_of(target, aws, ask=denial("reason-required")))
    assert {check for check, row in found.items() if row.state == "FAIL"} - {"port"} == {"API"}
    assert server["tokens"][1:] == [], "only the auditor's login is tried"


@pytest.mark.parametrize("record", [UserRecord(True, "leaked"), UserRecord(True, disabled=True)])
def test_a_revoked_users_login_and_policies_are_not_blamed(server, record):
    server["error"] = failed_login("PAM authentication failed")
    aws = Aws(healthy() | {"get_role_policy": {"PolicyDocument": {"Statement": []}}})
    found = rows(case_of(aws=aws, record=recording(record)))
    assert {check for check, row in found.items() if row.state == "FAIL"} - {"port"} == {"revocation"}
    assert {check for check, row in found.items() if row.skipped} == {"API", "login", "resource id", "policy decision"}


@pytest.mark.parametrize("code", ["signs-itself", "not-allowed"])
def test_without_a_token_the_apis_list_tells_endpoint_and_engine(server, code):
    aws = Aws(dict.fromkeys(healthy()) | {"get_caller_identity": healthy()["get_caller_identity"]})
    server["error"] = failed_login("Access denied for user 'app'", code="1045")
    case = case_of(UNDESCRIBED, aws, ask=denial(code), listing=lambda: LISTED)
    found = rows(case)
    assert "localhost is" in found["name"].detail
    assert found["login"].state == "FAIL"
    assert case.family == "mysql"
    assert {found[check].state for check in ("identity", "region")} == {"OK"}
    if code == "signs-itself":
        assert (found["user"].state, found["revocation"].state) == ("OK", "OK")


@pytest.mark.parametrize("listing", [None, lambda: None, denial("unavailable")])
def test_a_list_that_tells_nothing_leaves_the_endpoint_unknown(listing):
    found = rows(case_of(UNDESCRIBED, ask=denial("reason-required"), listing=listing))
    assert (found["name"].state, found["login"].state, found["API"].state) == ("UNKNOWN", "UNKNOWN", "FAIL")


@pytest.mark.parametrize("target", [DATABASE, UNDESCRIBED], ids=["described", "undescribed"])
@pytest.mark.parametrize(
    ("code", "state", "says"),
    [
        ("reason-required", "FAIL", "--reason"),
        ("user-revoked", "UNKNOWN", "see revocation"),
        ("denied", "UNKNOWN", "do this"),
        ("try-again", "UNKNOWN", "do this"),
        ("unavailable", "UNKNOWN", "do this"),
    ],
)
def test_a_denial_of_the_api_is_told_apart(server, target, code, state, says):
    server["error"] = failed_login("PAM authentication failed")
    row = rows(case_of(target, ask=denial(code)))["API"]
    assert row.state == state
    assert says in row.fix


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "OK"),
        (failed_login("PAM authentication failed"), "FAIL"),
        (failed_login("timed out", "port"), "UNKNOWN"),
        (failed_login("no address", "name"), "UNKNOWN"),
    ],
)
def test_a_caller_that_signs_for_itself_needs_no_entry_for_the_api(server, error, state):
    server["error"] = error
    assert rows(case_of(ask=denial("not-allowed")))["API"].state == state


def test_a_member_of_a_cluster_has_no_tokens_of_the_api(server):
    server["error"] = failed_login("PAM authentication failed")
    row = rows(case_of(MEMBER, ask=denial("not-allowed")))["API"]
    assert (row.state, row.fix) == ("UNKNOWN", "rdsiam doctor shop app")


def test_a_caller_that_signs_for_itself_is_told_how():
    row = rows(case_of(ask=denial("signs-itself")))["API"]
    assert (row.state, "--local" in row.detail) == ("OK", True)


def test_without_an_api_its_check_is_unknown():
    assert rows(case_of())["API"].state == "UNKNOWN"


# --- revoked, disabled, locked, expired ---


@pytest.mark.parametrize("record", [None, UserRecord(True), NotAllowed("no"), AccessFileUnavailable("no")])
def test_a_revoked_user_is_named_as_such_to_everyone_that_may_ask(server, record):
    server["error"] = failed_login("PAM authentication failed")
    row = rows(case_of(ask=denial("user-revoked"), record=None if record is None else recording(record)))["revocation"]
    assert row.state == "FAIL"
    assert "is revoked; operators see the reason" in row.detail


def test_an_operator_sees_the_reason_of_a_revocation():
    row = rows(case_of(record=recording(UserRecord(True, "key leaked, TICKET-7"))))["revocation"]
    assert row.state == "FAIL"
    assert row.detail == "app is revoked: key leaked, TICKET-7"
    assert row.fix == "rdsiam revoke orders app --lift"


@pytest.mark.parametrize("kind", ENDPOINTS)
def test_a_user_that_is_no_longer_declared_is_named_as_disabled(kind):
    row = rows(case_of(ENDPOINTS[kind], record=recording(UserRecord(True, disabled=True))))["revocation"]
    assert (row.state, "app is disabled: access.yaml no longer declares it" in row.detail) == ("FAIL", True)


@pytest.mark.parametrize(("record", "state"), [(UserRecord(True), "OK"), (UserRecord(False), "UNKNOWN")])
def test_only_an_onboarded_database_says_that_a_user_is_not_revoked(record, state):
    assert rows(case_of(record=recording(record)))["revocation"].state == state


@pytest.mark.parametrize("failure", FAILURES)
def test_an_inventory_that_can_not_be_read_is_unknown_unless_the_api_tells(failure):
    record = recording(FAILURES[failure]("GetItem"))
    row = rows(case_of(record=record))["revocation"]
    assert row.state == "UNKNOWN"
    assert failure.startswith("denied") == ("grant dynamodb:GetItem" in row.fix)
    assert rows(case_of(record=record, ask=vended))["revocation"].state == "OK"


def recording(result: Any) -> Any:
    def record(_: Any) -> UserRecord:
        if isinstance(result, Exception):
            raise result
        assert isinstance(result, UserRecord)
        return result

    return record


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (failed_login('role "app" is not permitted to log in'), "NOLOGIN"),
        (failed_login("Access denied, this account is locked", code="4151"), "locked"),
        (failed_login("Account is locked.", code="3118"), "locked"),
        (failed_login("Your password has expired", code="1862"), "expired"),
        (failed_login("sorry, too many clients already", code="53300"), "no connections left"),
        (failed_login("Too many connections", code="1040"), "no connections left"),
        (failed_login("the database system is starting up"), "restarts"),
        (failed_login('FATAL: PAM authentication failed for user "app"'), "refuses a token that you sign"),
    ],
)
def test_a_refused_login_is_explained_by_the_servers_answer(server, error, says):
    server["error"] = error
    row = rows(case_of())["login"]
    assert row.state == "FAIL"
    assert says in row.detail


def test_a_login_to_a_closed_database_is_a_login(server):
    server["error"] = failed_login('permission denied for database "shop"')
    assert rows(case_of())["login"].state == "OK"


# --- credentials ---


@pytest.mark.parametrize(
    ("session_token", "state"), [(None, "OK"), ("the-session-token", "UNKNOWN")], ids=["lasting", "temporary"]
)
def test_temporary_credentials_whose_end_is_not_known_are_unknown(session_token, state):
    row = rows(case_of(credentials=Credentials("AKID", "secret", session_token)))["credentials"]
    assert row.state == state


# --- proxies ---


@pytest.mark.parametrize(
    ("targets", "state"),
    [
        ([], "FAIL"),
        ([{"RdsResourceId": "orders", "TargetHealth": {"State": "AVAILABLE"}}], "OK"),
        ([{"RdsResourceId": "orders", "TargetHealth": {"State": "UNAVAILABLE", "Reason": "UNREACHABLE"}}], "FAIL"),
        ([{"RdsResourceId": "orders", "TargetHealth": {"State": "UNAVAILABLE", "Reason": "AUTH_FAILURE"}}], "FAIL"),
        ([{"RdsResourceId": "shop"}], "OK"),
        ([{"RdsResourceId": "shop"}, {"RdsResourceId": "shop-1", "TargetHealth": {"State": "UNAVAILABLE"}}], "FAIL"),
        (
            [
                {"RdsResourceId": "shop-1", "TargetHealth": {"State": "UNAVAILABLE"}},
                {"RdsResourceId": "shop-2", "TargetHealth": {"State": "AVAILABLE"}},
            ],
            "OK",
        ),
    ],
)
def test_a_proxy_is_checked_for_the_database_behind_it(targets, state):
    row = rows(case_of(PROXY, Aws(healthy() | {"describe_db_proxy_targets": {"Targets": targets}})))["proxy"]
    assert row.state == state
    if targets and state == "FAIL":
        assert row.fix.startswith("rdsiam doctor ")


def test_all_pages_of_proxies_are_read():
    class Rds:
        def describe_db_proxies(self, Marker: str = "") -> Any:  # noqa: N803  the name of the parameter
            if not Marker:
                return {"DBProxies": [], "Marker": "1"}
            return {"DBProxies": [{"DBProxyName": "front"}]}

        def describe_db_proxy_targets(self, **_: Any) -> Any:
            return {"Targets": [{"RdsResourceId": "orders"}]}

    assert "behind front" in rows(case_of(aws=lambda _: Rds() if _ == "rds" else Aws(healthy())(_)))["proxy"].detail


@pytest.mark.parametrize("kind", ENDPOINTS)
def test_no_advice_for_one_kind_of_endpoint_names_the_call_of_another(server, kind):
    server["error"] = failed_login('password authentication failed for user "app"')
    target = replace(ENDPOINTS[kind], iam_enabled=False, host="no-such-host.invalid")
    text = " ".join(row.fix for row in rows(case_of(target, Aws(healthy() | {"get_paginator": None}))).values())
    words = {"cluster": "--db-cluster-identifier", "instance": "--db-instance-identifier", "proxy": "--db-proxy-name"}
    fitting = {"member": ("cluster", "instance"), "replica": ("instance",)}.get(kind, (kind,))
    for noun, option in words.items():
        assert noun in fitting or option not in text, text
    if kind == "replica":
        assert "rdsiam onboard orders --plan" in text


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ("User: x is not authorized to perform: kms:Decrypt on resource: y", "grant kms:Decrypt to the caller"),
        ("User: x is not authorized to perform: dynamodb:GetItem on resource: y", "grant dynamodb:GetItem to the"),
        ("no", "grant dynamodb:GetItem to the caller"),
        ("is not authorized to perform: rm -rf / on resource", "grant dynamodb:GetItem to the caller"),
        (
            "User: x is not authorized to perform: dynamodb:GetItem on resource: y with an explicit deny in a service "
            "control policy",
            "ask for a change of what denies dynamodb:GetItem: an explicit deny in a service control policy",
        ),
        (
            "not authorized to perform: kms:Decrypt on resource: y with an explicit deny in an identity-based policy",
            "ask for a change of what denies kms:Decrypt: an explicit deny in an identity-based policy",
        ),
    ],
)
def test_a_denial_names_the_action_that_aws_names_and_an_explicit_deny(message, fix):
    error = ClientError({"Error": {"Code": "AccessDeniedException", "Message": message}}, "GetItem")
    assert failures.of_aws(error).fix.startswith(fix)


def test_errors_of_rdsiam_keep_their_remedy():
    assert failures.of_rdsiam(RdsiamError("a", "b")).fix == "b"
    denied = RdsiamError("stack rdsiam: DescribeStacks: AccessDenied no")
    denied.code = "denied"
    assert failures.of_rdsiam(denied).fix == "grant cloudformation:DescribeStacks to the caller"
    assert Arn.parse(ROLE).kind == "assumed-role"
