"""Every function with every event of `events/`, in containers, as `sam local` runs them.

Each function is run once by `sam local invoke`; its other events go through `sam local start-lambda`.
One database goes its way: planned, onboarded, onboarded again, a token vended, deleted. The tests run in this order.
"""

import json

import pytest

from localcloud.aws.expand import read
from tests.integration.account import until
from tests.sam.builds import ROOT
from tests.sam.local import EVENTS, post

ARN = "arn:aws:rds:eu-west-1:123456789012:db:orders-1"
#: Which function an event is for, in the order of the tests.
FUNCTION_OF = {
    "onboard-plan.json": "OnboardFunction",
    "policy-plan.json": "PolicyFunction",
    "database-created.json": "EventsFunction",
    "onboard.json": "OnboardFunction",
    "policy.json": "PolicyFunction",
    "tokens-post.json": "VendFunction",
    "tokens-oidc-post.json": "VendFunction",
    "databases-get.json": "ReportsFunction",
    "decisions-get.json": "ReportsFunction",
    "openapi-get.json": "ReportsFunction",
    "revoke-plan.json": "OnboardFunction",
    "revoke.json": "OnboardFunction",
    "revoke-lift.json": "OnboardFunction",
    "audit.json": "AuditFunction",
    "audit-databases.json": "AuditFunction",
    "audit-remediate.json": "AuditFunction",
    "audit-schedule.json": "EventsFunction",
    "reconcile-schedule.json": "EventsFunction",
    "audit-batch.json": "AuditBatchFunction",
    "audits-get.json": "ReportsFunction",
    "audits-id-get.json": "ReportsFunction",
    "migrate-plan.json": "MigrateFunction",
    "migrate-status.json": "MigrateFunction",
    "migrate-undo.json": "MigrateFunction",
    "database-started.json": "EventsFunction",
    "onboard-confirm.json": "OnboardFunction",
    "reconcile-plan.json": "OnboardFunction",
    "reconcile.json": "OnboardFunction",
    "access-changed.json": "EventsFunction",
    "cluster-created.json": "EventsFunction",
    "cluster-writer-created.json": "EventsFunction",
    "cluster-started.json": "EventsFunction",
    "cluster-deleted.json": "EventsFunction",
    "database-restored.json": "EventsFunction",
    "database-restored-to-time.json": "EventsFunction",
    "replica-created.json": "EventsFunction",
    "proxy-created.json": "EventsFunction",
    "proxy-modified.json": "EventsFunction",
    "proxy-deleted.json": "EventsFunction",
    "database-deleted.json": "EventsFunction",
    "cluster-renamed.json": "EventsFunction",
    "cluster-switched-over.json": "EventsFunction",
    "cluster-upgraded.json": "EventsFunction",
    "database-upgraded.json": "EventsFunction",
    "instance-switched-over.json": "EventsFunction",
    "memory-low.json": "EventsFunction",
    "password-reset.json": "EventsFunction",
    "replica-detached.json": "EventsFunction",
    "replica-promoted.json": "EventsFunction",
    "rotate-create.json": "RotateFunction",
    "rotate-set.json": "RotateFunction",
    "rotate-test.json": "RotateFunction",
    "rotate-finish.json": "RotateFunction",
    "secrets-plan.json": "SecretsFunction",
    "secrets-confirm.json": "SecretsFunction",
    "secrets-list.json": "SecretsFunction",
    "secrets-rotate.json": "SecretsFunction",
    "secrets-unstick.json": "SecretsFunction",
    "secrets-sessions.json": "SecretsFunction",
}


@pytest.fixture(scope="module")
def role(local):
    """Return a role that may sign for app_service on orders-1, and one that may ask for tokens."""
    role, caller = local.account.make_role("orders-app"), local.account.make_role("ci-runner")
    user = {"name": "app_service", "privileges": "readwrite", "on": ["shop"]}
    local.account.auditors.append({"role": caller})
    local.account.declare("orders-1", user | {"roles": [role], "callers": [{"role": caller}]})
    return role


def invoke(local, event):
    return local.invoke(FUNCTION_OF[event], EVENTS / event)


def invoke_warm(local, event):
    return local.invoke_warm(FUNCTION_OF[event], EVENTS / event)


def attached(local, role):
    iam = local.account.cloud.client("iam")
    return iam.list_attached_role_policies(RoleName=role.split("/")[-1])["AttachedPolicies"]


def test_every_event_is_invoked_here_and_every_function_has_one():
    assert {path.name for path in EVENTS.iterdir()} == set(FUNCTION_OF)
    resources = read(ROOT / "template.yaml")["Resources"]
    functions = {key for key, each in resources.items() if each["Type"] == "AWS::Serverless::Function"}
    assert functions == set(FUNCTION_OF.values())


def test_a_planned_onboarding_says_what_it_would_do_and_does_nothing(local, role):
    answer = invoke_warm(local, "onboard-plan.json")
    assert (answer["status"], answer["database"]) == ("planned", ARN)
    kinds = {change["kind"] for change in answer["changes"]}
    assert kinds >= {"enable-iam-authentication", "create-user", "create-policy", "attach-policy"}
    assert not local.account.describe(ARN)["IAMDatabaseAuthenticationEnabled"]
    assert local.account.record(ARN) is None


def test_planned_policies_are_not_written(local, role):
    answer = invoke(local, "policy-plan.json")
    assert answer["status"] == "planned"
    assert {change["kind"] for change in answer["changes"]} == {"create-policy", "attach-policy"}
    assert attached(local, role) == []


def test_a_created_database_is_onboarded_from_inside_containers(local, role):
    answer = invoke(local, "onboard.json")
    assert answer["status"] == "onboarded", answer
    assert answer["proofs"] == [{"user": "app_service", "token_login": True, "password_refused": True}]
    assert attached(local, role)
    token = local.account.token(ARN, "app_service", local.account.assume(role))
    with local.account.connect(ARN, "app_service", token) as session:
        assert session.run("SELECT current_user") == [("app_service",)]


def test_a_second_onboarding_changes_nothing(local, role):
    answer = invoke_warm(local, "onboard.json")
    assert (answer["status"], answer["changes"]) == ("unchanged", [])


def test_a_migration_of_somebody_who_is_not_there_is_refused(local, role):
    answer = invoke(local, "migrate-plan.json")
    assert (answer["status"], answer["code"], answer["changes"]) == ("refused", "user-missing", [])
    assert invoke_warm(local, "migrate-undo.json")["status"] == "unchanged"
    assert invoke_warm(local, "migrate-status.json")["migrations"] == []


@pytest.mark.parametrize("event", ["onboard-confirm.json"])
def test_whatever_starts_it_an_onboarding_of_what_is_in_order_changes_nothing(local, role, event):
    answer = invoke_warm(local, event)
    assert (answer["status"], answer["changes"]) == ("unchanged", [])


@pytest.mark.parametrize("event", ["reconcile-plan.json", "reconcile.json"])
def test_a_reconcile_starts_nothing_where_all_is_in_order(local, role, event):
    assert invoke_warm(local, event) == {"started": [], "unchanged": 1}


def test_policies_that_are_there_are_left_alone(local, role):
    answer = invoke_warm(local, "policy.json")
    assert (answer["status"], answer["changes"]) == ("unchanged", [])


def test_a_vended_token_logs_in(local, role):
    answer = invoke(local, "tokens-post.json")
    assert answer["statusCode"] == 200, answer
    token = json.loads(answer["body"])
    assert (token["user"], token["database"]) == ("app_service", ARN)
    with local.account.connect(ARN, "app_service", token["token"]) as session:
        assert session.run("SELECT current_user") == [("app_service",)]


def test_start_api_has_no_authorizer_and_so_gives_no_token(local, role):
    body = json.loads((EVENTS / "tokens-post.json").read_text())["body"]
    with local.serve("start-api") as url:
        answers = [post(f"{url}/tokens", body), post(f"{url}/tokens", "{")]
    assert [(status, problem["code"]) for status, problem in answers] == [(403, "not-allowed"), (400, "malformed")]
    assert not any("token" in problem for _, problem in answers)


def test_without_an_issuer_no_jwt_gets_a_token(local, role):
    answer = invoke_warm(local, "tokens-oidc-post.json")
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (403, "not-allowed")


def test_a_caller_is_told_of_databases_and_decisions_and_of_the_api(local, role):
    answers = [invoke(local, "databases-get.json")]
    answers += [invoke_warm(local, event) for event in ("decisions-get.json", "openapi-get.json")]
    databases, decisions, description = (json.loads(answer["body"]) for answer in answers)
    assert [(one["arn"], one["users"]) for one in databases["databases"]] == [(ARN, ["app_service"])]
    assert "allowed" in [one["outcome"] for one in decisions["decisions"]]
    assert description["openapi"] == "3.1.0"


def test_a_revoked_user_is_locked_until_that_is_lifted(local, role):
    assert invoke_warm(local, "revoke-plan.json")["status"] == "planned"
    assert invoke_warm(local, "revoke.json")["status"] == "revoked"
    token = local.account.token(ARN, "app_service", local.account.assume(role))
    assert local.account.refused(ARN, "app_service", token)
    assert invoke_warm(local, "revoke-lift.json")["status"] == "onboarded"
    local.account.connect(ARN, "app_service", token).close()


@pytest.mark.parametrize("event", ["audit.json", "audit-databases.json"])
def test_an_audit_reads_the_database_from_inside_a_container(local, role, event):
    answer = invoke(local, event)
    assert (answer["databases"], answer["audited"], answer["unreachable"]) == (1, 1, 0)


def test_a_batch_of_an_audit_that_nobody_began_is_an_error(local, role):
    assert "NoSuchKey" in invoke_warm(local, "audit-batch.json")["errorMessage"]


def test_past_audits_are_listed_and_one_that_never_was_is_not_found(local, role):
    answer = invoke(local, "audits-get.json")
    assert answer["statusCode"] == 200, answer
    assert len(json.loads(answer["body"])["audits"]) == 2
    assert invoke_warm(local, "audits-id-get.json")["statusCode"] == 404


@pytest.mark.parametrize("step", ["create", "set", "test", "finish"])
def test_a_step_of_a_rotation_of_no_secret_fails_with_its_cause(local, role, step):
    run = invoke if step == "create" else invoke_warm
    answer = run(local, f"rotate-{step}.json")
    assert answer["errorType"] == "RotationFailed", answer
    assert f"{step}Secret of arn:aws:secretsmanager" in answer["errorMessage"]


def test_schedules_of_rotations_are_looked_at_from_inside_a_container(local, role):
    answer = invoke(local, "secrets-plan.json")
    assert (answer["status"], answer["changes"], answer["secrets"]) == ("unchanged", [], [])
    assert invoke_warm(local, "secrets-list.json") == {"secrets": [], "skipped": 0}
    refused = invoke_warm(local, "secrets-confirm.json")
    assert (refused["status"], refused["changes"]) == ("refused", [])
    assert "access.yaml has no `rotate` for legacy_etl" in refused["reason"]


@pytest.mark.parametrize("action", ["rotate", "unstick", "sessions"])
def test_a_secret_that_nobody_rotates_is_refused(local, role, action):
    assert invoke_warm(local, f"secrets-{action}.json")["errorType"] == "Refused"


def test_a_deleted_database_is_forgotten_with_its_policies(local, role):
    local.account.cloud.client("rds").delete_db_instance(DBInstanceIdentifier="orders-1", SkipFinalSnapshot=True)
    until(lambda: not local.account.cloud.client("rds").describe_db_instances()["DBInstances"], 60)
    answer = invoke_warm(local, "onboard.json")
    assert answer["status"] == "ignored", answer
    assert local.account.record(ARN) is None
    assert attached(local, role) == []


def test_sam_clis_own_emulator_runs_a_durable_function_that_invokes_no_other(local, tmp_path):
    arn = local.account.create("oracle-1", "oracle-ee", DBName="ORCL", LicenseModel="bring-your-own-license")
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"database": arn}))
    answer = local.invoke("OnboardFunction", event, own_emulator=True)
    assert (answer["status"], answer["changes"]) == ("ignored", [])
    assert "oracle-ee" in answer["reason"]


@pytest.mark.parametrize("event", [name for name, function in FUNCTION_OF.items() if function == "EventsFunction"])
def test_an_event_starts_an_execution_of_its_own_name(local, role, event):
    sent = json.loads((EVENTS / event).read_text())
    answer = invoke_warm(local, event)
    if event == "access-changed.json":  # of another bucket than this cloud's
        assert answer["errorType"] == "InvalidRequest"
    else:
        assert answer == {"execution": f"event-{sent['id']}"}
