"""A user leaves its password behind: paired, proven, watched, retired, and back from each of these; both engines."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from rdsiam.events.migrate import MigrateRequest
from rdsiam.migration.results import StepResult
from rdsiam.migration.steps import Migrating
from tests.integration.account import until
from tests.integration.migration.app import PASSWORD, App, Pool, as_the_function
from tests.integration.onboarding.test_killed import load
from tests.kinds import MYSQL_EXHAUSTIVE, OLDER_EXHAUSTIVE

pytestmark = pytest.mark.exhaustive_on("mariadb")

ARN = "arn:aws:rds:eu-west-1:123456789012:db:orders"


@pytest.fixture(scope="module", params=["postgres", OLDER_EXHAUSTIVE, "mariadb", MYSQL_EXHAUSTIVE])
def engine(request) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def arn(account, engine) -> Iterator[str]:
    identifier = f"migrate-{engine}"
    account.declare(identifier, {"name": "other", "privileges": "readonly", "on": ["shop"]})
    arn: str = account.create(identifier, engine)
    account.wait_onboarded(arn)
    yield arn
    account.declare(identifier)
    account.cloud.client("rds").delete_db_instance(DBInstanceIdentifier=identifier, SkipFinalSnapshot=True)
    until(lambda: account.record(arn) is None, 60)


@pytest.fixture
def app(account, arn) -> Iterator[App]:
    app = App(account, arn)
    yield app
    app.leave()


@pytest.fixture(scope="module")
def never_migrated(account, arn) -> Iterator[App]:
    app = App(account, arn)
    yield app
    app.leave()


@pytest.fixture
def untouched(never_migrated) -> Iterator[App]:
    """Return a user whose migration is planned or refused only, and that has no successor before and after a test."""
    yield never_migrated
    never_migrated.declare(replaced=False)


@pytest.fixture(scope="module")
def retired(account, arn) -> Iterator[tuple[App, dict[str, Any], str]]:
    """Return a user that was migrated, the answer, and the secret of somebody else that claims to be the user's."""
    app = App(account, arn)
    secrets_manager = account.cloud.client("secretsmanager")
    planted = secrets_manager.create_secret(
        Name=f"planted/{app.name}-{app.engine}",
        SecretString=secrets_manager.get_secret_value(SecretId=app.secret)["SecretString"],
        Tags=[{"Key": "rdsiam:managed", "Value": "true"}],
    )["ARN"]
    app.declare()
    yield app, app.migrate(watch="1s"), planted
    secrets_manager.delete_secret(SecretId=planted, ForceDeleteWithoutRecovery=True)
    app.leave()


def test_no_query_fails_during_a_migration_and_its_undo_restores_the_beginning(app):
    before = app.dump()
    app.declare()
    with Pool(app.account, app.arn, app.name, PASSWORD, f"of_{app.name}") as old:
        app.start(watch="4s")
        watched = app.wait("watching")
        until(lambda: app.kept()["watch"]["observations"] > 2, 60)
        assert [one["state"] for one in watched["history"]] == ["paired", "proven", "watching"]
        assert old.failed == []
    clients = app.kept()["watch"]["clients"]
    assert sum(one["sessions"] for one in clients) == 10
    assert all(one["application"] == "shop" if app.postgres else one["address"] for one in clients), clients
    with Pool(app.account, app.arn, app.successor, app.token(), f"of_{app.name}") as new:
        kept = app.wait("retired")
        assert not app.logs_in()
        until(lambda: app.secret_state().get("DeletedDate"), 30)
        with app.account.connect(app.arn, app.successor, app.token()) as session:
            session.run(f"ALTER TABLE of_{app.name} ADD COLUMN more int")
            session.run(f"ALTER TABLE of_{app.name} DROP COLUMN more")
        assert new.failed == []
        assert new.queries > 0
    assert old.failed == []
    assert kept["history"][-1]["done"]
    until(lambda: app.migrate()["status"] == "unchanged", 30)

    undone = app.migrate(undo=True)
    assert undone["status"] == "undone", undone
    assert "stays while access.yaml declares it" in undone["reason"]
    assert ("publish, and undo again" in undone["remedy"], undone["incomplete"]) == (True, [])
    assert app.logs_in()
    assert "DeletedDate" not in app.secret_state()
    app.declare(replaced=False)
    assert app.migrate(undo=True)["status"] == "undone"
    assert app.kept() is None
    assert app.dump() == before
    app.account.onboard(app.arn)
    assert app.account.onboard(app.arn)["status"] == "unchanged"


def test_without_a_declared_successor_the_refusal_has_the_lines_to_add(untouched):
    app = untouched
    refused = app.migrate()
    assert (refused["status"], refused["changes"]) == ("refused", [])
    assert refused["reason"] == f"access.yaml declares no successor of {app.name}"
    lines = yaml.safe_load(refused["remedy"].partition("\n")[2])
    assert lines == [
        {
            "match": {"identifier": app.identifier},
            "users": [{"name": app.successor, "replaces": app.name, "roles": []}],
        }
    ]
    assert app.migrate(in_place=True)["remedy"].count(f'name: "{app.name}"') == 1


def test_a_plan_shows_all_statements_and_changes_nothing(untouched):
    app = untouched
    before = app.dump()
    app.declare()
    planned = app.migrate(plan=True)
    assert planned["status"] == "planned", planned
    kinds = [one["kind"] for one in planned["changes"]]
    assert kinds[0] == "create-user"
    assert kinds[-3:] == ["disable-user", "end-sessions", "secret"]
    assert app.dump() == before
    assert app.kept() is None
    assert "DeletedDate" not in app.secret_state()


def test_an_undo_during_the_watching_ends_it_and_drops_a_successor_in_use_only_with_a_confirmation(app):
    before = app.dump()
    app.declare()
    app.start(watch="1h")
    app.wait("watching")
    running = app.migrate(watch="1h")
    assert running["status"] == "running", running
    assert "is watching, until" in running["reason"]
    planned = app.migrate(undo=True, plan=True)
    assert planned["status"] == "planned"
    app.declare(replaced=False)
    assert [one["kind"] for one in app.migrate(undo=True, plan=True)["changes"]][-1] == "drop-user"
    with app.account.connect(app.arn, app.successor, app.token()) as session:
        session.run("SELECT 1")
        undone = app.migrate(undo=True)
        assert undone["status"] == "undone", undone
        assert (undone["code"], "has 1 session" in undone["reason"]) == ("needs-confirmation", True)
        assert [(part["what"], "--confirm" in part["remedy"]) for part in undone["incomplete"]] == [
            (app.successor, True)
        ]
        session.run("SELECT 1")
        assert app.migrate(undo=True, confirm=True)["reason"] == ""
    assert app.dump() == before
    assert app.kept() is None
    for plan in ({}, {"plan": True}):
        again = app.migrate(undo=True, **plan)
        assert (again["status"], again["changes"]) == ("unchanged", [])
        assert "there is no migration of" in again["reason"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("state", ["paired", "proven"])
def test_an_undo_of_every_earlier_state_restores_the_beginning(app, state):
    before = app.dump()
    app.declare()
    app.account.onboard(app.arn)
    with as_the_function(app.account):
        run = Migrating(load("migrate")._services(), MigrateRequest(app.arn, app.name), uuid.uuid4().hex)
        run.continue_from(run.begin())
        assert run.record_pairing(()) == StepResult()
        if state == "proven":
            run.prove()
    assert app.kept()["state"] == state
    app.declare(replaced=False)
    assert app.migrate(undo=True)["status"] == "undone"
    assert app.dump() == before


def test_in_place_the_password_ends_at_once(app):
    before = app.dump()
    app.account.declare(
        app.identifier,
        *app.account.entries[app.identifier]["users"],
        {"name": app.name, "replaces": app.name, "roles": [app.role]},
    )
    refused = app.migrate()
    assert (refused["code"], "say --in-place" in refused["remedy"]) == ("successor-not-declared", True)
    assert ("no way back" in app.migrate(in_place=True, plan=True)["reason"]) == (not app.postgres)
    retired = app.migrate(in_place=True)
    assert retired["status"] == "retired", retired
    assert app.account.refused(app.arn, app.name, PASSWORD)
    with app.account.connect(app.arn, app.name, app.token(app.name)) as session:
        session.run(f"ALTER TABLE of_{app.name} ADD COLUMN more int")
        session.run(f"ALTER TABLE of_{app.name} DROP COLUMN more")
    assert app.secret_state().get("DeletedDate")
    undone = app.migrate(undo=True)
    users = [one for one in app.account.entries[app.identifier]["users"] if one["name"] != app.name]
    app.account.declare(app.identifier, *users)
    if app.postgres:
        assert undone["status"] == "undone", undone
        assert f"take {app.name} out of access.yaml" in undone["remedy"]
        assert app.account.onboard(app.arn)["status"] in {"onboarded", "unchanged"}
        assert app.dump() == before
        assert app.logs_in()
    else:
        assert undone["status"] == "refused"
        assert "has not kept the password" in undone["reason"]


def test_a_secret_that_rotates_stops_and_rotates_again_after_the_undo(app):
    secrets_manager = app.account.cloud.client("secretsmanager")
    key = app.account.cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
    secrets_manager.update_secret(SecretId=app.secret, KmsKeyId=key)
    secrets_manager.rotate_secret(
        SecretId=app.secret,
        RotationLambdaARN=app.account.cloud.outputs["RotateFunction"],
        RotationRules={"AutomaticallyAfterDays": 30},
        RotateImmediately=False,
    )
    app.declare()
    assert app.migrate(watch="1s")["status"] == "retired"
    assert app.secret_state().get("DeletedDate")
    assert not app.secret_state()["RotationEnabled"]
    assert app.migrate(undo=True)["status"] == "undone"
    assert app.secret_state()["RotationEnabled"]
    assert app.secret_state()["RotationRules"] == {"AutomaticallyAfterDays": 30}


def test_a_secret_that_only_claims_to_be_the_users_is_left_alone_and_named(retired):
    app, answer, planted = retired
    assert answer["status"] == "retired"
    assert [(part["what"], part["retry"]) for part in answer["incomplete"]] == [(planted, False)]
    assert "delete it yourself" in answer["incomplete"][0]["remedy"]
    assert app.secret_state().get("DeletedDate")
    assert "DeletedDate" not in app.account.cloud.client("secretsmanager").describe_secret(SecretId=planted)
    assert any(planted in line for line in app.kept()["history"][-1]["done"])


def test_a_secret_without_the_tag_stays_and_is_reported(app):
    app.account.cloud.client("secretsmanager").untag_resource(SecretId=app.secret, TagKeys=["rdsiam:managed"])
    app.declare()
    assert app.migrate(watch="1s")["status"] == "retired"
    assert "DeletedDate" not in app.secret_state()
    assert "rdsiam:managed=true" in app.kept()["history"][-1]["done"][-1]


def test_an_alternating_user_is_not_migrated_while_its_clone_logs_in(untouched):
    app = untouched
    clone = f"{app.name}_clone"
    named = clone if app.postgres else f"{clone}@'%'"
    password = f"LOGIN PASSWORD '{PASSWORD}'" if app.postgres else f"IDENTIFIED BY '{PASSWORD}'"
    app.declare()
    with app.account.as_master(app.arn) as master:
        master.run(f"{'CREATE ROLE' if app.postgres else 'CREATE USER'} {named} {password}")
        for options in ({"plan": True}, {"watch": "1s"}):
            answer = app.migrate(**options)
            assert (answer["status"], f"its clone {clone} logs in by password" in answer["reason"]) == ("refused", True)
        assert app.logs_in()
        master.run(f"{'DROP ROLE' if app.postgres else 'DROP USER'} {named}")
    assert app.migrate(plan=True)["status"] == "planned"


def test_the_audit_shows_the_migration_and_has_no_finding_about_both_users(retired):
    app, migrated, _ = retired
    assert migrated["status"] == "retired"
    answer = app.account.invoke("AuditFunction", {"databases": [app.arn]})
    place = answer["reports"]["json"].removeprefix("s3://").partition("/")
    body = app.account.cloud.client("s3").get_object(Bucket=place[0], Key=place[2])["Body"].read()
    report = json.loads(body)
    assert [one for one in report["findings"] if one["user"] and app.name in one["user"]] == []
    mine = [one for one in report["databases"][0]["migrations"] if one["user"] == app.name]
    assert [(one["successor"], one["state"]) for one in mine] == [(app.successor, "retired")]
    assert report["summary"]["migrations"]["retired"] >= 1


@pytest.mark.parametrize(
    "engine", ["mariadb", MYSQL_EXHAUSTIVE], indirect=True
)  # on PostgreSQL a member has them at once
def test_the_audit_reports_later_rights_of_the_user_until_onboarding(app, engine):
    app.declare()
    app.account.onboard(app.arn)
    with app.account.as_master(app.arn) as master:
        master.run(f"GRANT TRIGGER ON shop.* TO {app.name}@'%'")
    answer = app.account.invoke("AuditFunction", {"databases": [app.arn]})
    place = answer["reports"]["json"].removeprefix("s3://").partition("/")
    found = json.loads(app.account.cloud.client("s3").get_object(Bucket=place[0], Key=place[2])["Body"].read())
    differ = [one for one in found["findings"] if one["kind"] == "privileges-differ"]
    assert [one["evidence"]["lacking"] for one in differ] == [[{"on": "shop", "privileges": ["TRIGGER"]}]]
    assert [step["text"] for step in differ[0]["remediation"]] == [f"rdsiam onboard {app.arn}"]


def test_a_migration_on_a_missing_cluster_is_refused(account, engine):
    missing = f"arn:aws:rds:{account.cloud.region}:{account.cloud.account}:cluster:migrate-nowhere-{engine}"
    answer = account.invoke("MigrateFunction", {"database": missing, "user": "app"})
    assert answer["status"] == "refused"


def test_only_operators_may_migrate(account, engine):
    role = account.make_role(f"migrate-stranger-{engine}")
    account.cloud.client("iam").attach_role_policy(
        RoleName=f"migrate-stranger-{engine}", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"
    )
    name = account.cloud.functions["MigrateFunction"]
    for one in (name, f"{name.partition(':')[0]}:$LATEST"):
        with pytest.raises(ClientError, match="not authorized to perform: lambda:InvokeFunction"):
            account.cloud.client("lambda", account.assume(role)).invoke(FunctionName=one, Payload=b"{}")


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({}, "database"),
        ({"user": "x"}, "database"),
        ({"status": 1}, "status"),
        ({"database": ARN, "user": "x", "watch": "0d"}, "watch"),
    ],
)
def test_a_malformed_request_is_named(account, event, field):
    assert f"{field}: " in account.invoke("MigrateFunction", event)["errorMessage"]
