"""Whoever owns, makes or tags a secret gets no login by it: rdsiam rotates what is recorded, and nothing else.

The attackers here have rights on secrets of their own (`tenant-b/*`, `rdsiam/*`), and those that naming RotateFunction
takes; none on databases, functions or tables.
"""

import json
import shlex
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.account import until
from tests.integration.rotation.scheduled import MANAGED, Scheduled
from tests.integration.secret_records import record_secret, recorded_secret
from tests.kinds import MYSQL_EXHAUSTIVE

pytestmark = pytest.mark.exhaustive_on("mariadb")

INITIAL = {"Key": "rdsiam:initial", "Value": "true"}


@pytest.fixture(scope="module", params=["postgres", "mariadb", MYSQL_EXHAUSTIVE])
def database(request, account):
    made = Scheduled.make(account, f"owned-{request.param}", request.param)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def tenant(database) -> Any:
    """Secrets Manager as a developer of another team may use it."""
    account = database.account
    role = account.make_role(f"tenant-of-{database.identifier}", managed=False)
    rotate = account.cloud.outputs["RotateFunction"]
    own = [f"arn:aws:secretsmanager:*:*:secret:{prefix}/*" for prefix in ("tenant-b", "rdsiam")]
    statements = [
        {"Effect": "Allow", "Action": "secretsmanager:*", "Resource": own},
        {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": rotate,
         "Condition": {"Bool": {"aws:ViaAWSService": "true"}}},
    ]  # fmt: skip
    account.cloud.client("iam").put_role_policy(
        RoleName=role.rpartition("/")[2],
        PolicyName="own",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}),
    )
    return account.cloud.client("secretsmanager", account.assume(role))


def master_secret(database: Scheduled) -> str:
    return str(database.account.describe(database.arn)["MasterUserSecret"]["SecretArn"])


def value_for(database: Scheduled, user: str, password: str, **more: Any) -> str:
    """Return what a secret of a user of the database says."""
    endpoint = database.account.describe(database.arn)["Endpoint"]
    value = {"engine": database.engine, "host": endpoint["Address"], "port": endpoint["Port"], "dbname": "shop"}
    return json.dumps(value | {"username": user, "password": password} | more)


def failure(database: Scheduled, secret: str) -> str:
    """Wait for a failed step of a secret's rotation, and return what it said."""

    def find() -> str | None:
        for line in (database.account.cloud.logs / "RotateFunction.log").read_text().splitlines():
            if "rotation step failed" in line and secret in line and line.startswith("{"):
                record = json.loads(line)
                return str(record["message"])
        return None

    return str(until(find, 30))


def users(database: Scheduled) -> set[str]:
    query = "SELECT rolname FROM pg_roles" if database.postgres else "SELECT user FROM mysql.user"
    with database.account.as_master(database.arn) as master:
        return {row[0] for row in master.run(query)}


@pytest.mark.parametrize("victim", ["payments", "payments_clone"])
@pytest.mark.parametrize("turns", [True, False], ids=["with an administrator", "alone"])
def test_rotating_a_secret_of_ones_own_gives_no_login_as_another_user(database, tenant, victim, turns):
    name = f"{victim}_{'t' if turns else 's'}"
    password = database.make_user(name)
    before = users(database)
    more = {"masterarn": master_secret(database)} if turns else {}
    secret = tenant.create_secret(
        Name=f"tenant-b/{database.identifier}-{name}", SecretString=value_for(database, name, "x", **more)
    )["ARN"]
    with pytest.raises(ClientError, match="AccessDenied"):
        tenant.get_secret_value(SecretId=master_secret(database))
    tenant.rotate_secret(
        SecretId=secret,
        RotationLambdaARN=database.account.cloud.outputs["RotateFunction"],
        RotationRules={"AutomaticallyAfterDays": 30},
    )
    said = failure(database, secret)
    assert "createSecret of" in said
    assert "access.yaml does not declare that rotation" in said
    assert f'secret: "{secret}"' in said
    assert users(database) == before
    assert database.logs_in(name, password)
    tenant.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)


@pytest.mark.parametrize("change", ["user", "administrator", "clone"])
def test_the_owner_of_a_rotated_secret_gets_no_other_login_by_rewriting_it(database, change):
    owner = f"team_b_{change}"
    secret = database.with_secret(owner, alone=True)
    password = database.value(secret)["password"]
    other = f"ledger_{change}"
    others_password = database.make_user(other)
    before = users(database)
    rewritten = database.value(secret) | {
        "user": {"username": other, "masterarn": master_secret(database)},
        "administrator": {"masterarn": master_secret(database)},
        "clone": {"username": f"{owner}_clone", "masterarn": master_secret(database)},
    }[change]  # fmt: skip
    database.client.put_secret_value(SecretId=secret, SecretString=json.dumps(rewritten))
    version = database.client.rotate_secret(SecretId=secret)["VersionId"]
    said = failure(database, secret)
    assert "but it is recorded for" in said or "but recorded for" in said
    assert database.describe(secret)["VersionIdsToStages"].get(version) == ["AWSPENDING"]
    assert users(database) == before
    assert database.logs_in(other, others_password)
    assert database.logs_in(owner, password)
    asked = database.account.invoke("SecretsFunction", {"rotate": secret})
    assert asked["errorType"] == "Refused"
    refused = database.ask({"database": database.arn})
    assert refused["status"] == "refused"


def test_awspending_that_the_owner_writes_sets_no_password(database):
    secret = database.with_secret("pending_b", alone=True)
    password, other = database.value(secret)["password"], database.make_user("ledger_pending")
    pending = database.value(secret) | {"username": "ledger_pending", "masterarn": master_secret(database)}
    database.client.put_secret_value(
        SecretId=secret, SecretString=json.dumps(pending), VersionStages=["AWSPENDING"], ClientRequestToken="0" * 32
    )
    with pytest.raises(ClientError, match="previous rotation"):
        database.client.rotate_secret(SecretId=secret)
    said = failure(database, secret)
    assert "AWSPENDING: the secret's value is for the user ledger_pending, but it is recorded for pending_b" in said
    assert database.logs_in("ledger_pending", other)
    assert database.logs_in("pending_b", password)


def test_a_rewritten_secret_is_a_finding_until_its_value_is_put_back(database):
    secret = database.with_secret("finding_b", alone=True)
    right = database.value(secret)
    database.client.put_secret_value(SecretId=secret, SecretString=json.dumps(right | {"username": "somebody"}))
    (finding,) = findings(database, "finding_b")
    assert (finding["kind"], finding["severity"]) == ("secret-not-as-recorded", "high")
    assert finding["evidence"]["username"] == "somebody"
    words = shlex.split(next(one["text"] for one in finding["remediation"] if one["way"] == 1))
    assert words[:3] == ["aws", "secretsmanager", "update-secret-version-stage"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    database.client.update_secret_version_stage(
        SecretId=options["--secret-id"],
        VersionStage=options["--version-stage"],
        MoveToVersionId=options["--move-to-version-id"],
        RemoveFromVersionId=options["--remove-from-version-id"],
    )
    assert database.value(secret) == right
    assert findings(database, "finding_b") == []


def findings(database: Scheduled, user: str) -> list[dict[str, Any]]:
    """Audit the database, and return what it finds about a user's secret."""
    answer = database.account.invoke("AuditFunction", {"databases": [database.arn]})
    bucket, _, key = answer["reports"]["json"].removeprefix("s3://").partition("/")
    body = database.account.cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return [one for one in json.loads(body)["findings"] if one["user"] == user and "secret" in one["evidence"]]


def test_planted_secrets_are_never_chosen_and_no_password_is_set(database, tenant):
    """Neither tags nor values choose a secret: if the owner's secret is tagged, is not tagged, or doesn't exist."""
    user = "legacy_etl"
    password = database.make_user(user)
    if database.postgres:
        with database.account.as_master(database.arn) as master:
            master.run(f"GRANT {user} TO rdsiam_manager WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
    database.rotate(user)
    database.account.onboard(database.arn)  # ends the rotations of other tests, so that nothing is left to change
    planted = tenant.create_secret(
        Name=f"tenant-b/{database.identifier}-planted",
        SecretString=value_for(database, user, "what-mallory-chose"),
        Tags=[MANAGED, INITIAL, {"Key": "rdsiam:unset", "Value": "true"}],
    )["ARN"]

    def nothing_happens() -> None:
        for answer in (
            database.account.onboard(database.arn),
            database.ask({"database": database.arn, "user": user, "confirm": True}),
            database.ask({"database": database.arn, "confirm": True}),
        ):
            assert answer["status"] == "refused", answer
        assert not database.logs_in(user, "what-mallory-chose")
        assert database.logs_in(user, password)
        assert recorded_secret(database.account, database.arn, user) is None
        assert not database.describe(planted).get("RotationEnabled")

    nothing_happens()
    owners = database.put(user, password, tagged=False)
    nothing_happens()
    database.client.tag_resource(SecretId=owners, Tags=[MANAGED])
    nothing_happens()

    # What is confirmed is the ARN that was shown; of one that was swapped for it meanwhile nothing is taken.
    shown = database.ask({"database": database.arn, "user": user})
    assert sorted(shown["secrets"][0]["candidates"]) == sorted([planted, owners])
    wrong = database.ask({"database": database.arn, "user": user, "secret": planted, "confirm": True})
    assert (wrong["status"], "does not log in" in wrong["reason"]) == ("refused", True)
    swapped = database.ask({"database": database.arn, "user": user, "secret": owners[:-6] + "AbCdEf", "confirm": True})
    assert swapped["status"] == "refused"
    unconfirmed = database.ask({"database": database.arn, "user": user, "secret": owners})
    assert "--secret" in unconfirmed["remedy"]
    taken = database.ask({"database": database.arn, "user": user, "secret": owners, "confirm": True})
    assert taken["status"] == "written", taken
    record = recorded_secret(database.account, database.arn, user)
    assert record is not None
    assert (record.arn, record.state) == (owners, "ready")
    assert database.logs_in(user, password)
    database.wait_until_nothing_is_pending(owners)
    tenant.delete_secret(SecretId=planted, ForceDeleteWithoutRecovery=True)


def test_a_secret_of_another_owner_under_the_prefix_is_not_taken_over(database, tenant):
    user = "squatted"
    password = database.make_user(user)
    if database.postgres:
        with database.account.as_master(database.arn) as master:
            master.run(f"GRANT {user} TO rdsiam_manager WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
    database.rotate(user)
    database.account.onboard(database.arn)  # ends the rotations of other tests, so that nothing is left to change
    squat = tenant.create_secret(
        Name=f"rdsiam/{database.identifier}/{user}",
        SecretString=json.dumps({"username": "nobody", "password": "what-mallory-chose"}),
        Tags=[MANAGED, INITIAL],
    )["ARN"]
    answer = database.ask({"database": database.arn, "user": user, "confirm": True})
    assert answer["status"] == "refused"
    assert "rdsiam did not create, and it is not taken over" in answer["reason"]
    tenant.put_secret_value(SecretId=squat, SecretString=value_for(database, user, "what-mallory-chose"))
    assert database.account.onboard(database.arn)["status"] == "refused"
    assert not database.logs_in(user, "what-mallory-chose")
    assert database.logs_in(user, password)
    assert recorded_secret(database.account, database.arn, user) is None
    tenant.delete_secret(SecretId=squat, ForceDeleteWithoutRecovery=True)


def test_a_record_of_a_database_that_had_the_name_before_gives_no_rotation(database):
    secret = database.with_secret("reborn", alone=True)
    password = database.value(secret)["password"]
    record_secret(database.account, database.arn, "reborn", secret, resource_id="db-BEFORE")
    database.client.rotate_secret(SecretId=secret)
    assert "is recorded for another database that was named" in failure(database, secret)
    assert database.logs_in("reborn", password)


def test_an_undeclared_rotation_is_listed_with_its_line_and_left_alone_in_an_emergency(database, tenant):
    account = database.account
    name = "by_hand"
    secret = tenant.create_secret(
        Name=f"tenant-b/{database.identifier}-by-hand",
        SecretString=value_for(database, name, database.make_user(name)),
    )["ARN"]
    tenant.rotate_secret(
        SecretId=secret,
        RotationLambdaARN=account.cloud.outputs["RotateFunction"],
        RotationRules={"AutomaticallyAfterDays": 30},
        RotateImmediately=False,
    )
    line = f'rotate: {{users: ["{name}"], every: 30d, secret: "{secret}"}}'
    listed = account.rdsiam("rotate", "list", "--database", database.identifier)
    assert listed.returncode == 3
    assert line in listed.stderr
    (row,) = [row for row in listed.stdout.splitlines() if f"{database.identifier}-by-hand" in row]
    assert "refused" in row.split()
    before = tenant.get_secret_value(SecretId=secret)["SecretString"]
    ended = account.rdsiam(
        "rotate", "all", "--reason", "leak", "--database", database.identifier, "--wait", "15", "--output", "json"
    )
    assert ended.returncode == 7, ended.stderr
    found = {one["secret"]: one for one in json.loads(ended.stdout)["secrets"]}
    assert (found[secret]["rotated"], found[secret]["problem"][:12]) == (0, "not recorded")
    assert tenant.get_secret_value(SecretId=secret)["SecretString"] == before
    tenant.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)


def test_no_other_function_records_a_secret(database):
    account = database.account
    account.invoke("MigrateFunction", {"status": True})
    table = account.cloud.outputs["InventoryTable"]
    for credentials in (account.credentials_of("MigrateFunction"), None):
        with pytest.raises(ClientError, match="explicit deny"):
            account.cloud.client("dynamodb", credentials).update_item(
                TableName=table,
                Key={"database": {"S": database.arn}},
                UpdateExpression="SET #secrets.#user = :record",
                ExpressionAttributeNames={"#secrets": "secrets", "#user": "team_b"},
                ExpressionAttributeValues={":record": {"M": {"arn": {"S": "arn:planted"}}}},
            )
