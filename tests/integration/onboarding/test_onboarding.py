"""The main job: a database that somebody creates becomes passwordless by itself, as access.yaml declares."""

import json
from datetime import UTC, datetime, timedelta

import psycopg
import pymysql
import pytest

from rdsiam.signer import Credentials, TokenSigner
from tests.integration.account import Account, until
from tests.kinds import MYSQL_EXHAUSTIVE, OLDER_EXHAUSTIVE

DENIED = (psycopg.errors.InsufficientPrivilege, pymysql.err.OperationalError)


@pytest.fixture(scope="module", params=["postgres", OLDER_EXHAUSTIVE, "mariadb", MYSQL_EXHAUSTIVE])
def engine(request) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def roles(account, engine) -> dict[str, str]:
    return {name: account.make_role(f"{name}-{engine}") for name in ("service", "report", "migrator", "stranger")}


@pytest.fixture(scope="module")
def arn(account, engine, roles) -> str:
    """Return a database that was created by AWS's API and onboarded by its event."""
    account.declare(
        f"main-{engine}",
        {"name": "service", "privileges": "readwrite", "on": ["shop"], "roles": [roles["service"]]},
        {"name": "report", "privileges": "readonly", "on": ["shop"], "roles": [roles["report"]]},
        {"name": "migrator", "privileges": "owner", "on": ["shop"], "roles": [roles["migrator"]]},
    )
    arn: str = account.create(f"main-{engine}", engine)
    account.wait_onboarded(arn)
    return arn


def login(account: Account, arn: str, user: str, role: str):
    return account.connect(arn, user, account.token(arn, user, account.assume(role)))


def test_declared_users_log_in_with_tokens_signed_by_boto3_with_their_role(account, arn, roles):
    for user in ("service", "report", "migrator"):
        login(account, arn, user, roles[user]).close()


def test_iam_authentication_was_switched_on(account, arn):
    assert account.describe(arn)["IAMDatabaseAuthenticationEnabled"]


def signed(account: Account, arn: str, credentials, minutes: int) -> str:
    """Return a token as boto3 would have signed it then; our signer's tokens are equal to boto3's, byte for byte."""
    endpoint = account.describe(arn)["Endpoint"]
    own = Credentials(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    return TokenSigner(own, account.cloud.region).token(endpoint["Address"], endpoint["Port"], "service", at)


def test_every_wrong_token_is_refused(account, arn, roles):
    credentials = account.assume(roles["service"])
    good = account.token(arn, "service", credentials)
    wrong = {
        "another role": account.token(arn, "service", account.assume(roles["stranger"])),
        "another declared role": account.token(arn, "service", account.assume(roles["report"])),
        "another user": account.token(arn, "report", credentials),
        "another host": account.token(arn, "service", credentials, DBHostname="127.0.0.1"),
        "another port": account.token(arn, "service", credentials, Port=1),
        "another region": account.token(arn, "service", credentials, Region="us-west-2"),
        "changed": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "cut": good[:256],
        "16 minutes old": signed(account, arn, credentials, minutes=-16),
        "not yet valid": signed(account, arn, credentials, minutes=16),
        "nothing": "x",
    }
    account.connect(arn, "service", signed(account, arn, credentials, minutes=-14)).close()
    for why, token in wrong.items():
        assert account.refused(arn, "service", token), why
    assert account.refused(arn, "report", good), "for another user"
    assert account.refused(arn, "service", good, tls=False), "without TLS"
    account.connect(arn, "service", good).close()


def test_passwords_are_refused_and_the_masters_still_works(account, arn):
    for user in ("service", "report", "migrator", "rdsiam_manager", "rdsiam_auditor"):
        assert account.refused(arn, user, "some password")
    account.as_master(arn).close()


def test_tables_made_later_are_readable_to_readers_and_writable_to_writers(account, arn, roles):
    with account.as_master(arn) as master, login(account, arn, "migrator", roles["migrator"]) as migrator:
        master.run("CREATE TABLE later_by_master (id int)")
        migrator.run("CREATE TABLE later_by_owner (id int)")
    with (
        login(account, arn, "service", roles["service"]) as service,
        login(account, arn, "report", roles["report"]) as report,
    ):
        for table in ("later_by_master", "later_by_owner"):
            service.run(f"INSERT INTO {table} VALUES (1)")
            assert report.run(f"SELECT id FROM {table}")[0][0] == 1
            with pytest.raises(DENIED):
                report.run(f"INSERT INTO {table} VALUES (2)")


def test_a_second_run_changes_nothing_and_opens_as_many_sessions_as_promised(account, arn):
    answer = account.onboard(arn)
    assert answer == {
        "database": arn,
        "status": "unchanged",
        "code": "",
        "reason": "",
        "remedy": "",
        "changes": [],
        "proofs": [],
        "incomplete": [],
    }
    assert account.onboard(arn, plan=True)["status"] == "unchanged"


@pytest.mark.exhaustive_on("mariadb")
def test_the_first_answer_has_changes_with_their_sql_and_proofs(account, engine, roles):
    identifier = f"told-{engine}"
    arn = account.create(identifier, engine)
    account.wait(arn)
    account.declare(
        identifier, {"name": "teller", "privileges": "readonly", "on": ["shop"], "roles": [roles["service"]]}
    )
    planned = account.onboard(arn, plan=True)
    assert planned["status"] == "planned"
    assert not account.describe(arn)["IAMDatabaseAuthenticationEnabled"]
    done = account.onboard(arn)
    assert done["status"] == "onboarded", done
    assert done["changes"] == planned["changes"]
    assert {"kind", "target", "statement", "reversible"} == set(done["changes"][0])
    assert done["proofs"] == [{"user": "teller", "token_login": True, "password_refused": True}]
    assert done["changes"][0]["kind"] == "enable-iam-authentication"
    assert "teller" in json.dumps(done["changes"])


@pytest.mark.exhaustive_on("mariadb")
def test_a_role_that_is_no_longer_declared_loses_its_policy(account, arn, engine, roles):
    role = account.make_role(f"leaving-{engine}")
    users = account.entries[f"main-{engine}"]["users"]
    account.declare(
        f"main-{engine}", *users, {"name": "leaver", "privileges": "readonly", "on": ["shop"], "roles": [role]}
    )
    assert account.onboard(arn)["status"] == "onboarded"
    login(account, arn, "leaver", role).close()
    account.declare(f"main-{engine}", *users)
    changes = account.onboard(arn)["changes"]
    kinds = {change["kind"] for change in changes}
    assert kinds == {"disable-user", "end-sessions", "detach-policy", "delete-policy"}
    assert account.refused(arn, "leaver", account.token(arn, "leaver", account.assume(role)))
    assert account.onboard(arn)["status"] == "unchanged"


@pytest.mark.exhaustive_on("mariadb")
@pytest.mark.parametrize("managed", [False, None], ids=["untagged", "missing"])
def test_roles_whose_owner_did_not_agree_are_refused_before_anything_is_changed(account, engine, managed):
    identifier = f"{'untagged' if managed is False else 'missing'}-{engine}"
    role = f"arn:aws:iam::{account.cloud.info['account']}:role/{identifier}"
    if managed is False:
        account.make_role(identifier, managed=False)
    arn = account.create(identifier, engine)
    account.wait(arn)
    account.declare(identifier, {"name": "app", "privileges": "readonly", "on": ["shop"], "roles": [role]})
    answer = account.onboard(arn)
    assert (answer["status"], answer["changes"]) == ("refused", [])
    assert "aws iam tag-role" in answer["remedy"] or "does not exist" in answer["reason"]
    assert not account.describe(arn)["IAMDatabaseAuthenticationEnabled"]


@pytest.mark.exhaustive_on("mariadb")
def test_a_namesake_is_refused_with_the_way_out_and_keeps_its_password(account, arn, engine, roles):
    with account.as_master(arn) as master:
        master.run(
            "CREATE ROLE namesake LOGIN PASSWORD 'Password-1'"
            if engine.startswith("postgres")
            else "CREATE USER namesake@'%' IDENTIFIED BY 'Password-1'"
        )
        if not engine.startswith("postgres"):
            master.run("GRANT SELECT ON shop.* TO namesake@'%'")
    users = account.entries[f"main-{engine}"]["users"]
    wanted = {"name": "namesake", "privileges": "readonly", "on": ["shop"], "roles": [roles["service"]]}
    account.declare(f"main-{engine}", *users, wanted)
    answer = account.onboard(arn)
    assert (answer["status"], answer["changes"]) == ("refused", [])
    assert "adopt: true" in answer["reason"] + answer["remedy"]
    account.connect(arn, "namesake", "Password-1").close()
    account.declare(f"main-{engine}", *users, wanted | {"adopt": True})
    assert account.onboard(arn)["status"] == "onboarded"
    login(account, arn, "namesake", roles["service"]).close()
    assert account.refused(arn, "namesake", "Password-1")
    account.declare(f"main-{engine}", *users)
    account.onboard(arn)


def test_an_error_in_access_yaml_is_refused_with_line_and_key(account, arn, engine):
    account.publish("version: 1\ndatabases:\n  - match: {identifier: x}\n    userz: []\n")
    try:
        answer = account.onboard(arn)
        assert answer["status"] == "refused"
        assert "line 4" in answer["reason"]
        assert "userz" in answer["reason"]
    finally:
        account.declare(f"main-{engine}", *account.entries[f"main-{engine}"]["users"])


@pytest.mark.exhaustive_on("mariadb")
def test_a_deleted_database_is_forgotten_and_its_policies_are_removed(account, engine):
    role = account.make_role(f"deleted-{engine}")
    identifier = f"deleted-{engine}"
    account.declare(identifier, {"name": "app", "privileges": "readonly", "on": ["shop"], "roles": [role]})
    arn = account.create(identifier, engine)
    account.wait_onboarded(arn)
    iam = account.cloud.client("iam")
    assert iam.list_attached_role_policies(RoleName=identifier)["AttachedPolicies"]
    account.cloud.client("rds").delete_db_instance(DBInstanceIdentifier=identifier, SkipFinalSnapshot=True)
    until(lambda: account.record(arn) is None, 60)
    assert iam.list_attached_role_policies(RoleName=identifier)["AttachedPolicies"] == []
    assert account.onboard(arn)["status"] == "ignored"
