"""The judge decides as IAM does, on the policies that moto keeps for a user or a session."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import boto3
import pytest
from moto import mock_aws

from localcloud.iam.judge import Judge, Policy, Request
from localcloud.iam.judge.install import install
from localcloud.iam.principals import Principals, secret_of

ACCOUNT = "123456789012"
RESOURCE = f"arn:aws:rds-db:eu-west-1:{ACCOUNT}:dbuser:db-ABC/app"
OTHER = f"arn:aws:rds-db:eu-west-1:{ACCOUNT}:dbuser:db-ABC/other"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/team/app"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/app/session"


@pytest.fixture(scope="module")
def judge():
    install()
    judge = Judge()
    yield judge
    judge.close()


def policy(*resources, effect="Allow", action="rds-db:connect", name="p", **more):
    statement = {"Sid": "S", "Effect": effect, "Action": action, "Resource": list(resources), **more}
    return Policy(name, {"Version": "2012-10-17", "Statement": [statement]})


def ask(judge, *identity, **more):
    asked = Request(SESSION, "rds-db:connect", RESOURCE, ACCOUNT, identity_policies=identity)
    return judge.decide(replace(asked, **more))


def test_nothing_is_allowed_without_a_policy(judge):
    assert not ask(judge).allowed


def test_an_identity_policy_allows_and_is_named(judge):
    decision = ask(judge, policy(RESOURCE))

    assert decision.allowed
    assert decision.statements == ("identity:p#S",)


@pytest.mark.parametrize("wrong", [OTHER, RESOURCE.replace("db-ABC", "db-XYZ"), RESOURCE.replace("rds-db", "rds")])
def test_a_policy_for_another_resource_does_not(judge, wrong):
    assert not ask(judge, policy(wrong)).allowed


def test_a_deny_wins(judge):
    decision = ask(judge, policy("*"), policy(RESOURCE, effect="Deny", name="d"))

    assert decision.result == "ExplicitlyDenied"
    assert decision.statements == ("identity:d#S",)


def test_a_session_policy_narrows(judge):
    assert not ask(judge, policy("*"), session_policies=[policy(OTHER)]).allowed
    assert ask(judge, policy("*"), session_policies=[policy(OTHER), policy(RESOURCE)]).allowed


def test_a_session_policy_alone_gives_nothing(judge):
    assert not ask(judge, session_policies=[policy(RESOURCE)]).allowed


def test_a_boundary_narrows(judge):
    assert not ask(judge, policy("*"), permission_boundaries=[policy(OTHER)]).allowed
    assert ask(judge, policy("*"), permission_boundaries=[policy(RESOURCE)]).allowed


def test_conditions_are_evaluated(judge):
    only_admins = policy("*", Condition={"StringEquals": {"aws:PrincipalArn": ROLE}})

    assert ask(judge, only_admins, context={"aws:PrincipalArn": ROLE}).allowed
    assert not ask(judge, only_admins, context={"aws:PrincipalArn": ROLE + "2"}).allowed


def test_a_trust_policy_takes_part_as_the_resources(judge):
    trust = Policy(
        "trust",
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "sts:AssumeRole"}],
        },
    )
    asked = {"action": "sts:AssumeRole", "resource": f"arn:aws:iam::{ACCOUNT}:role/connect"}

    assert ask(judge, resource_policy=trust, context={"aws:PrincipalArn": ROLE}, **asked).allowed
    assert not ask(judge, resource_policy=trust, **asked | {"principal": SESSION.replace("/app/", "/x/")}).allowed


def test_an_action_without_resources_is_judged_on_all(judge):
    listing = policy("*", action="s3:ListAllMyBuckets")

    assert ask(judge, listing, action="s3:ListAllMyBuckets", resource="arn:aws:s3:::any").allowed


def test_an_invalid_policy_allows_nothing(judge):
    decision = ask(judge, policy("*"), policy("*", effect="Maybe", name="odd"))

    assert not decision.allowed
    assert decision.error is not None


def test_an_action_that_does_not_exist_is_not_allowed(judge):
    assert not ask(judge, policy("*", action="*"), action="rds-db:conect").allowed


def test_threads_get_their_own_answers(judge):
    resources = [RESOURCE, OTHER] * 50
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: ask(judge, policy(RESOURCE), resource=each).allowed, resources))

    assert answers == [each == RESOURCE for each in resources]


def test_an_engine_that_ended_is_started_again(judge):
    ask(judge)
    judge._process.kill()
    judge._process.wait()

    assert ask(judge, policy(RESOURCE, name="new")).statements == ("identity:new#S",)
    assert judge._process.poll() is None


def test_the_same_question_is_answered_without_the_engine(judge, monkeypatch):
    given = [policy(RESOURCE), policy(OTHER, effect="Deny")]
    first = ask(judge, *given, context={"aws:CurrentTime": "2026-01-01T00:00:00Z"})
    monkeypatch.setattr(judge, "_ask", lambda _: pytest.fail("the engine was asked again"))

    assert ask(judge, *given, context={"aws:CurrentTime": "2026-01-01T00:00:01Z"}) == first


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"principal": SESSION + "2"}, id="principal"),
        pytest.param({"action": "rds:DescribeDBInstances"}, id="action"),
        pytest.param({"resource": OTHER}, id="resource"),
        pytest.param({"resource_account": "210987654321"}, id="account"),
        pytest.param({"context": {"aws:PrincipalArn": ROLE}}, id="context"),
        pytest.param({"context": {"aws:TagKeys": ["a", "b"]}}, id="context with several values"),
        pytest.param({"identity_policies": [policy(RESOURCE, name="q")]}, id="name of a policy"),
        pytest.param({"identity_policies": [policy(RESOURCE, effect="Deny")]}, id="policy"),
        pytest.param({"session_policies": [policy(RESOURCE)]}, id="session policy"),
        pytest.param({"permission_boundaries": [policy(RESOURCE)]}, id="boundary"),
        pytest.param({"resource_policy": policy(RESOURCE)}, id="policy of the resource"),
    ],
)
def test_a_question_that_differs_is_asked(judge, monkeypatch, other):
    monkeypatch.setattr(judge, "_remembered", {})
    ask(judge, policy(RESOURCE))
    asked: list[str] = []

    def answer(line: str) -> dict[str, str]:
        asked.append(line)
        return {"result": "Allowed"}

    monkeypatch.setattr(judge, "_ask", answer)

    ask(judge, policy(RESOURCE), **other)

    assert len(asked) == 1


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param({"DateLessThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}, id="date"),
        pytest.param({"DateLessThan": {"AWS:currenttime": "2026-01-01T00:00:00Z"}}, id="in other letters"),
        pytest.param({"NumericLessThan": {"aws:EpochTime": "1767225600"}}, id="number"),
    ],
)
def test_a_policy_that_ends_is_judged_at_each_time(judge, condition):
    ends = policy(RESOURCE, Condition=condition)
    before = {"aws:CurrentTime": "2025-12-31T23:59:59Z", "aws:EpochTime": "1767225599"}
    after = {"aws:CurrentTime": "2026-01-01T00:00:01Z", "aws:EpochTime": "1767225601"}

    assert [ask(judge, ends, context=each).allowed for each in (before, after, before)] == [True, False, True]


def test_a_policy_with_an_escaped_name_of_the_time_is_judged_at_each_time(judge):
    text = json.dumps(
        policy(RESOURCE, Condition={"DateLessThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}).document
    )
    ends = Policy("p", text.replace("CurrentTime", "\\u0043urrentTime"))

    assert ask(judge, ends, context={"aws:CurrentTime": "2025-12-31T00:00:00Z"}).allowed
    assert not ask(judge, ends, context={"aws:CurrentTime": "2026-01-02T00:00:00Z"}).allowed


@pytest.fixture
def iam():
    with mock_aws():
        yield boto3.client("iam", region_name="eu-west-1")


def document(given):
    return json.dumps(given.document)


@pytest.fixture
def role(iam):
    return iam.create_role(RoleName="app", Path="/team/", AssumeRolePolicyDocument=document(policy("*")))["Role"]


def assume(role, **more):
    sts = boto3.client("sts", region_name="eu-west-1")
    keys = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="session", **more)["Credentials"]
    return secret_of(keys["AccessKeyId"]), keys


def test_a_session_is_known_by_its_key(iam, role):
    credential, keys = assume(role)

    assert credential is not None
    assert credential.principal_arn == SESSION
    assert credential.role_arn == ROLE
    assert credential.secret_key == keys["SecretAccessKey"]
    assert credential.session_token == keys["SessionToken"]
    assert abs((credential.expires - keys["Expiration"]).total_seconds()) < 2


def test_a_sessions_inline_managed_session_and_boundary_policies_bind(iam, role, judge):
    principals = Principals(judge)
    narrow, _ = assume(role, Policy=document(policy(OTHER)))
    credential, _ = assume(role)
    assert not principals.allows(credential, "rds-db:connect", RESOURCE, ACCOUNT)

    iam.put_role_policy(RoleName="app", PolicyName="inline", PolicyDocument=document(policy(RESOURCE)))
    assert principals.allows(credential, "rds-db:connect", RESOURCE, ACCOUNT)
    assert not principals.allows(credential, "rds-db:connect", OTHER, ACCOUNT)

    everything = iam.create_policy(PolicyName="all", PolicyDocument=document(policy("*")))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="app", PolicyArn=everything)
    assert principals.allows(credential, "rds-db:connect", OTHER, ACCOUNT)
    assert not principals.allows(narrow, "rds-db:connect", RESOURCE, ACCOUNT)

    boundary = iam.create_policy(PolicyName="boundary", PolicyDocument=document(policy(RESOURCE)))["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName="app", PermissionsBoundary=boundary)
    assert not principals.allows(credential, "rds-db:connect", OTHER, ACCOUNT)


def test_policies_of_aws_bind(monkeypatch, judge):
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
    with mock_aws():
        iam = boto3.client("iam", region_name="eu-west-1")
        iam.create_user(UserName="admin")
        iam.attach_user_policy(UserName="admin", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
        credential = secret_of(iam.create_access_key(UserName="admin")["AccessKey"]["AccessKeyId"])

        assert credential is not None
        assert Principals(judge).allows(credential, "rds-db:connect", RESOURCE, ACCOUNT)


def test_a_new_version_of_a_policy_binds_at_once(iam, role, judge):
    credential, _ = assume(role)
    arn = iam.create_policy(PolicyName="p", PolicyDocument=document(policy(OTHER)))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="app", PolicyArn=arn)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=document(policy(RESOURCE)), SetAsDefault=True)

    assert Principals(judge).allows(credential, "rds-db:connect", RESOURCE, ACCOUNT)
    assert not Principals(judge).allows(credential, "rds-db:connect", OTHER, ACCOUNT)


def test_a_users_own_and_groups_policies_bind(iam, judge):
    iam.create_user(UserName="alice")
    key = iam.create_access_key(UserName="alice")["AccessKey"]
    iam.create_group(GroupName="team")
    iam.add_user_to_group(GroupName="team", UserName="alice")
    iam.put_group_policy(GroupName="team", PolicyName="g", PolicyDocument=document(policy(RESOURCE)))
    credential = secret_of(key["AccessKeyId"])

    assert credential is not None
    assert credential.principal_arn == f"arn:aws:iam::{ACCOUNT}:user/alice"
    assert credential.secret_key == key["SecretAccessKey"]
    assert Principals(judge).allows(credential, "rds-db:connect", RESOURCE, ACCOUNT)
    assert not Principals(judge).allows(credential, "rds-db:connect", OTHER, ACCOUNT)


def test_an_inactive_or_unknown_key_belongs_to_nobody(iam):
    iam.create_user(UserName="alice")
    key = iam.create_access_key(UserName="alice")["AccessKey"]["AccessKeyId"]
    iam.update_access_key(UserName="alice", AccessKeyId=key, Status="Inactive")

    assert secret_of(key) is None
    assert secret_of("AKIDNOBODY") is None


def test_a_deleted_role_leaves_its_sessions_without_rights(iam, role, judge):
    credential, _ = assume(role)
    iam.delete_role(RoleName="app")

    assert not Principals(judge).allows(credential, "rds-db:connect", RESOURCE, ACCOUNT)
