"""Rotation as Secrets Manager drives it: rotate_secret on localcloud, the deployed function, real databases."""

import json
import secrets
import socket

import pytest
from botocore.exceptions import ClientError

from tests.integration.account import until
from tests.integration.rotation.passwords import DAYS, Pair
from tests.kinds import MYSQL_FAMILY

pytestmark = pytest.mark.exhaustive_on("mariadb")


@pytest.mark.exhaustive_on
def test_one_user_gets_a_new_password(passwords):
    secret = passwords.make("single", host=None, dbInstanceIdentifier=passwords.identifier, note={"kept": [1]})
    before = passwords.value(secret)
    version = passwords.rotate(secret)
    passwords.wait(secret, version)
    after = passwords.value(secret)
    passwords.logs_in(after)
    assert passwords.account.refused(passwords.arn, "single", before["password"])
    assert after | {"password": ""} == before | {"password": ""}
    assert passwords.value(secret, "AWSPREVIOUS") == before
    until(lambda: "LastRotatedDate" in passwords.client.describe_secret(SecretId=secret), 10)
    described = passwords.client.describe_secret(SecretId=secret)
    assert described["RotationEnabled"]
    assert 29 <= (described["NextRotationDate"] - described["LastRotatedDate"]).days <= 30


@pytest.mark.exhaustive_on
def test_two_users_take_turns_and_share_what_they_make(passwords):
    user = "turns"
    secret = passwords.make(user, masterarn=passwords.master_secret)
    before = passwords.value(secret)
    for number, name in enumerate([f"{user}_clone", user, f"{user}_clone"]):
        version = passwords.rotate(secret)
        passwords.wait(secret, version)
        now = passwords.value(secret)
        assert now["username"] == name
        with passwords.account.connect(passwords.arn, name, now["password"]) as session:
            session.run(f"CREATE TABLE {user}_{number} (id int)")
            session.run(f"INSERT INTO {user}_{number} VALUES ({number})")
            for earlier in range(number):
                assert session.run(f"SELECT id FROM {user}_{earlier}") == [(earlier,)]
        if number == 0:
            passwords.logs_in(before)  # whoever has the old password goes on until the next turn


def test_an_administrator_that_no_parameter_names_is_not_read(passwords):
    value = {"username": "boss", "password": passwords.account.master_password(passwords.arn), "host": passwords.host}
    administrator = passwords.client.create_secret(
        Name=f"{passwords.identifier}/administrator",
        SecretString=json.dumps(value),
        Tags=[{"Key": "rdsiam:administrator", "Value": "true"}],
    )["ARN"]
    secret = passwords.make("unled", masterarn=administrator)
    passwords.rotate(secret)
    assert "AccessDenied" in passwords.log_line(secret)["message"]
    passwords.logs_in(passwords.value(secret))


def test_an_administrator_that_a_parameter_names_is_read(passwords):
    """Attach by hand the permissions of the parameter AdministratorSecrets: the stack of the tests names none."""
    value = {"username": "boss", "password": passwords.account.master_password(passwords.arn), "host": passwords.host}
    administrator = passwords.client.create_secret(
        Name=f"{passwords.identifier}/named-administrator", SecretString=json.dumps(value)
    )["ARN"]
    statement = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": administrator}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam = passwords.account.cloud.client("iam")
    iam.put_role_policy(RoleName=passwords.role, PolicyName="named", PolicyDocument=document)
    try:
        secret = passwords.make("led", masterarn=administrator)
        passwords.wait(secret, passwords.rotate(secret))
    finally:
        iam.delete_role_policy(RoleName=passwords.role, PolicyName="named")
    assert passwords.value(secret)["username"] == "led_clone"
    passwords.logs_in(passwords.value(secret))


def test_a_secret_with_a_key_of_the_customers_own_is_rotated(passwords):
    key = passwords.account.cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
    secret = passwords.make("keyed", {"KmsKeyId": key})
    passwords.wait(secret, passwords.rotate(secret))
    passwords.logs_in(passwords.value(secret))


def test_the_secret_says_how_its_passwords_are_made(passwords):
    secret = passwords.make("shaped", passwordLength=12, passwordExcludeCharacters="0123456789.-_")
    passwords.wait(secret, passwords.rotate(secret))
    made = passwords.value(secret)["password"]
    assert len(made) == 12
    assert not set(made) & set("0123456789.-_")


def test_a_failed_rotation_is_tried_again_with_the_same_version(passwords):
    secret = passwords.make("again")
    right = passwords.value(secret)
    changed = secrets.token_urlsafe(18)
    with passwords.account.as_master(passwords.arn) as master:
        how = "ALTER ROLE again PASSWORD" if passwords.engine == "postgres" else "ALTER USER again IDENTIFIED BY"
        master.run(f"{how} '{changed}'")
        version = passwords.rotate(secret)
        cause = passwords.log_line(secret)["message"]
        assert "with none of AWSCURRENT, AWSPENDING, AWSPREVIOUS" in cause
        master.run(f"{how} '{right['password']}'")
    passwords.wait(secret, version)
    passwords.logs_in(passwords.value(secret))


def test_an_iam_user_is_refused_and_keeps_its_plugin(passwords):
    account, arn = passwords.account, passwords.arn
    secret = passwords.make("modern")
    account.cloud.client("rds").modify_db_instance(
        DBInstanceIdentifier=passwords.identifier, EnableIAMDatabaseAuthentication=True, ApplyImmediately=True
    )
    until(lambda: account.describe(arn)["IAMDatabaseAuthenticationEnabled"], 30)
    with account.as_master(arn) as master:
        if passwords.engine == "postgres":
            master.run("GRANT rds_iam TO modern")
        else:
            master.run("ALTER USER modern IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL")
    passwords.rotate(secret)
    cause = passwords.log_line(secret)["message"]
    assert "modern is an IAM user and logs in by token" in cause
    assert account.refused(arn, "modern", passwords.value(secret)["password"])


def test_a_rotation_that_was_given_up_is_begun_again_and_no_second_one_beside_it(passwords):
    secret = passwords.make("stuck", host="elsewhere.example")
    version = passwords.rotate(secret)
    assert "no endpoint of an instance or cluster" in passwords.log_line(secret)["message"]
    with pytest.raises(ClientError, match="A previous rotation isn't complete"):
        passwords.rotate(secret)
    assert passwords.stages(secret)[version] == ["AWSPENDING"]


def test_no_password_is_sent_to_a_host_that_describe_does_not_return(passwords):
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        for user, keys in {
            "lured": {"host": "localhost", "port": trap.getsockname()[1]},
            "lured_by_name": {"port": trap.getsockname()[1], "dbInstanceIdentifier": passwords.identifier},
            "lured_by_host": {
                "host": "127.0.0.1",
                "port": trap.getsockname()[1],
                "dbInstanceIdentifier": passwords.identifier,
            },
            "lured_by_cluster": {"port": trap.getsockname()[1], "dbClusterIdentifier": "no-such-cluster"},
        }.items():
            secret = passwords.make(user, **keys)
            passwords.rotate(secret)
            cause = passwords.log_line(secret)["message"]
            assert "the secret's host" in cause or "access.yaml does not declare that rotation" in cause
        with pytest.raises(TimeoutError):
            trap.accept()


def test_two_users_do_not_take_turns_behind_a_classic_proxy(passwords):
    secret = passwords.make("proxied", masterarn=passwords.master_secret)
    rds, name = passwords.account.cloud.client("rds"), f"{passwords.identifier}-front"
    subnets = passwords.account.cloud.client("ec2").describe_subnets()["Subnets"]
    rds.create_db_proxy(
        DBProxyName=name,
        EngineFamily="POSTGRESQL" if passwords.engine == "postgres" else "MYSQL",
        Auth=[{"AuthScheme": "SECRETS", "SecretArn": secret, "IAMAuth": "DISABLED"}],
        RoleArn=f"arn:aws:iam::{passwords.account.cloud.account}:role/proxy",
        VpcSubnetIds=[subnet["SubnetId"] for subnet in subnets],
    )
    try:
        version = passwords.rotate(secret)
        cause = passwords.log_line(secret)["message"]
        assert f"the proxy {name} logs in with this secret, and knows one user only" in cause
    finally:
        rds.delete_db_proxy(DBProxyName=name)
    assert passwords.value(secret)["username"] == "proxied"
    passwords.logs_in(passwords.value(secret))
    passwords.converge(secret, version)
    assert passwords.value(secret)["username"] == "proxied_clone"


def test_calls_that_are_denied_stop_a_rotation_until_they_are_allowed(passwords):
    secret = passwords.make("denied")
    iam, role = passwords.account.cloud.client("iam"), passwords.role
    deny = {"Effect": "Deny", "Action": ["rds:DescribeDBInstances", "secretsmanager:PutSecretValue"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [deny | {"Sid": "NotNow"}]})
    iam.put_role_policy(RoleName=role, PolicyName="not-now", PolicyDocument=document)
    try:
        version = passwords.rotate(secret)
        cause = passwords.log_line(secret)["message"]
        assert "createSecret of" in cause
        assert "AccessDenied" in cause
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="not-now")
    passwords.converge(secret, version)
    passwords.logs_in(passwords.value(secret))


def test_the_function_can_be_tried_without_rotating(passwords):
    secret = passwords.make("tried")
    before = passwords.value(secret)
    passwords.client.rotate_secret(
        SecretId=secret, RotationLambdaARN=passwords.function, RotationRules=DAYS, RotateImmediately=False
    )
    until(lambda: list(passwords.stages(secret).values()) == [["AWSCURRENT"]], 20)
    assert passwords.value(secret) == before


def test_a_secret_that_rds_manages_can_not_be_given_to_the_function(passwords):
    with pytest.raises(ClientError, match="managed by rds"):
        passwords.rotate(passwords.master_secret)


def test_nobody_but_secrets_manager_invokes_the_function(passwords):
    event = {"Step": "createSecret", "SecretId": passwords.master_secret, "ClientRequestToken": "x" * 32}
    with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
        passwords.account.invoke("RotateFunction", event)


def test_a_function_that_secrets_manager_may_not_invoke_can_not_be_set(passwords):
    secret = passwords.make("misled")
    vend = passwords.account.cloud.functions["VendFunction"].partition(":")[0]
    with pytest.raises(ClientError, match="Secrets Manager cannot invoke the specified Lambda function"):
        passwords.client.rotate_secret(
            SecretId=secret,
            RotationLambdaARN=passwords.function.rpartition(":")[0] + ":" + vend,
            RotationRules=DAYS,
        )


# --- the database stops, starts and reboots meanwhile ---


def test_a_database_that_is_stopped_is_rotated_when_it_is_started(passwords):
    pair = Pair(passwords, "stopped")
    passwords.change_state("stop", "stopped")
    try:
        pair.rotate()
        for secret in pair.secrets:
            assert "failed at port" in passwords.log_line(secret)["message"]
    finally:
        passwords.account.wait(passwords.arn, "stopped")
        passwords.change_state("start", "available")
    pair.converges()


@pytest.mark.exhaustive_on("mariadb", "createSecret", "testSecret", "finishSecret")
@pytest.mark.parametrize("step", ["createSecret", "setSecret", "testSecret", "finishSecret"])
def test_a_database_that_reboots_after_a_step_stops_no_rotation_for_good(passwords, step):
    pair = Pair(passwords, f"after_{step.lower()}")
    pair.rotate()
    pair.wait_for(step)
    passwords.change_state("reboot", "available")
    pair.converges()


def test_a_database_that_reboots_in_the_middle_of_set_secret_stops_no_rotation_for_good(passwords):
    pair = Pair(passwords, "within")
    with passwords.account.as_master(passwords.arn) as master:
        for statement in passwords.hold(pair.alone, pair.turns):
            master.run(statement)
        pair.rotate()
        until(lambda: master.run(passwords.waiting)[0][0] == 2, 30)
        passwords.change_state("reboot", "available")
    if passwords.engine == "postgres":
        causes = [passwords.log_line(secret)["message"] for secret in pair.secrets]
        assert all("setSecret of" in cause for cause in causes)
    # The stop of MySQL and MariaDB can end the administrator's session first. Then setSecret succeeds, and testSecret
    # fails unless the server is back in time.
    pair.converges()
    causes = [line["message"] for secret in pair.secrets for line in passwords.log_lines(secret)]
    assert all("connecti" in cause and ("setSecret of" in cause or "testSecret of" in cause) for cause in causes)


@pytest.mark.exhaustive
@pytest.mark.parametrize("passwords", MYSQL_FAMILY, indirect=True)  # PostgreSQL's are in test_expired_passwords.py
def test_an_expired_password_is_what_a_rotation_replaces(passwords):
    secret = passwords.make("expired")
    with passwords.account.as_master(passwords.arn) as master:
        master.run("ALTER USER 'expired'@'%' PASSWORD EXPIRE")
    passwords.wait(secret, passwords.rotate(secret))
    passwords.logs_in(passwords.value(secret))
