"""Ways of remediations: the way that interrupts no client comes first, and each step names its user and client."""

import json
import re
import shlex
import subprocess
from dataclasses import replace

import pytest
from psycopg.conninfo import conninfo_to_dict

from rdsiam.access.model import parse
from rdsiam.access.selection import Attributes, select
from rdsiam.command.next_steps import next_steps
from rdsiam.engines.facts import Unreadable
from rdsiam.state.escalations import Examined
from rdsiam.state.schemas import ObservedSchemas, PublicSchema
from tests.audited_fleet import (
    CLUSTER,
    MARIADB,
    MY_CLEAN,
    MYSQL,
    PG_CLEAN,
    POSTGRES,
    TAGGED,
    evaluate,
    my,
    pg,
    secret,
    with_accounts,
)
from tests.examples_of_findings import EXAMPLES

FINDINGS = {kind: next(f for f in example.findings() if f.kind == kind) for kind, example in EXAMPLES.items()}
#: Statements and options that interrupt clients.
INTERRUPTS = r"NOLOGIN|ACCOUNT LOCK|DROP |--(?:db-instance-class|engine-version) .*--apply-immediately"
PG_LOCKED, MY_LOCKED = 'ALTER ROLE "legacy" NOLOGIN;', "ALTER USER 'legacy'@'%' ACCOUNT LOCK;"


def ways(finding):
    """Return the texts of each way."""
    numbers = sorted({step.way for step in finding.remediation})
    return [[step.text for step in finding.remediation if step.way == number] for number in numbers]


def commands(texts):
    """Return what the steps do, in a word or two."""
    found = [
        re.search(r"migrate start|rotate set-up|tag-resource|onboard|replaces|rotate:|suppress", text) for text in texts
    ]
    return [text if each is None else each[0] for each, text in zip(found, texts, strict=True)]


def of_user(accounts, database=POSTGRES, **more):
    """Return the finding about the user `legacy`."""
    clean = PG_CLEAN if database.family == "postgres" else MY_CLEAN
    found = evaluate(database, with_accounts(clean, *accounts), **more)
    (finding,) = [one for one in found if (one.user or "").split("@")[0] == accounts[0].name]
    return finding


@pytest.mark.parametrize("kind", EXAMPLES)
def test_each_step_names_the_user_and_the_client(kind):
    for step in FINDINGS[kind].remediation:
        assert step.user, step
        assert step.client, step
        if step.language == "sql":
            assert re.match(r"psql |mysql |mariadb |PGPASSWORD=", step.client)
            assert "global-bundle.pem" in step.client, "the client verifies the server"
        if step.language == "cli":
            assert ("rdsiam" if step.text.startswith("rdsiam") else "AWS CLI") in step.client


#: Nobody needs a login under any name, and it can't be declared.
@pytest.mark.parametrize("kind", sorted(set(EXAMPLES) - {"anonymous-user"}))
def test_the_first_way_of_no_finding_interrupts_clients(kind):
    assert not any(re.search(INTERRUPTS, text) for text in ways(FINDINGS[kind])[0])


@pytest.mark.parametrize(
    ("database", "account", "locked"),
    [
        (POSTGRES, pg("legacy", iam=False, sessions=0), PG_LOCKED),
        (MYSQL, my("legacy", iam=False, sessions=0), MY_LOCKED),
        (MARIADB, my("legacy", iam=False, sessions=0, empty_password=True), MY_LOCKED),
    ],
)
def test_a_user_with_a_password_migrates_else_rotates_else_is_locked_with_the_evidence(database, account, locked):
    finding = of_user([account], database)
    migrate, rotate, lock = ways(finding)
    assert commands(migrate) == ["replaces", "migrate start"]
    assert migrate[1] == f"rdsiam migrate start {database.arn} legacy"
    assert commands(rotate) == ["rotate:", "rotate set-up"]
    assert lock == [locked]
    assert "saw no open session" in finding.remediation[-1].note


@pytest.mark.parametrize("sessions", [1, 3])
def test_a_user_with_sessions_is_not_locked(sessions):
    finding = of_user([pg("legacy", iam=False, sessions=sessions)])
    assert [commands(way)[-1] for way in ways(finding)] == ["migrate start", "rotate set-up"]
    noun = "session" if sessions == 1 else "sessions"
    assert f"In use: the audit saw {sessions} open {noun} of legacy." in finding.remediation[-1].note


def test_unknown_sessions_are_no_evidence():
    finding = of_user([pg("legacy", iam=False)])
    assert ways(finding)[-1] == [PG_LOCKED]
    assert "could not see whether legacy has open sessions" in finding.remediation[-1].note


@pytest.mark.parametrize("more", [{"administrator": True}, {"replication": True}])
def test_a_user_that_has_to_keep_its_password_does_not_migrate(more):
    assert [commands(way)[-1] for way in ways(of_user([pg("legacy", iam=False, **more)]))] == [
        "rotate set-up",
        PG_LOCKED,
    ]


@pytest.mark.parametrize("name", ["boss", "rdsiam_manager"])
def test_a_namesake_of_the_master_or_of_rdsiams_user_can_be_locked_only(name):
    finding = of_user([my(name, "10.%", iam=False, sessions=0)], MYSQL)
    assert ways(finding)[-1] == [f"ALTER USER '{name}'@'10.%' ACCOUNT LOCK;"]
    assert not any("migrate" in text or "replaces" in text for way in ways(finding) for text in way)


def test_a_declared_successor_needs_no_lines():
    access = parse(
        'version: 1\ndatabases:\n  - match: {identifier: "*"}\n    users:\n'
        "      - {name: app, privileges: readwrite, on: [shop]}\n"
        "      - {name: report, privileges: readonly, on: [shop]}\n"
        "      - {name: new, replaces: legacy}\n"
    )
    found = evaluate(facts=with_accounts(PG_CLEAN, pg("legacy", iam=False), pg("new")), access=access)
    (finding,) = [one for one in found if one.user == "legacy"]
    assert ways(finding)[0] == [f"rdsiam migrate start {POSTGRES.arn} legacy"]


@pytest.mark.parametrize(
    ("database", "name", "longest"),
    [(MYSQL, "x" * 32, 32), (MARIADB, "x" * 80, 80), (POSTGRES, "x" * 63, 63), (POSTGRES, "é" * 31, 63)],
)
def test_the_name_of_a_successor_is_no_longer_than_the_engine_allows(database, name, longest):
    account = pg(name, iam=False) if database.family == "postgres" else my(name, iam=False)
    (entry,) = parse(f"version: 1\ndatabases:\n{of_user([account], database).remediation[0].text}\n").databases
    assert len(entry.users[0].name.encode()) <= longest
    assert entry.users[0].replaces == name


def test_a_user_whose_only_secret_is_known_rotates_with_that_secret():
    finding = of_user([my("legacy", iam=False)], MYSQL, secrets=[secret("legacy")])
    rotate = ways(finding)[1]
    assert commands(rotate) == ["tag-resource", "rotate:", "rotate set-up"]
    assert secret("legacy").arn in rotate[1]
    assert "--confirm" not in rotate[2]
    permitted = replace(secret("legacy"), tags={"rdsiam:managed": "true"})
    finding = of_user([my("legacy", iam=False)], MYSQL, secrets=[permitted])
    assert commands(ways(finding)[1]) == ["rotate:", "rotate set-up"]


def test_a_user_whose_password_rotates_already_is_accepted_and_one_with_two_secrets_has_no_such_way():
    rotated = replace(secret("legacy"), rotation_enabled=True)
    assert commands(ways(of_user([my("legacy", iam=False)], MYSQL, secrets=[rotated]))[1]) == ["suppress"]
    two = [secret("legacy"), replace(secret("legacy"), arn=secret("other").arn)]
    assert commands(ways(of_user([my("legacy", iam=False)], MYSQL, secrets=two))[1]) == [MY_LOCKED]


def test_rdsiam_manager_gets_the_right_to_set_the_first_password_of_a_new_secret():
    facts = replace(with_accounts(PG_CLEAN, pg("legacy", iam=False)), unadministered=frozenset({"legacy"}))
    (finding,) = [one for one in evaluate(facts=facts) if one.user == "legacy"]
    grant = ways(finding)[1][0]
    assert grant == 'GRANT "legacy" TO "rdsiam_manager" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;'


def test_a_role_whose_server_hides_passwords_is_not_said_to_have_one():
    assert of_user([pg("legacy", iam=False)]).title == "legacy accepts no tokens, and may have a password"
    assert of_user([my("legacy", iam=False)], MYSQL).title == "legacy@% can log in with a password"


def test_a_declared_user_that_rdsiam_may_not_change_gets_a_successor_first():
    found = evaluate(facts=with_accounts(PG_CLEAN, pg("app", iam=False, sessions=2)), ownership={})
    (finding,) = [one for one in found if one.kind == "user-without-iam"]
    assert commands(ways(finding)[0]) == ["replaces", "migrate start"]
    assert ways(finding)[1] == ['GRANT "rds_iam" TO "app";']
    assert "in place of the declaration of app" in finding.remediation[0].note
    assert "In use: the audit saw 2 open sessions of app." in finding.remediation[-1].note


def test_a_user_that_takes_tokens_is_declared_before_it_is_locked():
    finding = of_user([pg("legacy", sessions=0)])
    declare, lock = ways(finding)
    assert "adopt: true" in declare[0]
    assert commands(declare)[1] == "onboard"
    assert lock == ['REVOKE "rds_iam" FROM "legacy";', PG_LOCKED]


@pytest.mark.parametrize(
    ("database", "group", "family", "noun"),
    [
        (replace(MYSQL, parameter_group="default.mysql8.4"), "carts-mysql8-4", "mysql8.4", "instance"),
        (replace(MARIADB, parameter_group="default.mariadb11.8"), "carts-mariadb11-8", "mariadb11.8", "instance"),
        (replace(POSTGRES, parameter_group="default.postgres14"), "orders-postgres14", "postgres14", "instance"),
        (
            replace(CLUSTER, parameter_group="default.aurora-postgresql16"),
            "stock-aurora-postgresql16",
            "aurora-postgresql16",
            "cluster",
        ),
        (replace(CLUSTER, engine="mysql", parameter_group="default.mysql8.0"), "stock-mysql8-0", "mysql8.0", "cluster"),
    ],
)
def test_a_default_parameter_group_is_replaced_before_it_is_set(database, group, family, noun):
    clean = PG_CLEAN if database.family == "postgres" else MY_CLEAN
    (finding,) = evaluate(database, replace(clean, tls_enforced=False))
    look, create, attach, wait, change, *reboot = [step for step in finding.remediation if step.way == 1]
    assert look.language == "sql"
    prefix = "db-cluster" if noun == "cluster" else "db"
    assert shlex.split(create.text)[:7] == [
        *("aws", "rds", f"create-{prefix}-parameter-group", f"--{prefix}-parameter-group-name", group),
        *("--db-parameter-group-family", family),
    ]
    assert shlex.split(attach.text)[:7] == [
        *("aws", "rds", f"modify-db-{noun}", f"--db-{noun}-identifier", database.identifier),
        *(f"--{prefix}-parameter-group-name", group),
    ]
    assert "--apply-immediately" not in attach.text, "it would apply other pending changes too"
    assert shlex.split(wait.text)[:4] == ["aws", "rds", "wait", f"db-{noun}-available"]
    assert shlex.split(change.text)[:5] == [
        *("aws", "rds", f"modify-{prefix}-parameter-group", f"--{prefix}-parameter-group-name", group)
    ]
    assert ("No reboot follows" in change.note) == (noun == "instance")
    aurora = database.engine.startswith("aurora")
    wanted = ["reboot-db-instance" if aurora else "reboot-db-cluster"] if noun == "cluster" else []
    assert [re.findall(r"reboot-db-\w+", step.text)[0] for step in reboot] == wanted
    assert all("pending-reboot" in step.text for step in reboot), "only members that wait for it"


@pytest.mark.parametrize("shell", [("bash", "-c"), ("zsh", "-f", "-c")], ids=["bash", "zsh"])
@pytest.mark.parametrize("waiting", [[], ["stock-1"], ["stock-1", "stock-2"]])
@pytest.mark.parametrize("engine", ["aurora-postgresql", "mysql"])
def test_only_members_that_wait_for_a_reboot_are_rebooted(shell, waiting, engine):
    database = replace(CLUSTER, engine=engine, parameter_group=f"default.{engine}")
    clean = PG_CLEAN if database.family == "postgres" else MY_CLEAN
    (finding,) = evaluate(database, replace(clean, tls_enforced=False))
    reboot = [step.text for step in finding.remediation if step.way == 1][-1]
    described = f'[ "$2" = describe-db-clusters ] && printf %s "{" ".join(waiting)}"'
    stub = f'aws() {{ {described} || printf \'%s %s\\n\' "$2" "$4"; }}'
    ended = subprocess.run([*shell, f"{stub}\n{reboot}"], capture_output=True, text=True, check=True)
    members = [f"reboot-db-instance {member}" for member in waiting]
    assert ended.stdout.splitlines() == (
        members if engine != "mysql" else ["reboot-db-cluster stock"] if waiting else []
    )


def test_a_parameter_group_of_ones_own_is_set_and_an_unknown_one_is_left_alone():
    (finding,) = evaluate(POSTGRES, replace(PG_CLEAN, tls_enforced=False))
    _, change = [step for step in finding.remediation if step.way == 1]
    assert "--db-parameter-group-name orders-parameters" in change.text
    assert "every database with the parameter group orders-parameters. No reboot follows" in change.note
    (finding,) = evaluate(replace(POSTGRES, parameter_group=""), replace(PG_CLEAN, tls_enforced=False))
    assert [step.language for step in finding.remediation] == ["cloudformation"]


@pytest.mark.parametrize(
    ("partition", "region"), [("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1"), ("aws", "eu-south-2")]
)
def test_commands_of_aws_name_the_databases_region(partition, region):
    arn = f"arn:{partition}:rds:{region}:123456789012:db:orders"
    (finding,) = evaluate(replace(POSTGRES, arn=arn, iam_enabled=False), Unreadable("iam", "off"))
    words = shlex.split(finding.remediation[0].text)
    assert words[words.index("--region") + 1] == region


@pytest.mark.parametrize("pending", [("DBInstanceClass",), ("EngineVersion", "IAMDatabaseAuthenticationEnabled")])
def test_pending_changes_are_not_applied_by_the_first_way(pending):
    (finding,) = evaluate(replace(POSTGRES, iam_enabled=False, pending=pending), Unreadable("iam", "off"))
    in_window, now, _ = ways(finding)
    assert "--apply-immediately" not in in_window[0]
    assert "--apply-immediately" in now[0]
    assert pending[0] in finding.remediation[1].note


def test_values_of_tags_stay_values():
    recorded = replace(POSTGRES, tags={"env": "prod,Key=x", "-q": "a b='c'"})
    changed = select(replace(POSTGRES, tags={"env": "dev", "--x": "1"}), Attributes.of(recorded))
    (finding,) = [one for one in evaluate(changed, access=TAGGED) if one.kind == "gains-need-confirmation"]
    add, remove = (shlex.split(step.text) for step in finding.remediation if "tags" in step.text)
    assert json.loads(add[add.index("--tags") + 1]) == [
        {"Key": "-q", "Value": "a b='c'"},
        {"Key": "env", "Value": "prod,Key=x"},
    ]
    assert json.loads(remove[remove.index("--tag-keys") + 1]) == ["--x"]


@pytest.mark.parametrize("name", ["o'brien", "-rf", "a b", "x' sslmode=disable", "new\nline", "$(id)"])
def test_a_hostile_name_of_an_owner_stays_one_value_of_the_client(name):
    public = (PublicSchema("shop", "public", name),)
    facts = replace(PG_CLEAN, examined=Examined(("postgres", "shop"), (), ObservedSchemas(public=public)))
    (finding,) = evaluate(facts=facts)
    program, connection = shlex.split(finding.remediation[0].client)
    assert program == "psql"
    assert conninfo_to_dict(connection)["user"] == name
    assert conninfo_to_dict(connection)["sslmode"] == "verify-full"


def test_the_command_shows_the_first_way_of_the_worst_findings_of_three_kinds():
    found = [FINDINGS[kind].to_json() for kind in ("user-without-iam", "undeclared-user", "tls-not-enforced")]
    found = json.loads(json.dumps([*found, FINDINGS["login-not-removed"].to_json(), found[0] | {"title": "second"}]))
    lines = next_steps(found)
    titles = [line for line in lines if line.startswith("to fix")]
    assert titles[0].startswith("to fix: report was removed or revoked")
    assert len(titles) == 3
    assert all(len(line) <= 80 for line in lines if line.startswith("  ") and not line.startswith("    "))
    tls = next_steps([json.loads(json.dumps(FINDINGS["tls-not-enforced"].to_json()))])
    assert f"    {FINDINGS['tls-not-enforced'].remediation[0].client}" in tls, "a command line is never broken"
    assert f"    rdsiam migrate start {POSTGRES.arn} legacy" in lines
    assert not any(re.search("NOLOGIN", line) for line in lines)
    assert next_steps([]) == []
    assert next_steps([found[0] | {"suppressed": {"reason": "r", "until": "2027-01-01T00:00:00Z"}}]) == []
