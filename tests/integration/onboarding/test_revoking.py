"""A revoked user is out at once and stays out, whatever access.yaml declares, until somebody lifts that."""

import json
import subprocess
import time
from typing import Any

import psycopg
import pymysql
import pytest
from botocore.exceptions import ClientError

from tests.integration.account import Connection, until
from tests.integration.api_requests import get, post
from tests.kinds import MYSQL_EXHAUSTIVE

pytestmark = pytest.mark.exhaustive_on("postgres")

ENDED = (psycopg.OperationalError, pymysql.MySQLError)


@pytest.fixture(scope="module", params=["postgres", "mariadb", MYSQL_EXHAUSTIVE])
def place(account, request) -> dict[str, Any]:
    """Return a database whose user is vended to one role and signed for by another."""
    engine = request.param
    vended, signing = (account.make_role(f"revoking-{engine}-{name}") for name in ("vended", "signing"))
    account.let_call_the_api(vended)
    users = [
        {"name": name, "privileges": "readonly", "on": ["shop"], "roles": [signing], "callers": [{"role": vended}]}
        for name in ("leaker", "other")
    ]
    account.declare(f"revoking-{engine}", *users)
    arn = account.create(f"revoking-{engine}", engine)
    account.wait_onboarded(arn, 90)
    return {"arn": arn, "name": f"revoking-{engine}", "vended": vended, "signing": signing}


def ends(session: Connection) -> bool:
    try:
        session.run("SELECT 1")
    except ENDED:
        return True
    return False


def revoke(account, place, **wish: Any) -> dict[str, Any]:
    answer: dict[str, Any] = account.invoke("OnboardFunction", {"database": place["arn"]} | wish)
    return answer


def ask(account, place, user: str) -> int:
    return post(account, account.assume(place["vended"]), {"database": place["name"], "user": user}).status_code


def test_revoked_a_user_is_out_until_that_is_lifted(account, place):
    signing = account.assume(place["signing"])
    token = account.token(place["arn"], "leaker", signing)
    session = account.connect(place["arn"], "leaker", token)
    other = account.connect(place["arn"], "other", account.token(place["arn"], "other", signing))
    planned = revoke(account, place, revoke=["leaker"], reason="a drill", plan=True)
    assert planned["status"] == "planned"
    kinds = [one["kind"] for one in planned["changes"]]
    assert (kinds[:2], set(kinds[2:])) == (["update-policy"] * 2, {"disable-user", "end-sessions"})
    session.run("SELECT 1")

    answer = revoke(account, place, revoke=["leaker"], reason="key leaked")
    assert (answer["status"], answer["reason"], answer["incomplete"]) == ("revoked", "", [])
    assert [one["kind"] for one in answer["changes"][:2]] == ["update-policy"] * 2
    assert {one["statement"] for one in answer["changes"]} == {one["statement"] for one in planned["changes"]}
    until(lambda: ends(session), 10)
    other.run("SELECT 1")
    # A token from before is good for nothing, and what the role signs now neither: the user is locked.
    assert account.refused(place["arn"], "leaker", token)
    assert account.refused(place["arn"], "leaker", account.token(place["arn"], "leaker", signing))
    assert account.record(place["arn"])["revoked"]["M"] == {"leaker": {"S": "key leaked"}}

    # Nothing brings it back: no onboarding, no reconcile, no other revocation.
    for answer in (account.onboard(place["arn"]), revoke(account, place, revoke=["leaker"], reason="again")):
        assert answer["changes"] == []
    account.reconcile()
    time.sleep(1)
    assert account.refused(place["arn"], "leaker", account.token(place["arn"], "leaker", signing))
    other.run("SELECT 1")

    planned = revoke(account, place, lift=["leaker"], plan=True)
    assert [one["kind"] for one in planned["changes"]] == ["enable-user", *["update-policy"] * 2]
    assert account.refused(place["arn"], "leaker", account.token(place["arn"], "leaker", signing))
    assert revoke(account, place, lift=["leaker"])["changes"] == planned["changes"]
    account.connect(place["arn"], "leaker", account.token(place["arn"], "leaker", signing)).close()
    assert account.record(place["arn"])["revoked"]["M"] == {}
    assert revoke(account, place, lift=["leaker"])["status"] == "unchanged"
    other.close()


def forget(account) -> None:
    """Let the functions of the API forget access.yaml and their databases, which they keep for a minute."""
    for function in ("VendFunction", "ReportsFunction"):
        account.start_afresh(function)


def test_functions_that_start_afresh_vend_no_token_and_list_no_user(account, place):
    no_token_is_vended_and_no_user_listed(account, place, 0)


@pytest.mark.exhaustive
@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_within_a_minute_no_token_is_vended_and_no_user_listed(account, place):
    no_token_is_vended_and_no_user_listed(account, place, 70)


def no_token_is_vended_and_no_user_listed(account, place, seconds: float) -> None:
    """Revoke a user; the API forgets it within these seconds, at once if its functions start afresh."""
    forget(account)
    assert ask(account, place, "leaker") == 200
    assert users_of(account, place) == ["leaker", "other"]
    assert revoke(account, place, revoke=["leaker"], reason="key leaked")["status"] == "revoked"
    if not seconds:
        forget(account)
    until(lambda: ask(account, place, "leaker") == 403, seconds)
    assert ask(account, place, "other") == 200
    until(lambda: users_of(account, place) == ["other"], seconds)
    assert revoke(account, place, lift=["leaker"])["status"] == "onboarded"


def users_of(account, place) -> list[str]:
    listed = get(account, account.assume(place["vended"]), "/databases").json()["databases"]
    return [user for one in listed if one["arn"] == place["arn"] for user in one["users"]]


def test_all_users_may_be_revoked_and_the_change_limit_does_not_apply(account, place):
    answer = revoke(account, place, revoke=["leaker", "other"], reason="all of them")
    assert answer["status"] == "revoked"
    assert account.onboard(place["arn"])["status"] == "unchanged"
    assert place["arn"] not in account.reconcile(plan=True)["started"]
    assert revoke(account, place, lift=["leaker", "other"])["status"] == "onboarded"


def test_the_next_reconcile_does_what_a_killed_run_left(account, place):
    """A revocation that is written down and nothing else: as if the run had been killed then."""
    account.write_record(place["arn"], revoked={"M": {"leaker": {"S": "killed"}}})
    assert place["arn"] in account.reconcile()["started"]
    signing = account.assume(place["signing"])
    until(lambda: account.refused(place["arn"], "leaker", account.token(place["arn"], "leaker", signing)), 30)
    until(lambda: place["arn"] not in account.reconcile(plan=True)["started"], 30)
    assert revoke(account, place, lift=["leaker"])["status"] == "onboarded"


def test_a_user_that_is_declared_but_not_there_yet_is_not_made(account, place):
    users = account.entries[place["name"]]["users"]
    account.declare(place["name"], *users, {"name": "coming", "privileges": "readonly", "on": ["shop"]})
    try:
        assert revoke(account, place, revoke=["coming"], reason="not yet")["status"] == "revoked"
        account.onboard(place["arn"])
        signing = account.assume(place["signing"])
        assert account.refused(place["arn"], "coming", account.token(place["arn"], "coming", signing))
        with account.as_master(place["arn"]) as master:
            catalog = "SELECT rolname FROM pg_roles" if "postgres" in place["name"] else "SELECT user FROM mysql.user"
            assert ("coming",) not in master.run(catalog)
    finally:
        account.declare(place["name"], *users)
        revoke(account, place, lift=["coming"])


@pytest.mark.parametrize("user", ["boss", "rdsiam_manager", "rdsiam_auditor", "nobody", "rdsadmin"])
def test_users_of_somebody_else_are_refused(account, place, user):
    answer = revoke(account, place, revoke=[user], reason="an attack")
    assert (answer["status"], answer["changes"]) == ("refused", [])
    assert "neither created by rdsiam nor declared" in answer["reason"]
    account.as_master(place["arn"]).close()


def test_a_caller_that_is_no_operator_revokes_nobody(account, place):
    with pytest.raises(ClientError, match="AccessDenied"):
        account.invoke(
            "OnboardFunction",
            {"database": place["arn"], "revoke": ["other"], "reason": "an attack"},
            account.assume(place["vended"]),
        )


def test_the_command_plans_revokes_and_lifts(account, place):
    def rdsiam(*arguments: str) -> subprocess.CompletedProcess[str]:
        return account.rdsiam("revoke", place["name"], *arguments)

    assert rdsiam("other").returncode == 2
    assert rdsiam("other", "--reason", "x", "--lift").returncode == 2
    planned = rdsiam("other", "--reason", "a drill", "--plan")
    assert (planned.returncode, planned.stdout.split()[:3]) == (3, ["CHANGE", "TARGET", "STATEMENT"]), planned.stderr
    assert account.onboard(place["arn"])["status"] == "unchanged"
    done = rdsiam("other", "--reason", "a drill", "--output", "json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "revoked"), done.stderr
    assert "lock users" in done.stderr, "progress"
    assert rdsiam("boss", "--reason", "x").returncode == 3
    assert rdsiam("other", "--lift").returncode == 0
    assert account.onboard(place["arn"])["status"] == "unchanged"


@pytest.mark.exhaustive
def test_an_until_that_passes_starts_an_onboarding_that_withdraws_the_policy(account, place):
    ends = int(time.time()) + 25
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends))
    users = account.entries[place["name"]]["users"]
    brief = {"name": "brief", "privileges": "readonly", "on": ["shop"]}
    account.declare(place["name"], *users, brief | {"callers": [{"role": place["vended"], "until": soon}]})
    try:
        assert "update-policy" in [one["kind"] for one in account.onboard(place["arn"])["changes"]]
        assert time.time() < ends, "the machine was too slow to see anything"
        assert place["arn"] not in account.reconcile(plan=True)["started"]
        until(lambda: time.time() > ends, 30)
        assert place["arn"] in account.reconcile(plan=True)["started"]
        assert [one["kind"] for one in account.onboard(place["arn"])["changes"]] == ["update-policy"]
        assert place["arn"] not in account.reconcile(plan=True)["started"]
    finally:
        account.declare(place["name"], *users)
        account.onboard(place["arn"])
