"""The doctor explains users that no entry can declare, and users that are revoked, disabled, locked or expired."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from rdsiam.access.model import User
from rdsiam.core import shell
from rdsiam.doctor.case import UserRecord
from rdsiam.errors import AccessFileUnavailable, NotAllowed
from tests.unit.doctor.cases import (
    DATABASE,
    ENDPOINTS,
    FAILURES,
    case_of,
    denial,
    failed_login,
    recording,
    rows,
    vended,
)

pytestmark = pytest.mark.usefixtures("server")


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


@pytest.mark.parametrize("user", ["$(id)", "x; id #", "it's", "=ls", "a b"])
def test_advice_that_is_pasted_into_a_shell_runs_no_part_of_a_name(user):
    answers = [(denial("user-revoked"), "revocation"), (denial("reason-required"), "API")]
    fixes = [rows(case_of(user=user, ask=answer))[check].fix for answer, check in answers]
    fixes.append(rows(case_of(user=user, record=recording(UserRecord(True, "leaked"))))["revocation"].fix)
    for fix in fixes:
        assert f" {shell.quote(user)} " in fix
        assert f" {user} " not in fix


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
