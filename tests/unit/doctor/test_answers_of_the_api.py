"""The doctor uses the API's answer, and tells denials apart."""

import pytest

from rdsiam.doctor.case import ListedDatabase, UserRecord
from tests.unit.doctor.cases import (
    DATABASE,
    MEMBER,
    UNDESCRIBED,
    Aws,
    case_of,
    denial,
    failed_login,
    healthy,
    recording,
    rows,
    vended,
)

pytestmark = pytest.mark.usefixtures("server")


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


def test_a_denial_for_a_member_of_a_cluster_is_one_for_the_cluster(server):
    server["error"] = failed_login("PAM authentication failed")
    row = rows(case_of(MEMBER, ask=denial("not-allowed")))["API"]
    assert (row.state, row.fix) == ("FAIL", "do this")


def test_a_caller_that_signs_for_itself_is_told_how():
    row = rows(case_of(ask=denial("signs-itself")))["API"]
    assert (row.state, "--local" in row.detail) == ("OK", True)


def test_without_an_api_its_check_is_unknown():
    assert rows(case_of())["API"].state == "UNKNOWN"
