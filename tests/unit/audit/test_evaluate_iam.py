"""Logins by IAM policies: read as IAM returns them, evaluated by resource, and resolved by their remediation."""

import json
import shlex
from dataclasses import replace
from urllib.parse import quote

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from rdsiam.access.model import parse
from rdsiam.aws.iam import HeldPolicy, Holder, PolicyUnreadable, holders
from rdsiam.aws.iam_statements import covers_connect
from tests.audited_fleet import (
    ADMINISTRATOR,
    CONNECT_ROLE,
    IAM,
    OPERATOR,
    ROLE,
    allow,
    dbuser,
    evaluate_holders,
    evaluate_role,
    inline,
    managed,
    role,
)

ANYWHERE = "arn:aws:rds-db:*:*:dbuser:*/*"
WILD, WRONG, STALE, OTHER = (
    ["wildcard-connect-policy"],
    ["wrong-connect-arn"],
    ["stale-resource-id"],
    ["undeclared-connect-grant"],
)


def kinds(findings):
    return sorted(one.kind for one in findings)


# --- What a statement says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "covers"),
    [
        ({"Action": "*"}, True),
        ({"Action": ["s3:*", "RDS-DB:Connect"]}, True),
        ({"Action": "rds-db:Conn?ct"}, True),
        ({"Action": "rds-*"}, True),
        ({"Action": "rds:*"}, False),
        ({"Action": "rds-db:[c]onnect"}, False),
        ({"NotAction": ["iam:*", "organizations:*"]}, True),
        ({"NotAction": "rds-db:*"}, False),
        ({"Action": []}, False),
    ],
)
def test_actions_are_patterns_without_case(statement, covers):
    assert covers_connect(statement) == covers


@pytest.mark.parametrize(
    ("resource", "wanted"),
    [
        (dbuser("app"), []),
        (dbuser("app", "cluster-STOCK"), []),
        (dbuser("app").replace("eu-central-1", "us-east-1"), []),
        ("*", WILD),
        (ANYWHERE, WILD),
        (dbuser("*"), WILD),
        (dbuser("app_*"), WILD),
        (dbuser("app", "*"), WILD),
        (dbuser("app", "db-*"), WILD),
        (dbuser("${aws:username}"), WILD),
        ("arn:aws:rds*:*:*:dbuser:*/app", WILD),
        ("arn:aws:rds-db:*dbuser:*/app", WILD),
        ("arn:aws:rds-db:*", WILD),
        (dbuser("app").rpartition("/")[0] + "*", WILD),
        (dbuser("app").replace(":dbuser:db-ORDERS/app", ":dbuser:*"), WILD),
        (dbuser("app", "db-GONE"), STALE),
        (dbuser("*", "db-GONE"), STALE),
        (dbuser("app", "db-MEMBER"), ["member-resource-id"]),
        (dbuser("report"), OTHER),
        (dbuser("rdsiam_manager"), OTHER),
        (dbuser("APP"), ["user-name-case"]),
        (dbuser("app").replace("rds-db", "rds"), WRONG),
        (dbuser("app").replace("dbuser:", "db:"), WRONG),
        (dbuser("app").replace("dbuser:", "dbuser/"), WRONG),
        (dbuser("app").rpartition("/")[0], WRONG),
        (dbuser(""), WRONG),
        (dbuser("app", "orders"), WRONG),
        (dbuser("app").replace("123456789012", "210987654321"), WRONG),
        (dbuser("app").replace("arn:aws:", "arn:aws-cn:"), WRONG),
        ("arn:aws:rds:eu-central-1:123456789012:db:orders", WRONG),
        ("arn:aws:s3:::bucket", WRONG),
        ("nonsense", WRONG),
    ],
)
def test_a_resource_has_one_verdict(resource, wanted):
    assert kinds(evaluate_role(inline(allow(resource)))) == wanted


@pytest.mark.parametrize(
    ("policies", "wanted"),
    [
        pytest.param([inline(allow("arn:aws:s3:::bucket/*", action="*"))], [], id="everything, on a bucket"),
        pytest.param([inline(allow("arn:aws:rds:eu-central-1:1:db:x", action=["rds:*", "rds-db:connect"]))], [],
                     id="an instance's ARN for the other actions"),
        pytest.param([inline(allow(dbuser("app"), action="rds:connect"))], WRONG, id="rds:connect"),
        pytest.param([inline({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"})], WILD, id="NotAction"),
        pytest.param([inline({"Effect": "Allow", "Action": "rds-db:*", "NotResource": dbuser("x")})], WILD,
                     id="NotResource"),
        pytest.param([inline({"Effect": "Deny", "Action": "*", "Resource": "*"})], [], id="a Deny alone"),
        pytest.param([ADMINISTRATOR, inline({"Effect": "Deny", "Action": "rds-db:*", "Resource": "*"})], [],
                     id="denied"),
        pytest.param([ADMINISTRATOR, inline({"Effect": "Deny", "Action": "*", "Resource": "*",
                      "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "false"}}})], WILD, id="denied at times"),
        pytest.param([ADMINISTRATOR, inline({"Effect": "Deny", "Action": "rds-db:connect",
                      "NotResource": dbuser("app")})], [], id="denied but for what is declared"),
        pytest.param([ADMINISTRATOR, inline({"Effect": "Deny", "Action": "rds-db:connect",
                      "NotResource": dbuser("rdsiam_manager")})], OTHER, id="denied but for the manager"),
        pytest.param([inline(allow(dbuser("a*")), {"Effect": "Deny", "Action": "rds-db:connect",
                      "Resource": dbuser("a?")})], WILD, id="`?` covers no `*`"),
        pytest.param([inline(allow("*", Sid="A"), allow("*", Sid="B"))], WILD * 2, id="one for each statement"),
        pytest.param([inline(allow("*", Sid="A"), name="a"), managed(allow("*", Sid="A"))], WILD * 2,
                     id="one for each policy"),
        pytest.param([inline(allow(dbuser("app", "db-X"), dbuser("app", "db-Y")))], STALE, id="one for each problem"),
        pytest.param([inline(allow(dbuser("app"), Condition={"NumericLessThan": {"aws:MultiFactorAuthAge": "1"}}))],
                     ["condition-on-connect-policy"], id="unproven"),
        pytest.param([inline(allow(dbuser("app"), Condition={"DateGreaterThan": {"aws:TokenIssueTime": "2026"}}))], [],
                     id="reported to work"),
        pytest.param([inline(allow("*", action="*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))], WILD,
                     id="a condition on more than logins"),
    ],
)  # fmt: skip
def test_policies_as_people_write_them(policies, wanted):
    assert kinds(evaluate_role(*policies)) == wanted


@pytest.mark.parametrize("key", ["aws:SourceIp", "aws:SourceVpc", "aws:sourcevpce", "aws:UserAgent", "aws:Referer"])
def test_conditions_that_aws_does_not_support_never_match(key):
    (found,) = evaluate_role(inline(allow(dbuser("app"), Condition={"StringEquals": {key: "x"}})))
    assert (found.severity, found.evidence["verdict"], found.evidence["keys"]) == ("medium", "never-matches", [key])


@pytest.mark.parametrize(
    ("arn", "resource", "severity"),
    [
        (ROLE, "*", "critical"),
        (OPERATOR, "*", "medium"),
        (f"{IAM}role/teams/platform/oncall", "*", "medium"),
        (f"{IAM}role/path/platform", "*", "critical"),
        (f"{IAM}role/platform2", "*", "critical"),
        (ROLE, dbuser("app_*"), "medium"),
        (ROLE, dbuser("*"), "critical"),
    ],
)
def test_a_wildcard_over_all_users_is_critical_unless_its_holder_is_an_operator(arn, resource, severity):
    assert [one.severity for one in evaluate_role(inline(allow(resource)), arn=arn)] == [severity]


def test_users_and_groups_are_never_declared():
    for kind in ("user", "group"):
        holder = Holder(ROLE, kind, "app", "/", (inline(allow(dbuser("app"))),))
        assert kinds(evaluate_holders(holder)) == OTHER


@pytest.mark.parametrize("role", [CONNECT_ROLE, f"{CONNECT_ROLE}2"])
def test_connect_role_and_its_shards_may_log_in_only_as_users_of_vended_tokens(role):
    policy = managed(allow(dbuser("app"), dbuser("report")), name="rdsiam.eu-central-1.ConnectRole.1")
    (found,) = evaluate_role(policy, arn=role)
    assert (found.kind, found.evidence["resources"]) == ("undeclared-connect-grant", [dbuser("app")])


def test_a_shard_that_the_stack_no_longer_has_may_log_in_as_nobody():
    policy = managed(allow(dbuser("report")), name="rdsiam.eu-central-1.ConnectRole3.1")
    assert kinds(evaluate_role(policy, arn=f"{CONNECT_ROLE}3")) == OTHER


def test_a_role_may_have_logins_of_another_region_which_that_region_audits():
    elsewhere = dbuser("app").replace("eu-central-1", "us-east-1")
    assert evaluate_role(managed(allow(elsewhere), name="rdsiam.us-east-1.app.1")) == ()


def test_the_stacks_roles_have_no_findings_as_the_template_makes_them():
    own = f"{IAM}role/rdsiam-OnboardFunctionRole"
    assert evaluate_role(inline(allow(dbuser("rdsiam_manager", "*"))), arn=own) == ()
    never = {"Effect": "Deny", "Action": ["rds-db:connect"], "Resource": [dbuser("rdsiam_*", "*")]}
    assert evaluate_role(inline(allow(dbuser("*", "*")), never), arn=own) == ()
    assert kinds(evaluate_role(inline(allow(dbuser("*", "*"))), arn=own)) == WILD
    assert kinds(evaluate_role(inline(allow(dbuser("app"))), arn=own)) == OTHER


def test_user_names_are_compared_with_the_catalog_too():
    (found,) = evaluate_holders(role(inline(allow(dbuser("LEGACY")))), users={"db-ORDERS": {"legacy"}})
    assert found.kind == "user-name-case"


def test_a_finding_about_one_database_belongs_to_it_and_can_be_accepted_there():
    access = parse(
        "version: 1\ndatabases: [{match: {identifier: orders}, suppress: [{finding: undeclared-connect-grant, "
        f'user: "{ROLE}", reason: known, until: 2027-01-01T00:00:00Z}}]}}]\n'
    )
    (one,) = evaluate_role(inline(allow(dbuser("x"))), access=access)
    assert one.database == "arn:aws:rds:eu-central-1:123456789012:db:orders"
    assert one.suppressed
    (two,) = evaluate_role(inline(allow(dbuser("x"), dbuser("x", "db-CARTS"))), access=access)
    assert (two.database, two.suppressed) == (None, None)


def test_ids_stay_if_other_statements_or_resources_change():
    before = evaluate_role(inline(allow(dbuser("x")), name="p"))
    after = evaluate_role(
        inline(allow("arn:aws:s3:::b", action="s3:*", Sid="S3"), allow(dbuser("x"), dbuser("y")), name="p")
    )
    assert [one.id for one in before] == [one.id for one in after]


# --- Remediations resolve their findings ------------------------------------------------------------------------------


def carried_out(holder: Holder, command: str) -> Holder:
    """Do what a command of the AWS CLI does to a holder."""
    words = shlex.split(command)
    assert words[:2] == ["aws", "iam"]
    options = dict(zip(words[3::2], words[4::2], strict=False)) if "--set-as-default" not in words else {
        "--policy-arn": words[4], "--policy-document": words[7]}  # fmt: skip
    kept = [
        one
        for one in holder.policies
        if one.name != options.get("--policy-name") and one.arn != options.get("--policy-arn")
    ]
    match words[2]:
        case "put-role-policy":
            kept.append(HeldPolicy(options["--policy-name"], None, json.loads(options["--policy-document"])))
        case "create-policy-version":
            (old,) = [one for one in holder.policies if one.arn == options["--policy-arn"]]
            kept.append(replace(old, document=json.loads(options["--policy-document"]), oldest=None))
        case "delete-role-policy" | "detach-role-policy":
            pass
        case "delete-policy-version":
            return holder
        case other:
            raise AssertionError(other)
    return replace(holder, policies=tuple(kept))


BROKEN = [
    [inline(allow(one))]
    for one in ("*", ANYWHERE, dbuser("app", "db-GONE"), dbuser("app", "db-MEMBER"), dbuser("report"), dbuser("APP"),
                dbuser("app").replace("dbuser", "db"), "arn:aws:rds:eu-central-1:123456789012:db:orders")
] + [
    [ADMINISTRATOR],
    [inline({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"})],
    [inline({"Effect": "Allow", "Action": "rds-db:*", "NotResource": dbuser("x")})],
    [managed(allow(dbuser("app"), dbuser("x")), allow("*", action="s3:*", Sid="S3"), oldest="v1")],
    [managed(allow(dbuser("x")))],
    [inline(allow("*", action=["rds-db:connect", "rds:Describe*"]))],
    [inline(allow(dbuser("app"), action="rds:connect"))],
    [inline(allow(dbuser("app"), Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))],
    [ADMINISTRATOR, inline(allow(dbuser("x")))],
]  # fmt: skip


@pytest.mark.parametrize("policies", BROKEN, ids=lambda policies: json.dumps(policies[0].document["Statement"])[:70])
def test_every_way_of_a_remediation_resolves_the_finding(policies):
    holder = role(*policies)
    found = evaluate_holders(holder)
    assert found
    for finding in found:
        for way in {step.way for step in finding.remediation}:
            after = holder
            for step in finding.remediation:
                if step.way == way:
                    after = carried_out(after, step.text)
            left = evaluate_holders(after)
            assert finding.id not in {one.id for one in left}
            assert {one.id for one in left} <= {one.id for one in found}


def test_a_corrected_policy_keeps_right_logins_and_other_permissions():
    s3 = allow("*", action="s3:*", Sid="S3")
    (found,) = evaluate_role(inline(s3, allow(dbuser("app"), dbuser("x"))))
    document = json.loads(shlex.split(found.remediation[0].text)[-1])
    assert document["Statement"] == [s3, allow(dbuser("app"))]
    (mixed,) = evaluate_role(inline(allow("*", action=["rds:Describe*", "rds-db:connect"], Sid="Both")))
    document = json.loads(shlex.split(mixed.remediation[0].text)[-1])
    assert document["Statement"] == [allow("*", action=["rds:Describe*"], Sid="Both")]


def test_an_administrator_keeps_the_logins_that_access_yaml_gives_it():
    (found,) = evaluate_role(ADMINISTRATOR)
    document = json.loads(shlex.split(found.remediation[0].text)[-1])
    assert document["Statement"][0]["NotResource"] == sorted(
        [dbuser("app"), dbuser("app", "db-CARTS"), dbuser("app", "cluster-STOCK")]
    )


def test_the_remediation_of_an_identity_center_role_is_in_its_permission_set():
    path = "/aws-reserved/sso.amazonaws.com/eu-central-1/"
    (found,) = evaluate_role(ADMINISTRATOR, arn=f"{IAM}role{path}AWSReservedSSO_Admin_0123456789abcdef", path=path)
    assert [one.language for one in found.remediation] == ["cloudformation"]


NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=30)


@given(name=NAMES, resource=NAMES, sid=NAMES)
def test_hostile_names_stay_one_word_of_one_command(name, resource, sid):
    holder = role(inline(allow(resource, "*", Sid=sid), name=name), name=name)
    for finding in evaluate_holders(holder):
        for step in finding.remediation:
            words = shlex.split(step.text)
            assert words[:2] == ["aws", "iam"]
            assert words[4] == name


def test_a_hostile_pattern_is_evaluated_without_delay():
    assert evaluate_role(inline(allow("*a" * 3000))) is not None


# --- Reading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def iam():
    with mock_aws():
        yield boto3.client("iam", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def test_holders_are_read_with_their_policies_about_logins_only(iam):
    iam.create_user(UserName="u")
    iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=document(allow(dbuser("app"))))
    iam.create_group(GroupName="g")
    arn = iam.create_policy(PolicyName="m", PolicyDocument=document(allow("*")))["Policy"]["Arn"]
    iam.attach_group_policy(GroupName="g", PolicyArn=arn)
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST)
    iam.attach_role_policy(RoleName="r", PolicyArn=arn)
    iam.put_role_policy(RoleName="r", PolicyName="s3", PolicyDocument=document(allow("*", action="s3:*")))
    iam.create_role(RoleName="nothing", AssumeRolePolicyDocument=TRUST)
    iam.create_role(RoleName="denied", AssumeRolePolicyDocument=TRUST)
    denial = document({"Effect": "Deny", "Action": "*", "Resource": "*"})
    iam.put_role_policy(RoleName="denied", PolicyName="d", PolicyDocument=denial)
    iam.create_role(RoleName="AWSServiceRoleForX", Path="/aws-service-role/x.amazonaws.com/",
                    AssumeRolePolicyDocument=TRUST)  # fmt: skip
    iam.attach_role_policy(RoleName="AWSServiceRoleForX", PolicyArn=arn)
    found = {(one.type, one.name): [p.name for p in one.policies] for one in holders(iam)}
    assert found == {("user", "u"): ["p"], ("group", "g"): ["m"], ("role", "r"): ["m"]}


def test_the_default_version_of_a_policy_counts_and_the_oldest_of_five_is_known(iam):
    arn = iam.create_policy(PolicyName="m", PolicyDocument=document(allow("*")))["Policy"]["Arn"]
    for user in ("a", "b", "c", "d"):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=document(allow(dbuser(user))), SetAsDefault=True)
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST)
    iam.attach_role_policy(RoleName="r", PolicyArn=arn)
    (one,) = holders(iam)
    assert one.policies[0].document["Statement"][0]["Resource"] == [dbuser("d")]
    assert one.policies[0].oldest == "v1"


class Paged:
    """IAM as a plain client answers: documents URL-encoded, in pages."""

    def __init__(self, *pages):
        self._pages = pages

    def get_paginator(self, name):
        assert name == "get_account_authorization_details"
        return self

    def paginate(self, Filter):  # noqa: N803
        return [page for page in self._pages if ("Policies" in page) == ("LocalManagedPolicy" in Filter)]


@pytest.mark.parametrize("encode", [quote, str, json.loads], ids=["encoded", "text", "parsed"])
def test_documents_come_encoded_or_parsed_in_pages(encode):
    policies = [{"PolicyName": "p", "PolicyDocument": encode(document(allow(dbuser("app"))))}]
    roles = [{"Arn": f"{IAM}role/{n}", "RoleName": n, "Path": "/", "RolePolicyList": policies} for n in ("a", "b")]
    iam = Paged(*({"RoleDetailList": [one]} for one in roles))
    assert [(one.name, one.policies[0].document["Statement"]) for one in holders(iam)] == [
        (name, [allow(dbuser("app"))]) for name in ("a", "b")
    ]


def test_policies_of_aws_are_recognized():
    version = {"VersionId": "v3", "IsDefaultVersion": True, "Document": ADMINISTRATOR.document}
    attached = [{"PolicyName": "AdministratorAccess", "PolicyArn": ADMINISTRATOR.arn}]
    iam = Paged(
        {"Policies": [{"Arn": ADMINISTRATOR.arn, "PolicyName": "AdministratorAccess", "PolicyVersionList": [version]}]},
        {"UserDetailList": [{"Arn": f"{IAM}user/u", "UserName": "u", "AttachedManagedPolicies": attached}]},
    )
    (one,) = holders(iam)
    assert one.policies == (ADMINISTRATOR,)
    assert one.policies[0].of_aws


@pytest.mark.parametrize("text", ["", "%7B", "[]", "null"])
def test_an_invalid_policy_document_is_an_error(text):
    policies = [{"PolicyName": "p", "PolicyDocument": text}]
    page = {"UserDetailList": [{"Arn": f"{IAM}user/u", "UserName": "u", "Path": "/", "UserPolicyList": policies}]}
    with pytest.raises(PolicyUnreadable, match="policy p"):
        list(holders(Paged(page)))
