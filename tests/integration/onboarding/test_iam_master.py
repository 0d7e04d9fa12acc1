"""Masters that are IAM users: RDS keeps no secret for them, and Describe doesn't say so."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError

from tests.integration.account import Account, Connection, until

IAM = {
    "MasterUserAuthenticationType": "iam-db-auth", "ManageMasterUserPassword": False,
    "EnableIAMDatabaseAuthentication": True,
}  # fmt: skip
#: 16 is vanilla: its master is a member of rds_iam anyway, by a membership with which it only grants it.
KINDS = [
    "postgres",
    pytest.param("postgres14", marks=pytest.mark.exhaustive),
    pytest.param("postgres16", marks=pytest.mark.exhaustive),
]


def app(*databases: str) -> dict[str, Any]:
    """Return the user `app` as access.yaml declares it."""
    return {"name": "app", "privileges": "readwrite", "on": list(databases)}


@pytest.fixture(scope="module", params=KINDS)
def arn(account, request) -> str:
    """Return a database whose master is an IAM user, onboarded by its event."""
    name = f"iam-master-{request.param}"
    account.declare(name, app("shop"))
    arn: str = account.create(name, request.param, **IAM)
    account.wait_onboarded(arn)
    return arn


@pytest.fixture(scope="module")
def connecting(account) -> str:
    """Return a role that may connect as any user of any database."""
    role: str = account.make_role("connects-anywhere")
    statement = {"Effect": "Allow", "Action": "rds-db:connect", "Resource": "*"}
    account.cloud.client("iam").put_role_policy(
        RoleName="connects-anywhere",
        PolicyName="connect",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    return role


@pytest.fixture(scope="module")
def by_token(account, connecting) -> Callable[..., Connection]:
    """Log in with a token that boto3 signs."""

    def connect(arn: str, user: str, name: str = "postgres") -> Connection:
        return account.connect(arn, user, account.token(arn, user, account.assume(connecting)), name)

    return connect


def takes_tokens(by_token: Callable[..., Connection], arn: str, user: str) -> bool:
    try:
        by_token(arn, user).close()
    except psycopg.OperationalError:
        return False
    return True


def findings(account: Account, arn: str, user: str) -> list[str]:
    """Return the kinds of findings about a user in a new audit."""
    answer = account.invoke("AuditFunction", {"databases": [arn]})
    assert (answer["audited"], answer["unreachable"]) == (1, 0), answer
    bucket, _, key = answer["reports"]["json"].removeprefix("s3://").partition("/")
    report = json.load(account.cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"])
    return [finding["kind"] for finding in report["findings"] if finding["user"] == user]


def test_a_database_whose_master_has_no_secret_is_onboarded(account, arn, by_token):
    described = account.describe(arn)
    assert "MasterUserSecret" not in described
    assert "MasterUserAuthenticationType" not in described
    by_token(arn, "app", "shop").close()
    assert account.onboard(arn)["status"] == "unchanged"


def test_the_master_keeps_its_token(account, arn, by_token):
    with by_token(arn, "boss") as master:
        master.run("SELECT 1")
    assert account.refused(arn, "boss", "no-token", name="postgres")


def test_later_work_of_the_master_is_done_by_its_token(account, arn, by_token):
    with by_token(arn, "boss") as master:
        master.run("ALTER ROLE rdsiam_manager NOLOGIN")
    answer = account.onboard(arn, revoke=["app"], reason="left")
    assert answer["status"] == "revoked", answer
    with by_token(arn, "boss") as master:
        assert master.run("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'app'") == [(False,)]
        master.run("ALTER ROLE rdsiam_manager LOGIN")
    assert account.onboard(arn, lift=["app"])["status"] in {"onboarded", "unchanged"}


def test_the_audit_does_not_call_it_a_lock_out(account, arn):
    assert findings(account, arn, "boss") == ["master-by-token"]


@pytest.mark.exhaustive
def test_a_master_that_is_made_an_iam_user_later_opens_what_is_new(account, by_token):
    rds = account.cloud.client("rds")
    account.declare("later-master", app("shop"))
    arn = account.create("later-master")
    account.wait_onboarded(arn)
    with account.as_master(arn) as master:
        master.run("CREATE DATABASE ledger")
    rds.modify_db_instance(
        DBInstanceIdentifier="later-master", MasterUserAuthenticationType="iam-db-auth", ApplyImmediately=True
    )
    until(lambda: takes_tokens(by_token, arn, "boss"), 30)
    assert "MasterUserSecret" not in account.describe(arn)
    account.declare("later-master", app("ledger", "shop"))
    until(lambda: account.onboard(arn)["status"] == "unchanged", 60)
    by_token(arn, "app", "ledger").close()


def test_an_express_cluster_is_onboarded(account, by_token):
    rds = account.cloud.client("rds")
    account.declare("express", app("postgres"))
    made = rds.create_db_cluster(
        DBClusterIdentifier="express", Engine="aurora-postgresql", WithExpressConfiguration=True
    )["DBCluster"]
    arn = made["DBClusterArn"]
    account.wait_onboarded(arn)
    described = account.describe(arn)
    assert (described["InternetAccessGatewayEnabled"], described["VPCNetworkingEnabled"]) == (True, False)
    assert (described["MasterUsername"], "MasterUserSecret" in described) == ("postgres", False)
    by_token(arn, "app").close()
    assert findings(account, arn, "postgres") == []


@pytest.mark.exhaustive
def test_a_master_with_a_password_that_nobody_manages_gets_the_command(account):
    account.declare("own-password", app("shop"))
    arn = account.create(
        "own-password", ManageMasterUserPassword=False, MasterUserPassword="Correct-Horse-1",
        EnableIAMDatabaseAuthentication=True,
    )  # fmt: skip
    account.wait(arn)
    answer = account.onboard(arn)
    assert (answer["status"], answer["code"]) == ("refused", "master-secret")
    assert "--manage-master-user-password" in answer["remedy"]


@pytest.mark.exhaustive
def test_a_token_that_is_denied_is_named_and_no_password_is_advised(account):
    account.declare("denied-master", app("shop"))
    # ProofRole never signs for a user of this prefix.
    arn = account.create("denied-master", MasterUsername="rdsiam_boss", **IAM)
    account.wait(arn)
    answer = account.onboard(arn)
    assert (answer["status"], answer["code"]) == ("refused", "master-token")
    assert "ProofRole" in answer["remedy"]
    assert "manage-master-user-password" not in str(answer)


@pytest.mark.parametrize(
    "options",
    [
        IAM | {"ManageMasterUserPassword": True},
        IAM | {"MasterUserPassword": "Correct-Horse-1"},
        IAM | {"EnableIAMDatabaseAuthentication": False},
        IAM | {"kind": "mysql"},
        IAM | {"kind": "mariadb"},
        {"MasterUserAuthenticationType": "password", "ManageMasterUserPassword": False},
    ],
    ids=["managed", "password", "without IAM", "MySQL", "MariaDB", "no password at all"],
)
def test_rds_refuses_what_excludes_an_iam_master(account, options: dict[str, Any]):
    with pytest.raises(ClientError, match="InvalidParameter"):
        account.create("never-made", **options)


@pytest.mark.exhaustive
def test_rds_refuses_to_take_iam_from_an_iam_master(account):
    rds, name = account.cloud.client("rds"), "kept-master"
    arn = account.create(name, **IAM)
    account.wait(arn)
    for change in ({"EnableIAMDatabaseAuthentication": False}, {"ManageMasterUserPassword": True}):
        with pytest.raises(ClientError, match="InvalidParameterCombination"):
            rds.modify_db_instance(DBInstanceIdentifier=name, ApplyImmediately=True, **change)
    rds.modify_db_instance(
        DBInstanceIdentifier=name, MasterUserAuthenticationType="password", ManageMasterUserPassword=True
    )
    until(lambda: not account.refused(arn, "boss", account.master_password(arn), name="postgres"), 30)


@pytest.mark.exhaustive
@pytest.mark.parametrize("version", ["16.9", "17.5"])
def test_a_major_upgrade_keeps_an_iam_master(account, by_token, version):
    name = f"upgraded-master-{version.partition('.')[0]}"
    account.declare(name, app("shop"))
    arn = account.create(name, **IAM, EngineVersion=version)
    account.wait_onboarded(arn)
    account.cloud.client("rds").modify_db_instance(
        DBInstanceIdentifier=name, EngineVersion="18.1", AllowMajorVersionUpgrade=True, ApplyImmediately=True
    )
    until(lambda: account.describe(arn)["EngineVersion"] == "18.1", 60)
    account.wait(arn)
    with by_token(arn, "boss") as master:
        assert master.run("SELECT current_setting('server_version_num')::int / 10000") == [(18,)]
    assert account.refused(arn, "boss", "no-token", name="postgres")
    by_token(arn, "app", "shop").close()
