"""Reconciling, the change limit and disabling, as an operator sees them."""

import json

import pytest

from tests.integration.account import Account, until
from tests.kinds import MYSQL_EXHAUSTIVE

pytestmark = pytest.mark.exhaustive_on("mariadb")


def reader(name: str, role: str) -> dict[str, object]:
    return {"name": name, "privileges": "readonly", "on": ["shop"], "roles": [role]}


@pytest.fixture(scope="module", params=["postgres", "mariadb", MYSQL_EXHAUSTIVE])
def engine(request) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def role(account, engine) -> str:
    arn: str = account.make_role(f"reconcile-{engine}")
    return arn


@pytest.fixture(scope="module")
def arn(account, engine, role) -> str:
    """Return a database that was onboarded by its event."""
    account.declare(f"reconcile-{engine}", *(reader(f"user{number}", role) for number in range(6)))
    arn: str = account.create(f"reconcile-{engine}", engine)
    account.wait_onboarded(arn)
    return arn


def users(account: Account, arn: str, *names: str, role: str) -> None:
    account.declare(arn.rpartition(":")[2], *(reader(name, role) for name in names))


def login(account: Account, arn: str, user: str, role: str):
    return account.connect(arn, user, account.token(arn, user, account.assume(role)))


def policy_users(account: Account, arn: str, role: str) -> set[str]:
    """Return whom the role's policies let it log in as there."""
    resource_id = account.describe(arn)["DbiResourceId"]
    iam, found = account.cloud.client("iam"), set()
    for policy in iam.list_attached_role_policies(RoleName=role.rpartition("/")[2])["AttachedPolicies"]:
        version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)["PolicyVersion"]["Document"]
        found |= {one.rpartition("/")[2] for one in document["Statement"][0]["Resource"] if f":{resource_id}/" in one}
    return found


def test_a_reconcile_after_nothing_changed_starts_nothing(account, arn):
    swept = account.reconcile()
    assert arn not in swept["started"]
    assert swept["unchanged"] >= 1


def test_an_entry_for_another_database_changes_nothing_here(account, arn, role):
    account.declare("somebody-elses", reader("app", role))
    assert arn not in account.reconcile()["started"]


def test_a_plan_of_a_reconcile_says_what_differs_and_starts_nothing(account, arn, role):
    users(account, arn, *(f"user{n}" for n in range(6)), "newcomer", role=role)
    planned = account.rdsiam("reconcile", "--plan", "--output", "json")
    assert (planned.returncode, arn in json.loads(planned.stdout)["started"]) == (3, True), planned.stderr
    assert account.refused(arn, "newcomer", account.token(arn, "newcomer", account.assume(role)))
    started = account.rdsiam("reconcile")
    assert (started.returncode, arn in started.stdout) == (0, True), started.stderr
    until(lambda: "newcomer" in policy_users(account, arn, role), 60)
    until(lambda: arn not in account.reconcile(plan=True)["started"], 60)
    login(account, arn, "newcomer", role).close()


def test_a_user_that_is_declared_no_longer_is_disabled_and_kept(account, arn, engine, role):
    session = login(account, arn, "newcomer", role)
    users(account, arn, *(f"user{n}" for n in range(6)), role=role)
    planned = account.onboard(arn, plan=True)
    assert planned["status"] == "planned"
    assert {"disable-user", "end-sessions"} <= {change["kind"] for change in planned["changes"]}
    session.run("SELECT 1")
    done = account.onboard(arn)
    assert done["status"] == "onboarded", done
    assert done["changes"][0] == planned["changes"][0], "the policy goes first"
    assert {one["statement"] for one in done["changes"]} == {one["statement"] for one in planned["changes"]}
    assert "newcomer" not in policy_users(account, arn, role)
    until(lambda: is_over(session), 20)
    query = "SELECT rolname FROM pg_roles" if engine == "postgres" else "SELECT User FROM mysql.user"
    with account.as_master(arn) as master:
        assert "newcomer" in {row[0] for row in master.run(query)}
    assert account.onboard(arn)["status"] == "unchanged"


def is_over(session) -> bool:
    try:
        session.run("SELECT 1")
    except Exception:  # each driver has its own error for this
        return True
    return False


def test_declared_again_it_is_enabled_again(account, arn, role):
    users(account, arn, *(f"user{n}" for n in range(6)), "newcomer", role=role)
    done = account.onboard(arn)
    assert "enable-user" in {change["kind"] for change in done["changes"]}
    login(account, arn, "newcomer", role).close()


@pytest.mark.parametrize(
    "left", [("newcomer",), (), ("user0", "user1", "user2", "user3", "user4")], ids=["many", "all", "a fifth"]
)
def test_many_are_disabled_only_when_somebody_confirms_it(account, arn, role, left):
    users(account, arn, *left, role=role)
    answer = account.onboard(arn)
    assert (answer["status"], answer["changes"]) == ("refused", [])
    assert '"confirm": true' in answer["remedy"]
    planned = account.onboard(arn, plan=True)
    assert planned["status"] == "refused"
    assert "disable-user" in {change["kind"] for change in planned["changes"]}
    login(account, arn, "user5", role).close()


def test_a_file_that_lost_most_of_its_entries_stops_what_it_would_change(account, arn, role):
    name = arn.rpartition(":")[2]
    for number in range(6):
        account.declare(f"filler-{name}-{number}", reader("app", role))
    users(account, arn, *(f"user{n}" for n in range(6)), "newcomer", "later", role=role)
    assert account.onboard(arn)["status"] == "onboarded"
    kept = dict(account.entries)
    try:
        account.entries.clear()
        users(account, arn, *(f"user{n}" for n in range(6)), "newcomer", role=role)
        answer = account.onboard(arn)
        assert answer["status"] == "refused"
        assert "1 entry" in answer["reason"]
    finally:
        account.entries |= {key: value for key, value in kept.items() if key != name and not key.startswith("filler")}
        users(account, arn, *(f"user{n}" for n in range(6)), "newcomer", role=role)


def test_confirmed_they_are_disabled_and_every_policy_is_gone(account, arn, role):
    users(account, arn, "user0", role=role)
    answer = account.onboard(arn, confirm=True)
    assert answer["status"] == "onboarded", answer
    disabled = {change["target"] for change in answer["changes"] if change["kind"] == "disable-user"}
    assert disabled >= {f"user{n}" for n in range(1, 6)}
    assert policy_users(account, arn, role) == {"user0"}
    users(account, arn, role=role)
    assert account.onboard(arn, confirm=True)["status"] == "onboarded"
    assert policy_users(account, arn, role) == set()
    assert account.onboard(arn)["status"] == "unchanged"
    assert arn not in account.reconcile()["started"]


def test_a_new_access_yaml_starts_a_reconcile_by_itself(account, arn, role):
    account.follow_access_yaml(True)
    try:
        users(account, arn, "user0", "user1", role=role)
        until(lambda: policy_users(account, arn, role) == {"user0", "user1"}, 60)
    finally:
        account.follow_access_yaml(False)
    login(account, arn, "user1", role).close()


def test_a_schedule_starts_a_reconcile(account, arn, role):
    log = account.cloud.logs / "OnboardFunction.log"
    ended = log.read_text().count("reconcile ended")
    account.cloud.fire_schedule("rdsiam-reconcile")
    until(lambda: log.read_text().count("reconcile ended") > ended, 60)


def test_a_database_that_is_gone_without_an_event_is_found_by_the_reconcile(account, engine, role):
    """Its record is planted: events can be missing."""
    gone = f"arn:aws:rds:{account.cloud.region}:{account.cloud.account}:db:gone-{engine}"
    account.write_record(gone, resource_id={"S": "db-GONE"}, finished={"BOOL": True})
    assert gone in account.reconcile()["started"]
    until(lambda: account.record(gone) is None, 60)
