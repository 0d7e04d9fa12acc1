"""The doctor against real servers, with logins that work and logins that don't."""

import json

import pytest

from localcloud.core.certificates import Authority
from rdsiam.aws.rds_descriptions import from_instance
from rdsiam.doctor.case import LoginCase
from rdsiam.doctor.checks import diagnose
from rdsiam.signer import Credentials
from rdsiam.tokens import trust
from tests.integration.account import until


@pytest.fixture
def examine(account, monkeypatch):
    """Let the doctor look at a user with somebody's credentials; returns rows by check."""
    monkeypatch.setenv("RDSIAM_CA", str(account.cloud.ca))
    trust.ca_file.cache_clear()

    def look(arn, user, credentials=None):
        own = account.cloud.info["credentials"]
        keys = Credentials(own["access_key_id"], own["secret_access_key"])
        if credentials:
            keys = Credentials(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
        database = from_instance(account.describe(arn))
        client = lambda service: account.cloud.client(service, credentials)  # noqa: E731
        return {row.check: row for row in diagnose(LoginCase(database, user, client, keys, None, account.cloud.region))}

    yield look
    trust.ca_file.cache_clear()


def role_that_connects(account, name, resource):
    arn = account.make_role(name, managed=False)
    statements = [
        {"Effect": "Allow", "Action": "rds-db:connect", "Resource": resource},
        {"Effect": "Allow", "Action": ["iam:Get*", "iam:List*", "rds:Describe*"], "Resource": "*"},
    ]
    account.cloud.client("iam").put_role_policy(
        RoleName=name, PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements})
    )
    return account.assume(arn)


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_a_login_that_works(examine, place, engine):
    rows = examine(place["arns"][engine], "app")
    well = ("name", "port", "TLS", "IAM authentication", "pending changes", "identity", "role or plugin", "login")
    assert [rows[check].state for check in well] == ["OK"] * 8, rows
    assert rows["clock"].state == "OK"
    assert not [row for row in rows.values() if row.state == "FAIL"], rows


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_a_user_that_does_not_exist(examine, place, engine):
    rows = examine(place["arns"][engine], "nobody")
    assert rows["role or plugin"].state == "FAIL"
    assert rows["login"].state == "FAIL"


def test_a_user_that_is_not_in_rds_iam(examine, account, place):
    with account.as_master(place["arns"]["postgres"]) as master:
        master.run("CREATE ROLE doctor_plain LOGIN PASSWORD 'xyz'")
    try:
        rows = examine(place["arns"]["postgres"], "doctor_plain")
        assert rows["role or plugin"].state == "FAIL"
        assert "rds_iam" in rows["role or plugin"].detail
        assert "for a password" in rows["login"].detail
    finally:
        with account.as_master(place["arns"]["postgres"]) as master:
            master.run("DROP ROLE doctor_plain")


#: State of a user → statements that bring it about, and a word of the verdict; by engine.
STATES = {
    "disabled by rdsiam": ("postgres", ["CREATE ROLE {} NOLOGIN", "GRANT rds_iam TO {}"], "is locked (NOLOGIN)"),
    "a role that never logged in": ("postgres", ["CREATE ROLE {} NOLOGIN"], "is locked (NOLOGIN)"),
    "expired": (
        "postgres",
        ["CREATE ROLE {} LOGIN PASSWORD 'xyz' VALID UNTIL '2020-01-01'"],
        "has expired: VALID UNTIL has passed",
    ),
    "locked": (
        "mariadb",
        ["CREATE USER {} IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'", "ALTER USER {} ACCOUNT LOCK"],
        "is locked (ACCOUNT LOCK)",
    ),
    "expired password": (
        "mariadb",
        ["CREATE USER {} IDENTIFIED BY 'a-long-Password-1' PASSWORD EXPIRE"],
        "has expired: its password has expired",
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_a_user_that_can_not_log_in_is_named_as_what_it_is(examine, account, place, state):
    engine, statements, says = STATES[state]
    with account.as_master(place["arns"][engine]) as master:
        for statement in statements:
            master.run(statement.format("doctor_state"))
    try:
        row = examine(place["arns"][engine], "doctor_state")["role or plugin"]
    finally:
        with account.as_master(place["arns"][engine]) as master:
            master.run("DROP ROLE doctor_state" if engine == "postgres" else "DROP USER doctor_state")
    assert row.state == "FAIL", row
    assert says in row.detail


def test_a_user_in_other_letters_is_suggested(examine, place):
    row = examine(place["arns"]["postgres"], "APP")["role or plugin"]
    assert row.state == "FAIL"
    assert "did you mean app?" in row.detail


def test_a_policy_with_another_resource_id(examine, account, place):
    arn = place["arns"]["postgres"]
    stale = f"arn:aws:rds-db:{account.cloud.region}:{account.cloud.account}:dbuser:db-GONE/app"
    rows = examine(arn, "app", role_that_connects(account, "doctor-stale", stale))
    assert rows["login"].state == "FAIL"
    assert rows["resource id"].state == "FAIL"
    assert "db-GONE" in rows["resource id"].detail
    assert rows["role or plugin"].state == "UNKNOWN", "this role may not read the catalogs"
    right = stale.replace("db-GONE", account.describe(arn)["DbiResourceId"])
    rows = examine(arn, "app", role_that_connects(account, "doctor-right", right))
    assert (rows["login"].state, rows["resource id"].state) == ("OK", "OK")


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_a_certificate_of_another_authority(examine, place, engine, monkeypatch, tmp_path):
    monkeypatch.setenv("RDSIAM_CA", str(Authority(tmp_path).path))
    trust.ca_file.cache_clear()
    rows = examine(place["arns"][engine], "app")
    assert rows["TLS"].state == "FAIL"
    assert rows["login"].state == "UNKNOWN"
    assert "RDSIAM_CA" in rows["TLS"].fix


def test_no_row_shows_a_token(examine, place):
    for user in ("app", "nobody"):
        assert "X-Amz" not in repr(examine(place["arns"]["postgres"], user))


def test_the_doctor_of_a_cluster_advises_what_works_on_clusters(account):
    rds = account.cloud.client("rds")
    rds.create_db_cluster(
        DBClusterIdentifier="doctor-cluster", Engine="aurora-postgresql", MasterUsername="boss",
        ManageMasterUserPassword=True, DatabaseName="shop",
    )  # fmt: skip
    try:
        member = {"DBInstanceIdentifier": "doctor-cluster-1", "DBInstanceClass": "db.r6g.large"}
        rds.create_db_instance(Engine="aurora-postgresql", DBClusterIdentifier="doctor-cluster", **member)
        described = until(
            lambda: [
                one
                for one in rds.describe_db_clusters(DBClusterIdentifier="doctor-cluster")["DBClusters"]
                if one["Status"] == "available"
            ],
            60,
        )[0]
        said = account.rdsiam("doctor", described["DBClusterArn"], "reader").stdout
        of_member = account.rdsiam("doctor", "doctor-cluster-1", "reader").stdout
    finally:
        rds.delete_db_instance(DBInstanceIdentifier="doctor-cluster-1", SkipFinalSnapshot=True)
        rds.delete_db_cluster(DBClusterIdentifier="doctor-cluster", SkipFinalSnapshot=True)
    assert "modify-db-instance" not in said, said
    assert "describe-db-instances" not in said, said
    assert "modify-db-cluster" in said, said
    assert "modify-db-cluster --db-cluster-identifier doctor-cluster " in of_member, of_member
    assert "rdsiam audit --database doctor-cluster\n" in of_member, of_member
