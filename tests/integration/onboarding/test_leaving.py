"""A leaving user loses its login at once: no lock, no role of somebody else's and no failing database keeps a login."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pymysql
import pytest

from tests.integration.account import Account, Connection, until
from tests.integration.audit.test_audit import audit, report
from tests.kinds import MYSQL_EXHAUSTIVE

pytestmark = pytest.mark.exhaustive_on("mariadb")

ENDED = (psycopg.OperationalError, pymysql.MySQLError)
#: What every user of a server may take, and what rdsiam's runs took once to keep each other out.
LOCKS = {
    "postgres": f"SELECT pg_advisory_lock({int.from_bytes(b'rdsiam')})",
    "mariadb": "SELECT GET_LOCK('rdsiam', 1)",
    "mysql": "SELECT GET_LOCK('rdsiam', 1)",
}
APP, OTHER = "app", "other"


@pytest.fixture(scope="module", params=["postgres", "mariadb", MYSQL_EXHAUSTIVE])
def place(account, request) -> dict[str, Any]:
    """Return a database with two users, each of which a role of its own signs for."""
    engine, name = request.param, f"leaving-{request.param}"
    roles = {user: account.make_role(f"{name}-{user}") for user in (APP, OTHER)}
    users = {
        user: {"name": user, "privileges": "readonly", "on": ["shop"], "roles": [role]} for user, role in roles.items()
    }
    account.declare(name, *users.values())
    arn = account.create(name, engine)
    account.wait_onboarded(arn, 90)
    return {"arn": arn, "name": name, "engine": engine, "roles": roles, "users": users}


@pytest.fixture(autouse=True)
def both_are_there(account, place):
    """Both users are declared and onboarded, whatever a test before has left."""
    account.declare(place["name"], *place["users"].values())
    answer = account.onboard(place["arn"])
    assert answer["status"] in {"onboarded", "unchanged"}, answer


def log_in(account: Account, place: dict[str, Any]) -> Connection:
    session: Connection = account.connect(place["arn"], APP, token(account, place))
    return session


def token(account: Account, place: dict[str, Any]) -> str:
    return str(account.token(place["arn"], APP, account.assume(place["roles"][APP])))


def policies(account: Account, place: dict[str, Any]) -> list[str]:
    role = place["roles"][APP].rpartition("/")[2]
    attached = account.cloud.client("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    return [policy["PolicyName"] for policy in attached]


def is_out(account: Account, place: dict[str, Any], session: Connection) -> bool:
    """Return whether the session has ended, no policy is left, and not even who may connect as anybody gets in."""
    until(lambda: ends(session), 10)
    anybody = account.token(place["arn"], APP, account.administrator())
    return policies(account, place) == [] and bool(account.refused(place["arn"], APP, anybody))


def ends(session: Connection) -> bool:
    try:
        session.run("SELECT 1")
    except ENDED:
        return True
    return False


@pytest.mark.exhaustive_on("mariadb", "revoked")
@pytest.mark.parametrize("way", ["taken out", "revoked"])
def test_a_user_that_holds_a_lock_of_the_server_is_out_at_once(account, place, way):
    session = log_in(account, place)
    session.run(LOCKS[place["engine"]])
    began = time.monotonic()
    if way == "taken out":
        account.declare(place["name"], place["users"][OTHER])
        answer = account.onboard(place["arn"])
    else:
        answer = account.onboard(place["arn"], revoke=[APP], reason="stolen laptop")
    assert time.monotonic() - began < 60
    assert (answer["status"], answer["incomplete"]) == ("onboarded" if way == "taken out" else "revoked", [])
    assert is_out(account, place, session)
    account.connect(
        place["arn"], OTHER, account.token(place["arn"], OTHER, account.assume(place["roles"][OTHER]))
    ).close()
    if way == "revoked":
        assert account.onboard(place["arn"], lift=[APP])["status"] == "onboarded"


def test_policies_go_before_logins_and_changes_say_so(account, place):
    account.declare(place["name"], place["users"][OTHER])
    planned = account.onboard(place["arn"], plan=True)
    assert planned["status"] == "planned"
    kinds = [change["kind"] for change in account.onboard(place["arn"])["changes"]]
    assert kinds[:2] == ["detach-policy", "delete-policy"]
    assert "disable-user" in kinds[2:]
    assert {change["kind"] for change in planned["changes"]} == set(kinds)


def test_the_owner_of_a_role_keeps_no_login_by_taking_its_tag(account, place):
    """Neither the owner of the role that loses its logins, nor that of another one of the database."""
    session, iam = log_in(account, place), account.cloud.client("iam")
    names = [role.rpartition("/")[2] for role in place["roles"].values()]
    for name in names:
        iam.untag_role(RoleName=name, TagKeys=["rdsiam:managed"])
    try:
        account.declare(place["name"], place["users"][OTHER])
        answer = account.onboard(place["arn"])
        assert answer["status"] == "incomplete", "the other role is still to be tagged"
        assert "tag-role" in answer["incomplete"][0]["remedy"]
        assert is_out(account, place, session)
    finally:
        for name in names:
            iam.tag_role(RoleName=name, Tags=[{"Key": "rdsiam:managed", "Value": "true"}])
    assert account.onboard(place["arn"])["status"] in {"onboarded", "unchanged"}


def test_another_run_delays_nobodys_removal(account, place):
    """As if another execution was at work, or had been killed a moment ago."""
    session, resource_id = log_in(account, place), account.describe(place["arn"])["DbiResourceId"]
    lease, expires = f"lease:{resource_id}", int(time.time()) + 40
    account.write_record(lease, holder={"S": "another one"}, token={"S": "t"}, expires={"N": str(expires)})
    account.declare(place["name"], place["users"][OTHER])
    account.cloud.client("lambda").invoke(
        FunctionName=account.cloud.functions["OnboardFunction"],
        InvocationType="Event",
        Payload=f'{{"database": "{place["arn"]}"}}',
    )
    try:
        until(lambda: is_out(account, place, session), 35)
        assert time.time() < expires, "the machine was too slow to see anything"
    finally:
        account.forget_record(lease)
    until(lambda: APP not in [one["S"] for one in account.record(place["arn"])["users"]["L"]], 60)


def test_a_stopped_database_has_its_policies_withdrawn_and_is_a_finding_until_its_users_are_out(account, place):
    rds, arn = account.cloud.client("rds"), place["arn"]
    rds.stop_db_instance(DBInstanceIdentifier=place["name"])
    account.wait(arn, "stopped")
    account.declare(place["name"], place["users"][OTHER])
    answer = account.onboard(arn)
    assert answer["status"] == "incomplete"
    assert [each["retry"] for each in answer["incomplete"]] == [True]
    assert policies(account, place) == []
    assert arn in account.reconcile(plan=True)["started"]

    findings = report(account, audit(account, arn))["findings"]
    (late,) = [one for one in findings if one["kind"] == "login-not-removed"]
    assert (late["severity"], late["user"], late["evidence"]["login"]) == ("critical", APP, None)

    revoked = account.rdsiam("revoke", place["name"], OTHER, "--reason", "a drill")
    assert revoked.returncode == 7, revoked.stderr
    assert f"not done: {arn}" in revoked.stderr

    rds.start_db_instance(DBInstanceIdentifier=place["name"])
    account.wait(arn)
    until(lambda: account.record(arn).get("leaving", {"M": {}})["M"] == {}, 60)
    for user in (APP, OTHER):
        assert account.refused(arn, user, account.token(arn, user, account.administrator()))
    assert account.onboard(arn, lift=[OTHER])["status"] == "onboarded"
    assert "login-not-removed" not in [one["kind"] for one in report(account, audit(account, arn))["findings"]]


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_a_grant_that_fails_once_leaves_the_user_managed(account, place):
    """Somebody's open migration holds a table for longer than a GRANT waits; the user's role is made by then."""
    newcomer = {"name": "newcomer", "privileges": ["SELECT"], "on": ["shop"]}
    with account.as_master(place["arn"]) as master, account.as_master(place["arn"]) as other:
        other.run("CREATE TABLE public.held (id int)")
        other.run("BEGIN; ALTER TABLE public.held ADD COLUMN note text")
        account.declare(place["name"], *place["users"].values(), newcomer)
        with ThreadPoolExecutor(1) as pool:
            onboarding = pool.submit(account.onboard, place["arn"])
            until(lambda: master.run("SELECT 1 FROM pg_roles WHERE rolname = 'newcomer'"), 60)
            time.sleep(11)
            other.run("COMMIT")
            answer = onboarding.result(120)
    assert answer["status"] == "onboarded", answer
    account.declare(place["name"], *place["users"].values())
    assert "disable-user" in [change["kind"] for change in account.onboard(place["arn"])["changes"]]
    assert account.refused(place["arn"], "newcomer", account.token(place["arn"], "newcomer", account.administrator()))
