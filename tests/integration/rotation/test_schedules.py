"""Secrets follow access.yaml on localcloud: onboarding asks SecretsFunction, which has just the rights it needs."""

import json

import pytest
from botocore.exceptions import ClientError

from tests.integration.account import until
from tests.integration.rotation.scheduled import MANAGED, Scheduled
from tests.kinds import MYSQL_EXHAUSTIVE

pytestmark = pytest.mark.exhaustive_on("mariadb")

INITIAL, ANOTHER = ({"Key": key, "Value": "true"} for key in ("rdsiam:initial", "rdsiam:administrator"))


@pytest.fixture(scope="module", params=["postgres", "mariadb", MYSQL_EXHAUSTIVE])
def database(request, account):
    made = Scheduled.make(account, f"scheduled-{request.param}", request.param)
    yield made
    made.remove()


def kinds(answer) -> list[str]:
    return [change["kind"] for change in answer["changes"]]


def test_onboarding_adopts_an_existing_secret_and_does_not_rotate_it(database):
    key = database.account.cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
    password = database.make_user("adopted")
    secret = database.put("adopted", password, key=key)
    database.rotate("adopted", every="30d", window="02:00/2h", secret=secret)
    planned = database.account.onboard(database.arn, plan=True)
    assert (planned["status"], kinds(planned)) == ("planned", ["schedule-rotation"])
    assert not database.describe(secret).get("RotationEnabled")
    answer = database.account.onboard(database.arn)
    assert (answer["status"], kinds(answer)) == ("onboarded", ["schedule-rotation"])
    database.wait_until_nothing_is_pending(secret)
    described = database.describe(secret)
    assert described["RotationEnabled"]
    assert described["RotationRules"]["Duration"] == "1h"
    assert described["NextRotationDate"].hour in {2, 3}
    assert database.value(secret)["password"] == password
    assert database.logs_in("adopted", password)
    assert database.account.onboard(database.arn)["status"] == "unchanged"
    assert database.arn not in database.account.reconcile(plan=True)["started"]


def test_a_new_file_moves_the_schedule_and_one_without_the_user_cancels_it(database):
    secret = database.with_secret("moving")
    before = database.describe(secret)["RotationRules"]
    database.rotate("moving", every="1d", window="05:00/1h")
    assert database.arn in database.account.reconcile(plan=True)["started"]
    assert kinds(database.account.onboard(database.arn)) == ["schedule-rotation"]
    after = database.describe(secret)["RotationRules"]
    assert after != before
    assert after["ScheduleExpression"] == "cron(0 5 * * ? *)"
    database.wait_until_nothing_is_pending(secret)
    database.rotate()
    assert kinds(database.account.onboard(database.arn)) == ["cancel-rotation"]
    assert not database.describe(secret)["RotationEnabled"]
    assert database.account.onboard(database.arn)["status"] == "unchanged"


def test_a_refused_rotation_prevents_no_tokens_and_is_tried_again(database):
    secret = database.put("untagged", database.make_user("untagged"), tagged=False)
    database.rotate("untagged", secret=secret)
    answer = database.account.onboard(database.arn)
    assert answer["status"] == "refused"
    assert f"--secret-id {secret} --tags Key=rdsiam:managed,Value=true" in answer["remedy"]
    assert database.account.record(database.arn)["finished"]["BOOL"]
    assert database.arn in database.account.reconcile(plan=True)["started"]
    database.client.tag_resource(SecretId=secret, Tags=[MANAGED])
    assert kinds(database.account.onboard(database.arn)) == ["schedule-rotation"]
    assert database.arn not in database.account.reconcile(plan=True)["started"]


def test_a_secret_is_made_only_when_confirmed_and_rotates(database):
    password = database.make_user("without")
    database.rotate("without")
    if database.postgres:
        refused = database.ask({"database": database.arn, "confirm": True})["remedy"]
        grant = refused.partition("as a role that administers without run: ")[2]
        assert grant.startswith("GRANT")
        with database.account.as_master(database.arn) as master:
            master.run(grant)
    refused = database.ask({"database": database.arn, "user": "without"})
    assert (refused["status"], refused["changes"]) == ("refused", [])
    assert refused["code"] == "secret-not-named"
    assert "To create one, rdsiam changes the password" in refused["remedy"]
    assert database.logs_in("without", password)
    made = database.ask({"database": database.arn, "user": "without", "confirm": True})
    assert kinds(made) == ["create-secret", "set-password", "schedule-rotation"]
    secret = made["secrets"][0]["secret"]
    assert not database.logs_in("without", password)
    value = database.value(secret)
    assert database.logs_in("without", value["password"])
    database.wait_until_nothing_is_pending(secret)
    version = database.ask({"rotate": secret})["version"]
    until(lambda: database.ask({"show": secret})["current_version"] == version, 60)
    assert database.logs_in("without", database.value(secret)["password"])
    assert database.ask({"database": database.arn, "user": "without"})["status"] == "unchanged"


def test_alternating_users_are_adopted_in_either_turn(database):
    master = database.account.describe(database.arn)["MasterUserSecret"]["SecretArn"]
    secret = database.put("turning", database.make_user("turning"), masterarn=master)
    database.rotate("turning", secret=secret)
    assert "must be missing (scheme: single)" in database.ask({"database": database.arn})["reason"]
    database.rotate("turning", scheme="alternating", secret=secret)
    assert database.ask({"database": database.arn})["status"] == "written"
    database.wait_until_nothing_is_pending(secret)
    for name in ("turning_clone", "turning"):
        version = database.ask({"rotate": secret, "reason": "a test"})["version"]
        until(lambda v=version: database.ask({"show": secret})["current_version"] == v, 60)
        assert database.value(secret)["username"] == name
        assert database.ask({"database": database.arn})["status"] == "unchanged"
    listed = database.ask({"list": True, "databases": [database.arn]})["secrets"]
    assert [one["former_stays"] for one in listed if one["secret"] == secret] == [True]


def test_every_rotation_is_listed_with_its_database(database):
    database.with_secret("listed", alone=True)
    listed = database.ask({"list": True})["secrets"]
    assert {one["database"] for one in listed if one["identifier"] == database.identifier} == {database.arn}
    assert all("password" not in json.dumps(one) for one in listed)


def test_only_onboarding_and_operators_may_invoke_the_function(database):
    statement = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "*"}
    role = database.account.make_role(f"asks-{database.identifier}")
    database.account.cloud.client("iam").put_role_policy(
        RoleName=role.rpartition("/")[2],
        PolicyName="invoke",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
        database.account.invoke("SecretsFunction", {"list": True}, database.account.assume(role))


def test_an_attacker_in_the_function_can_do_little(database):
    account = database.account
    secret = database.put("prey", database.make_user("prey"), tagged=False)
    taken = account.cloud.client("secretsmanager", account.credentials_of("SecretsFunction"))
    dynamodb = account.cloud.client("dynamodb", account.credentials_of("SecretsFunction"))
    settled = database.client.create_secret(
        Name=f"rdsiam/{database.identifier}/settled", SecretString="{}", Tags=[MANAGED]
    )["ARN"]
    rules = {"ScheduleExpression": "cron(0 0 * * ? *)"}
    master = account.describe(database.arn)["MasterUserSecret"]["SecretArn"]
    vend = account.cloud.outputs["RotateFunction"].replace("RotateFunction", "VendFunction")
    tagged = database.put("tagged", database.make_user("tagged"))
    setting = {
        "SecretId": secret,
        "RotationLambdaARN": account.cloud.outputs["RotateFunction"],
        "RotationRules": rules,
    }
    for what, call in {
        "read a master's secret": lambda: taken.get_secret_value(SecretId=master),
        "rotate an untagged one": lambda: taken.rotate_secret(**setting),
        "name another function": lambda: taken.rotate_secret(
            **setting | {"SecretId": tagged, "RotationLambdaARN": vend}
        ),
        "rotate what another rotates": lambda: taken.rotate_secret(SecretId=tagged),
        "write a value": lambda: taken.put_secret_value(SecretId=tagged, SecretString="{}"),
        "tag another's": lambda: taken.tag_resource(SecretId=secret, Tags=[MANAGED]),
        "tag its own anew": lambda: taken.tag_resource(SecretId=settled, Tags=[MANAGED, INITIAL]),
        "tag as it likes": lambda: taken.create_secret(
            Name=f"rdsiam/{database.identifier}/prey", SecretString="{}", Tags=[MANAGED, ANOTHER]
        ),
        "write more of a record": lambda: dynamodb.update_item(
            TableName=account.cloud.outputs["InventoryTable"],
            Key={"database": {"S": database.arn}},
            UpdateExpression="SET #name = :value",
            ExpressionAttributeNames={"#name": "described"},
            ExpressionAttributeValues={":value": {"M": {}}},
        ),
        "make one elsewhere": lambda: taken.create_secret(Name="elsewhere", SecretString="{}", Tags=[MANAGED]),
        "move a label": lambda: taken.update_secret_version_stage(SecretId=tagged, VersionStage="AWSPENDING"),
        "cancel": lambda: taken.cancel_rotate_secret(SecretId=tagged),
        "delete": lambda: taken.delete_secret(SecretId=tagged),
    }.items():
        with pytest.raises(ClientError) as denied:
            call()
        assert denied.value.response["Error"]["Code"] == "AccessDeniedException", what


def test_the_password_of_a_secret_that_it_has_just_made_may_be_replaced(database):
    account = database.account
    database.ask({"list": True})
    taken = account.cloud.client("secretsmanager", account.credentials_of("SecretsFunction"))
    name = f"rdsiam/{database.identifier}/initial"
    initial = {"Key": "rdsiam:initial", "Value": "true"}
    taken.create_secret(Name=name, SecretString="{}", Tags=[MANAGED, initial])
    taken.put_secret_value(SecretId=name, SecretString='{"a": 1}')
    taken.untag_resource(SecretId=name, TagKeys=["rdsiam:initial"])
    with pytest.raises(ClientError, match="PutSecretValue"):
        taken.put_secret_value(SecretId=name, SecretString='{"a": 2}')


def test_rotations_of_a_database_that_is_gone_are_cancelled(account):
    gone = Scheduled.make(account, "scheduled-gone", "postgres")
    secret = gone.with_secret("left")
    account.cloud.client("rds").delete_db_instance(DBInstanceIdentifier=gone.identifier, SkipFinalSnapshot=True)
    until(lambda: account.record(gone.arn) is None, 60)
    assert not gone.describe(secret)["RotationEnabled"]
    account.declare(gone.identifier)
    gone.client.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)
