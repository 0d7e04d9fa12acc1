"""From facts to findings: each problem is one finding, and exempt users have none."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.access.model import parse
from rdsiam.engines.facts import AccountFacts, ServerFacts, Unreadable
from rdsiam.findings.kind import more_severe
from tests.audited_fleet import (
    CLUSTER,
    MANAGED,
    MARIADB,
    MY_CLEAN,
    MYSQL,
    PG_CLEAN,
    POSTGRES,
    evaluate,
    my,
    pg,
    proxy,
    secret,
    with_accounts,
    without_accounts,
)


def kinds(findings):
    return sorted(one.kind for one in findings)


def of_pg(*accounts, **more):
    return evaluate(facts=with_accounts(PG_CLEAN, *accounts, **more))


def of_my(*accounts, **more):
    return evaluate(MYSQL, with_accounts(MY_CLEAN, *accounts, **more))


APP = MY_CLEAN.accounts[0]
BOSS_LOST = pg("boss", administrator=True)
#: As the audit reads a master that RDS made an IAM user: it holds rds_iam itself.
IAM_BOSS = pg("boss", administrator=True, member_of=("rds_iam", "rds_superuser"))


@pytest.mark.parametrize(
    ("findings", "wanted"),
    [
        pytest.param(lambda: of_pg(pg("u", iam=False, unusable=True, locked=True)), [], id="locked"),
        pytest.param(lambda: of_my(my("u", iam=False, unusable=True)), [], id="impossible hash"),
        pytest.param(lambda: of_my(my("u", second_password=True, tls=False)), ["undeclared-user"], id="undeclared"),
        pytest.param(lambda: of_my(my("u", iam=False, tls=False), tls_enforced=None), ["user-without-iam"],
                     id="password without TLS, once"),
        pytest.param(lambda: of_my(replace(APP, iam=False)), ["user-without-iam"], id="declared by password"),
        pytest.param(lambda: of_my(replace(APP, tls=False)), [], id="TLS is enforced by the server"),
        pytest.param(lambda: of_my(replace(APP, tls=False), tls_enforced=None), ["user-without-tls"], id="TLS unknown"),
        pytest.param(lambda: of_my(my("u"), my("u", "10.%", iam=False)), ["user-partly-converted"], id="partly, once"),
        pytest.param(lambda: of_my(my("u", iam=False), my("u", "10.%", iam=False)), ["user-without-iam"] * 2,
                     id="one for each host pattern"),
        pytest.param(lambda: of_my(my("u"), my("u", "10.%", iam=False, unusable=True)), ["undeclared-user"],
                     id="a locked host pattern does not make it partly converted"),
        pytest.param(lambda: of_my(my("boss", "10.%", iam=False)), ["user-without-iam"], id="a namesake of the master"),
        pytest.param(lambda: of_my(my("rdsiam_manager", "10.%", iam=False)), ["user-without-iam"],
                     id="a namesake of the manager"),
        pytest.param(lambda: of_my(my("boss", administrator=True)), ["administrator-locked-out"], id="MySQL's master"),
        pytest.param(lambda: of_pg(BOSS_LOST), ["administrator-locked-out"], id="rds_iam for the master"),
        pytest.param(lambda: evaluate(replace(POSTGRES, master_secret_arn="arn:s"), with_accounts(PG_CLEAN, IAM_BOSS)),
                     ["administrator-locked-out"], id="rds_iam for a master with a secret"),
        pytest.param(lambda: of_pg(replace(IAM_BOSS, iam_through=("app",))), ["administrator-locked-out"],
                     id="rds_iam for a master through another role"),
        pytest.param(lambda: of_pg(IAM_BOSS), ["master-by-token"], id="a master that is an IAM user"),
        pytest.param(lambda: of_pg(replace(IAM_BOSS, member_of=("app", "rds_iam", "rds_superuser"))),
                     ["master-by-token"], id="an IAM master with more groups"),
        pytest.param(lambda: evaluate(replace(POSTGRES, express=True), with_accounts(PG_CLEAN, IAM_BOSS)), [],
                     id="an express cluster"),
        pytest.param(lambda: of_my(my("boss", administrator=True, member_of=("rds_iam",))),
                     ["administrator-locked-out"], id="MySQL's master in a role of that name"),
        pytest.param(lambda: of_pg(pg("dba", administrator=True, iam_through=("app",), member_of=("app",))),
                     ["administrator-locked-out"], id="another administrator, once"),
        pytest.param(lambda: of_pg(pg("dba", administrator=True)), ["undeclared-user"], id="on purpose"),
        pytest.param(lambda: of_pg(pg("cdc", replication=True)), ["replication-user-with-iam"],
                     id="replication by token, switched off"),
        pytest.param(
            lambda: of_pg(pg("report", replication=True, member_of=("shop_readonly",)), replication_by_token=True),
            [], id="replication by token, switched on: a user as any other",
        ),
        pytest.param(lambda: of_pg(pg("cdc", replication=True), replication_by_token=True), ["undeclared-user"],
                     id="replication by token, undeclared"),
        pytest.param(lambda: of_pg(pg("cdc", iam=False, replication=True), replication_by_token=True),
                     ["user-without-iam"], id="replication by password where tokens would do"),
        pytest.param(
            lambda: of_pg(pg("dba", administrator=True, replication=True, iam_through=("app",), member_of=("app",)),
                          replication_by_token=True),
            ["administrator-locked-out"], id="an administrator that replicates, by inheritance",
        ),
        pytest.param(
            lambda: of_pg(
                pg("staff", login=False),
                pg("a", iam_through=("staff",), member_of=("staff",)),
                pg("b", iam_through=("staff",), member_of=("staff",)),
            ),
            ["group-with-rds-iam", "user-inherits-rds-iam", "user-inherits-rds-iam"],
            id="a group once, its members once each",
        ),
        pytest.param(lambda: of_pg(pg("staff", login=False, iam_through=("all",))), [], id="a group in between"),
        pytest.param(lambda: of_pg(pg("report", member_of=("app", "shop_readonly"))), ["group-with-rds-iam"],
                     id="a login whose members hold rds_iam themselves"),
        pytest.param(lambda: of_pg(pg("report", login=False)), ["missing-user"], id="declared, can't log in"),
        pytest.param(lambda: of_pg(pg("r", replication=True, iam=False)), ["user-without-iam"],
                     id="replication by password is said, to be accepted"),
        pytest.param(lambda: of_pg(pg("legacy_clone", owns=3, iam=False)), ["user-without-iam"], id="nobody's clone"),
        pytest.param(lambda: evaluate(facts=without_accounts(PG_CLEAN, "app", "report")), ["missing-user"] * 2,
                     id="all gone"),
        pytest.param(lambda: evaluate(facts=Unreadable("state", "stopped")), ["database-unreachable"], id="stopped"),
        pytest.param(lambda: evaluate(replace(POSTGRES, iam_enabled=False), Unreadable("state", "stopped")),
                     ["iam-authentication-off"], id="off and stopped, once"),
        pytest.param(lambda: evaluate(replace(POSTGRES, replica_of="x"), Unreadable("state", "")), [], id="a replica"),
        pytest.param(lambda: evaluate(replace(POSTGRES, kind="proxy"), Unreadable("state", "")), [], id="a proxy"),
        pytest.param(
            lambda: evaluate(replace(POSTGRES, kind="proxy", iam_enabled=False), Unreadable("state", "")), [], id="flag"
        ),
        pytest.param(lambda: evaluate(MYSQL, secrets=[secret("app", rotation_enabled=True, pending_stuck=True)]),
                     ["secret-of-iam-user"], id="a useless secret, once"),
        pytest.param(lambda: evaluate(POSTGRES, secrets=[secret("app", MYSQL)]), [], id="a secret of another database"),
        pytest.param(
            lambda: evaluate(
                MYSQL, secrets=[secret("boss", rotation_enabled=True, next_rotation="2026-07-01T00:00:00Z")]
            ),
            [], id="due since this morning"),
    ],
)  # fmt: skip
def test_facts_give_these_kinds_of_findings(findings, wanted):
    assert kinds(findings()) == wanted


@pytest.mark.parametrize(
    ("accounts", "wanted"),
    [
        ((pg("pooled", iam=False),), []),
        ((pg("pooled"),), ["proxy-user-with-iam"]),
        ((pg("pooled", iam_through=("app",), member_of=("app",)),), ["proxy-user-with-iam"]),
        ((pg("pooled", iam=False, empty_password=True),), ["user-with-empty-password"]),
    ],
    ids=["by password", "by token", "by a group", "by nothing"],
)
def test_users_of_classic_proxies_keep_their_passwords(accounts, wanted):
    front = proxy(POSTGRES)
    found = evaluate(facts=with_accounts(PG_CLEAN, *accounts), proxies=[front])
    assert kinds(found) == wanted


def test_the_secret_of_a_proxy_is_not_reported_as_useless():
    held = secret("pooled", MYSQL)
    front = proxy(MYSQL, users=(), secret_arns=(held.arn,))
    found = evaluate(MYSQL, with_accounts(MY_CLEAN, my("pooled")), proxies=[front], secrets=[held])
    assert kinds(found) == ["proxy-user-with-iam"]
    assert found[0].evidence["proxies"] == ["front"]


def test_an_invalid_declaration_hides_no_finding_that_needs_no_declaration():
    boss = (
        'version: 1\ndatabases:\n  - match: {identifier: "*"}\n    users: [{name: boss, privileges: owner, on: [a]}]\n'
    )
    found = evaluate(facts=with_accounts(PG_CLEAN, pg("old", iam=False), pg("new")), access=parse(boss))
    assert kinds(found) == ["access-file-invalid", "user-without-iam"]


@pytest.mark.parametrize(
    ("account", "database", "severity"),
    [
        (my("u", "10.1", iam=False), MYSQL, "medium"),
        (my("u", "%", iam=False), MYSQL, "medium"),
        (my("u", "%", iam=False, tls=False), MYSQL, "high"),
        (my("u", "10.1", iam=False, administrator=True), MYSQL, "high"),
        (my("u", "10.1", iam=False), replace(MYSQL, public=True), "high"),
        (my("u", "10.1", iam=False, administrator=True), replace(MYSQL, public=True), "critical"),
        (my("u", "%", iam=False, tls=False, administrator=True), MYSQL, "critical"),
    ],
)
def test_exposure_makes_a_finding_more_severe(account, database, severity):
    found = evaluate(database, with_accounts(MY_CLEAN, account, tls_enforced=None))
    assert [one.severity for one in found if one.kind == "user-without-iam"] == [severity]


def test_critical_is_the_highest_severity():
    assert more_severe("critical", ("public", "privileged")) == "critical"


def test_privileges_are_compared_with_the_declared_ones():
    less = of_my(replace(APP, privileges={"shop": ("SELECT",)}))
    assert kinds(less) == ["privileges-differ"]
    assert "INSERT" in less[0].evidence["lacking"][0]["privileges"]
    more = of_my(replace(APP, privileges={**APP.privileges, "other": ("SELECT",), "*": ("PROCESS",)}))
    assert [one["on"] for one in more[0].evidence["surplus"]] == ["*", "other"]
    assert more[0].severity == "medium"
    assert [one.text for one in more[0].remediation if one.language == "sql"] == [
        "REVOKE PROCESS ON *.* FROM 'app'@'%';",
        "REVOKE SELECT ON `other`.* FROM 'app'@'%';",
    ]


def test_further_privileges_of_an_adopted_user_are_no_finding():
    facts = with_accounts(MY_CLEAN, replace(APP, privileges={**APP.privileges, "other": ("SELECT",)}))
    assert evaluate(MYSQL, facts, ownership={**MANAGED, "app": "adopted"}) == ()


def test_a_schema_is_recognized_with_and_without_an_escaped_underscore():
    access = parse(
        'version: 1\ndatabases: [{match: {identifier: "*"}, '
        "users: [{name: app, privileges: [SELECT], on: [my_app]}]}]\n"
    )
    for spelled in ("my_app", "my\\_app"):
        facts = with_accounts(without_accounts(MY_CLEAN, "report"), replace(APP, privileges={spelled: ("SELECT",)}))
        assert evaluate(MYSQL, replace(facts, databases=("my_app",)), access) == ()


def test_onboarding_is_the_first_remediation_of_a_managed_user_without_declaration():
    found = evaluate(facts=with_accounts(PG_CLEAN, pg("former")), ownership={**MANAGED, "former": "created"})
    assert found[0].remediation[0].text.startswith("rdsiam onboard ")
    disabled = with_accounts(PG_CLEAN, pg("former", login=False))
    assert evaluate(facts=disabled, ownership={**MANAGED, "former": "created"}) == ()


def test_a_remediation_names_the_pending_changes_that_it_applies():
    waiting = ("EngineVersion", "IAMDatabaseAuthenticationEnabled")
    found = evaluate(replace(POSTGRES, iam_enabled=False, pending=waiting), Unreadable("iam", "off"))
    assert "EngineVersion" in found[0].remediation[0].note


def test_clusters_are_modified_as_clusters():
    found = evaluate(replace(CLUSTER, iam_enabled=False), Unreadable("iam", "off"))
    assert found[0].remediation[0].text.startswith("aws rds modify-db-cluster --db-cluster-identifier stock ")


# --- Suppressions -----------------------------------------------------------------------------------------------------


def suppressing(*entries: str):
    lines = "".join(f"      - {{{entry}}}\n" for entry in entries)
    return parse(
        'version: 1\ndatabases:\n  - match: {identifier: "*"}\n    users:\n'
        "      - {name: app, privileges: readwrite, on: [shop]}\n"
        "      - {name: report, privileges: readonly, on: [shop]}\n"
        '  - match: {identifier: "carts"}\n    suppress:\n' + lines
    )


UNTIL = "until: 2026-12-31T00:00:00+01:00"
OVER = "until: 2026-07-01T12:00:00Z"


@pytest.mark.parametrize(
    ("entry", "accepted"),
    [
        (f"finding: user-without-iam, reason: vendor, {UNTIL}", True),
        (f"finding: user-without-iam, user: etl, reason: vendor, {UNTIL}", True),
        (f"finding: user-without-iam, user: 'etl@%', reason: vendor, {UNTIL}", True),
        (f"finding: user-without-iam, user: 'etl@10.%', reason: vendor, {UNTIL}", False),
        (f"finding: user-without-iam, user: et, reason: vendor, {UNTIL}", False),
        (f"finding: anonymous-user, reason: vendor, {UNTIL}", False),
        (f"finding: user-without-iam, user: etl, reason: vendor, {OVER}", False),
    ],
)
def test_a_suppression_accepts_its_kind_and_user_until_it_expires(entry, accepted):
    found = evaluate(MYSQL, with_accounts(MY_CLEAN, my("etl", iam=False)), access=suppressing(entry))
    assert kinds(found) == ["user-without-iam"]
    suppressed = found[0].suppressed
    assert (suppressed is not None) == accepted
    if suppressed:
        assert (suppressed.reason, suppressed.until) == ("vendor", "2026-12-30T23:00:00Z")


def test_a_suppression_for_another_database_accepts_nothing():
    access = suppressing(f"finding: user-without-iam, reason: vendor, {UNTIL}")
    found = evaluate(facts=with_accounts(PG_CLEAN, pg("etl", iam=False)), access=access)
    assert [one.suppressed for one in found] == [None]


def test_a_postgresql_role_with_an_at_sign_is_not_accepted_by_the_part_before_it():
    access = parse(
        'version: 1\ndatabases: [{match: {identifier: "*"}, suppress: '
        f"[{{finding: user-without-iam, user: etl, reason: vendor, {UNTIL}}}]}}]\n"
    )
    facts = ServerFacts("18", True, (), (pg("etl@x", iam=False),))
    assert [one.suppressed for one in evaluate(facts=facts, access=access)] == [None]


# --- Ids --------------------------------------------------------------------------------------------------------------


def test_ids_stay_if_the_surroundings_change_and_differ_on_a_copy():
    before = of_my(my("etl", iam=False))
    after = evaluate(
        replace(MYSQL, public=True, arn=MYSQL.arn + "-renamed", identifier="renamed"),
        with_accounts(
            MY_CLEAN, my("etl", iam=False, tls=False, sessions=3, administrator=True), my("new"), tls_enforced=False
        ),
    )
    copy = evaluate(replace(MYSQL, resource_id="db-COPY"), with_accounts(MY_CLEAN, my("etl", iam=False)))
    ids = [{one.id for one in found if one.kind == "user-without-iam"} for found in (before, after, copy)]
    assert ids[0] == ids[1]
    assert not ids[0] & ids[2]


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=40)
ACCOUNTS = st.lists(
    st.builds(
        AccountFacts,
        name=TEXT | st.sampled_from(["app", "report", "boss", "rdsiam_manager", "x_clone", "x"]),
        host=st.sampled_from(["", "%", "10.%"]) | TEXT,
        login=st.booleans(),
        iam=st.booleans(),
        iam_through=st.sampled_from([(), ("app",), ("a", "b")]),
        password=st.none() | st.booleans(),
        second_password=st.booleans(),
        empty_password=st.booleans(),
        unusable=st.booleans(),
        administrator=st.booleans(),
        tls=st.booleans(),
        owns=st.integers(0, 3),
        replication=st.booleans(),
        member_of=st.lists(TEXT | st.sampled_from(["app", "shop_readwrite"]), max_size=3).map(tuple),
        privileges=st.dictionaries(TEXT, st.just(("SELECT",)), max_size=2),
    ),
    max_size=6,
    unique_by=lambda one: (one.name, one.host),
)


@given(
    accounts=ACCOUNTS, engine=st.sampled_from([POSTGRES, MYSQL, MARIADB]), tls=st.sampled_from([True, False, None]),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_any_facts_give_each_finding_once_in_any_order_and_none_about_exempt_users(accounts, engine, tls, seed):
    facts = ServerFacts("1", tls, ("shop",), tuple(accounts))
    front = proxy(engine, users=("x",))
    found = evaluate(engine, facts, proxies=[front])
    shuffled = list(accounts)
    random.Random(seed).shuffle(shuffled)  # noqa: S311  no secret
    again = evaluate(engine, replace(facts, accounts=tuple(shuffled)), proxies=[front])
    assert {(one.id, one.kind, one.severity) for one in found} == {(one.id, one.kind, one.severity) for one in again}
    assert len({one.id for one in found}) == len(found)
    unusable = {one.label for one in accounts if one.unusable or not one.login} - {
        one.label for one in accounts if not one.unusable and one.login
    }
    # A declared user that is there and can't log in is missing; a group is about those that can.
    about_logins = [one for one in found if one.kind not in {"missing-user", "group-with-rds-iam"}]
    gone = {one.evidence.get("master") for one in about_logins if one.user in unusable}
    assert gone <= {True}
    exempt = [one for one in found if one.user in {"boss", "rdsiam_manager", "boss@%", "rdsiam_manager@%"}]
    assert {one.kind for one in exempt} <= {"administrator-locked-out", "master-by-token", "user-partly-converted"}


@pytest.mark.parametrize(
    "facts",
    [with_accounts(PG_CLEAN, pg("report", login=False, iam=False)), without_accounts(PG_CLEAN, "report")],
    ids=["locked", "gone"],
)
def test_no_remediation_of_a_revoked_user_gives_its_login_back_unless_the_revocation_is_lifted(facts):
    (missing,) = evaluate(facts=facts, revoked={"report": "key leaked"})
    assert (missing.kind, missing.severity, missing.evidence["state"]) == ("missing-user", "low", "revoked")
    assert missing.title == "report is declared, and an operator has revoked it"
    first, lift = missing.remediation
    assert (first.language, first.text) == ("access", '# Remove the user "report" from the entries that match orders.')
    assert lift.text == f"rdsiam revoke {POSTGRES.arn} report --lift"


@pytest.mark.parametrize(
    ("leaving", "revoked", "expected"),
    [
        ({"report": "port"}, {}, [("report", True, False)]),
        ({"gone": "port"}, {}, [("gone", False, False)]),
        ({}, {"report": "key leaked"}, [("report", True, True)]),
        ({}, {"gone": "key leaked"}, []),
        ({}, {"boss": "not managed"}, []),
    ],
    ids=["can log in", "can't log in", "revoked and can log in", "revoked and gone", "not managed"],
)
def test_an_incomplete_removal_is_a_critical_finding(leaving, revoked, expected):
    found = [one for one in evaluate(leaving=leaving, revoked=revoked) if one.kind == "login-not-removed"]
    assert [(one.user, one.evidence["login"], one.evidence["revoked"]) for one in found] == expected
    assert {one.severity for one in found} <= {"critical"}


def test_an_incomplete_removal_on_an_unreadable_database_is_a_finding_too():
    found = evaluate(facts=Unreadable("port", "timeout"), leaving={"report": "port"})
    assert [(one.user, one.evidence["login"]) for one in found if one.kind == "login-not-removed"] == [("report", None)]


def test_an_incomplete_removal_is_not_an_undeclared_user_as_well():
    facts = with_accounts(PG_CLEAN, pg("formerly"))
    accounts = {**MANAGED, "formerly": "created"}
    kinds = [one.kind for one in evaluate(facts=facts, ownership=accounts, leaving={"formerly": "port"})]
    assert kinds == ["login-not-removed"]


def test_a_user_that_is_limited_to_schemas_lacks_no_group_and_needs_none():
    access = parse("""\
version: 1
databases:
  - match: {identifier: "*"}
    exclude_schemas: [private]
    users:
      - {name: app, privileges: readwrite, on: [shop]}
      - {name: report, privileges: readonly, on: [{database: shop, schemas: [app]}]}
""")
    report = next(account for account in PG_CLEAN.accounts if account.name == "report")

    assert kinds(evaluate(facts=with_accounts(PG_CLEAN, replace(report, member_of=())), access=access)) == []
    (finding,) = evaluate(facts=PG_CLEAN, access=access)
    assert (finding.kind, finding.evidence["surplus"]) == (
        "privileges-differ", [{"on": "shop", "privileges": "readonly"}],
    )  # fmt: skip
