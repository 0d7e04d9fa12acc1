"""Remediations run as they are printed: commands by a shell, statements by the printed client as the printed user."""

import json
import shlex
from dataclasses import dataclass
from typing import Any

import psycopg
import pymysql
import pytest
import yaml
from botocore.exceptions import ClientError

from tests.integration.account import Account
from tests.integration.audit.shell import in_shell

Step = dict[str, Any]
#: Users with passwords: a plain name, and names that a shell, a client or YAML may misread.
ROTATING = ["etl", "it's-a-tool"]
NAMES = ["o'brien; --", "-rf", "legacy", 'quo"te $HOME', "100% :x"]
EACH_NAME = [pytest.param(name, marks=[pytest.mark.exhaustive] if number else []) for number, name in enumerate(NAMES)]
PASSWORD = "a-Password-1"
OPERATIONAL = (psycopg.OperationalError, pymysql.err.OperationalError)


@dataclass
class Fleet:
    """Databases of one account, and what the audit prints about them."""

    account: Account

    def findings(self, arn: str) -> list[dict[str, Any]]:
        """Audit one database, and return its findings."""
        answer = self.account.invoke("AuditFunction", {"databases": [arn]})
        bucket, _, key = answer["reports"]["json"].removeprefix("s3://").partition("/")
        body = self.account.cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        found: list[dict[str, Any]] = json.loads(body)["findings"]
        return found

    def finding(self, arn: str, kind: str, user: str | None = None) -> dict[str, Any]:
        """Return one finding of a database."""
        (found,) = [one for one in self.findings(arn) if (one["kind"], one["user"]) == (kind, user)]
        return found

    def run(self, arn: str, steps: list[Step], roles: tuple[str, ...] = ()) -> list[str]:
        """Run steps as they are printed, and return what they printed.

        :param roles: of a successor; the printed line has none.
        """
        return [self.run_step(arn, step, roles) for step in steps]

    def run_step(self, arn: str, step: Step, roles: tuple[str, ...]) -> str:
        if step["language"] == "access":
            (entry,) = yaml.load(step["text"], Loader=yaml.BaseLoader)  # noqa: S506 texts only
            for user in entry.get("users", []):
                user["roles"] = list(roles)
            self.account.entries[step["text"]] = entry
            self.account.publish_entries()
            return ""
        ended = in_shell(self.account, step["text"]) if step["language"] == "cli" else self.client(arn, step)
        assert ended.returncode == 0, (step, ended.stdout, ended.stderr)
        return ended.stdout

    def client(self, arn: str, step: Step) -> Any:
        """Run a statement by the printed client: as the master by its password, as rdsiam_manager by a token."""
        client = step["client"].removesuffix(" --password")
        program = shlex.split(client.rpartition('" ')[2])[0]
        stop = {"psql": "-v ON_ERROR_STOP=1"}.get(program, "")
        password = self.account.master_password(arn)
        ca = shlex.quote(str(self.account.cloud.ca))
        setup = f'cd "$(mktemp -d)" && cp {ca} global-bundle.pem'
        secret = f"export PGPASSWORD={shlex.quote(password)} MYSQL_PWD={shlex.quote(password)}"
        return in_shell(self.account, f"{setup}\n{secret}\n{client} {stop} <<'END OF SQL'\n{step['text']}\nEND OF SQL")

    def secret(self, arn: str, user: str) -> None:
        """Put the password of a user into a secret, as an application's owner does."""
        described = self.account.describe(arn)
        endpoint, engine = described["Endpoint"], described["Engine"]
        login = {"engine": engine, "host": endpoint["Address"], "port": endpoint["Port"], "dbname": "shop"}
        self.account.cloud.client("secretsmanager").create_secret(
            Name=f"printed/{engine}/{len(user)}",
            SecretString=json.dumps(login | {"username": user, "password": PASSWORD}),
        )

    def reset(self, arn: str, user: str) -> None:
        """Delete the secrets of a user, forget that its password rotates, and set the first password again."""
        for text in [text for text in self.account.entries if "rotate:" in text]:
            del self.account.entries[text]
        self.account.publish_entries()
        self.account.onboard(arn)
        client = self.account.cloud.client("secretsmanager")
        for secret in client.list_secrets()["SecretList"]:
            if self._username(secret["ARN"]) == user:
                client.delete_secret(SecretId=secret["ARN"], ForceDeleteWithoutRecovery=True)
        with self.account.as_master(arn) as master:
            if "postgres" in arn:
                master.run('ALTER ROLE "' + user.replace('"', '""') + f"\" PASSWORD '{PASSWORD}'")
            else:
                master.run("ALTER USER '" + user.replace("'", "''") + f"'@'%' IDENTIFIED BY '{PASSWORD}'")

    def _username(self, arn: str) -> str | None:
        """Return the user of a secret; None if it has no value or another one, as other files of tests leave some."""
        try:
            value = self.account.cloud.client("secretsmanager").get_secret_value(SecretId=arn)
            return str(json.loads(value["SecretString"])["username"])
        except (ClientError, LookupError, TypeError, ValueError):
            return None

    def cluster(self, name: str, kind: str) -> str:
        """Create a cluster of Aurora MySQL, or a Multi-AZ cluster of MySQL."""
        rds = self.account.cloud.client("rds")
        aurora = kind == "aurora-mysql"
        made = rds.create_db_cluster(
            DBClusterIdentifier=name,
            Engine="aurora-mysql" if aurora else "mysql",
            MasterUsername="boss",
            ManageMasterUserPassword=True,
            DatabaseName="shop",
            **({} if aurora else {"DBClusterInstanceClass": "db.r6g.large", "AllocatedStorage": 100}),
        )["DBCluster"]
        if aurora:
            rds.create_db_instance(
                DBInstanceIdentifier=f"{name}-1",
                DBClusterIdentifier=name,
                Engine="aurora-mysql",
                DBInstanceClass="db.r6g.large",
            )
        return str(made["DBClusterArn"])

    def logs_in(self, arn: str, user: str) -> bool:
        """Tell whether a user logs in by its password."""
        return not self.account.refused(arn, user, PASSWORD)


def way(finding: dict[str, Any], number: int) -> list[Step]:
    """Return the steps of one way."""
    return [step for step in finding["remediation"] if step["way"] == number]


@pytest.fixture(scope="module")
def fleet(account) -> Fleet:
    return Fleet(account)


@pytest.fixture(scope="module", params=["postgres", pytest.param("mysql", marks=pytest.mark.exhaustive)])
def arn(fleet, request) -> str:
    """Return an onboarded database with users that have passwords."""
    account, name = fleet.account, f"printed-{request.param}"
    role = account.make_role(f"{name}-app")
    account.declare(name, {"name": "app", "privileges": "readonly", "on": ["shop"], "roles": [role]})
    made = account.create(name, request.param)
    account.wait_onboarded(made, 180)
    with account.as_master(made) as master:
        for user in [*NAMES, *ROTATING]:
            if request.param == "postgres":
                quoted = '"' + user.replace('"', '""') + '"'
                master.run(f"CREATE ROLE {quoted} LOGIN PASSWORD '{PASSWORD}'")
            else:
                quoted = "'" + user.replace("'", "''") + "'"
                master.run(f"CREATE USER {quoted}@'%' IDENTIFIED BY '{PASSWORD}'")
                master.run(f"GRANT SELECT ON shop.* TO {quoted}@'%'")
    return made


def label(arn: str, user: str) -> str:
    return user if arn.endswith("postgres") else f"{user}@%"


@pytest.mark.parametrize("user", EACH_NAME)
def test_a_user_with_a_password_migrates_first_and_no_login_fails(fleet, arn, user):
    finding = fleet.finding(arn, "user-without-iam", label(arn, user))
    first = way(finding, 1)
    assert [step["language"] for step in first] == ["access", "cli"]
    assert "migrate start" in first[1]["text"]
    fleet.run(arn, first)
    assert fleet.logs_in(arn, user), "the password works until the migration ends"
    again = fleet.finding(arn, "user-without-iam", label(arn, user))
    # The successor is declared now, so no lines are left to add.
    assert [step["text"] for step in way(again, 1)] == [first[1]["text"]]
    fleet.run(arn, [{**first[1], "text": first[1]["text"].replace("migrate start", "migrate undo")}])


@pytest.mark.parametrize("user", EACH_NAME)
def test_a_user_that_is_unused_is_locked_last_and_one_that_is_used_is_not(fleet, arn, user):
    with fleet.account.connect(arn, user, PASSWORD):
        used = fleet.finding(arn, "user-without-iam", label(arn, user))
        assert used["evidence"]["sessions"] == 1
        assert not any("NOLOGIN" in step["text"] or "ACCOUNT LOCK" in step["text"] for step in used["remediation"])
    unused = fleet.finding(arn, "user-without-iam", label(arn, user))
    last = way(unused, max(step["way"] for step in unused["remediation"]))
    assert "saw no open session" in last[0]["note"]
    assert {step["language"] for step in last} == {"sql"}
    assert {step["user"] for step in last} == {"boss, the master"}
    fleet.run(arn, last)
    assert not fleet.logs_in(arn, user)
    assert not any(one["user"] == label(arn, user) for one in fleet.findings(arn))


@pytest.mark.parametrize("user", [ROTATING[0], pytest.param(ROTATING[1], marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("kept", ["nowhere", pytest.param("in a secret", marks=pytest.mark.exhaustive)])
def test_a_password_that_has_to_stay_rotates_and_the_finding_is_accepted(fleet, arn, user, kept):
    if kept == "in a secret":
        fleet.secret(arn, user)
    finding = fleet.finding(arn, "user-without-iam", label(arn, user))
    second = way(finding, 2)
    commands = [" ".join(shlex.split(step["text"])[:3]) for step in second if step["language"] == "cli"]
    tagged = ["aws secretsmanager tag-resource"] if kept == "in a secret" else []
    assert commands == [*tagged, "rdsiam rotate set-up"]
    fleet.run(arn, second)
    assert fleet.finding(arn, "user-without-iam", label(arn, user))["suppressed"]["reason"] == "the password rotates"
    assert fleet.logs_in(arn, user) == (kept == "in a secret"), "only a secret that is new has a new password"
    # Later the finding is accepted only: the password rotates already.
    again = way(fleet.finding(arn, "user-without-iam", label(arn, user)), 2)
    assert [step["language"] for step in again] == ["access"]
    fleet.reset(arn, user)


@pytest.mark.parametrize("arn", ["postgres"], indirect=True)  # on MySQL the master grants privileges
def test_rdsiam_manager_runs_its_statements_by_a_token_of_the_caller(fleet, arn):
    token = fleet.account.token(arn, "rdsiam_manager", fleet.account.administrator())
    with fleet.account.connect(arn, "rdsiam_manager", token) as manager:
        manager.run("REVOKE shop_readonly FROM app")
    finding = fleet.finding(arn, "privileges-differ", "app")
    assert {step["user"] for step in way(finding, 2)} == {"rdsiam_manager"}
    fleet.run(arn, way(finding, 2))
    assert not any(one["kind"] == "privileges-differ" for one in fleet.findings(arn))


@pytest.fixture(
    scope="module",
    params=[
        "mysql",
        pytest.param("postgres14", marks=pytest.mark.exhaustive),
        pytest.param("mariadb", marks=pytest.mark.exhaustive),
        pytest.param("aurora-mysql", marks=pytest.mark.exhaustive),
        pytest.param("multi-az", marks=pytest.mark.exhaustive),
    ],
)
def default_group(fleet, request) -> str:
    """Return an onboarded database with RDS's default parameter group, which doesn't enforce TLS."""
    account, name = fleet.account, f"default-{request.param}"
    account.declare(name, {"name": "app", "privileges": "readonly", "on": ["shop"]})
    if request.param in {"aurora-mysql", "multi-az"}:
        made = fleet.cluster(name, request.param)
    else:
        made = account.create(name, request.param)
    account.wait_onboarded(made, 180)
    return made


def test_a_default_parameter_group_is_replaced_and_tls_enforced(fleet, default_group):
    arn = default_group
    finding = fleet.finding(arn, "tls-not-enforced")
    first = way(finding, 1)
    assert [step["language"] for step in first[:4]] == ["sql", "cli", "cli", "cli"]
    with fleet.account.connect(arn, "boss", fleet.account.master_password(arn), tls=False):
        shown = fleet.run(arn, first)
    # localcloud's PostgreSQL has TLS in a process before it, and its MariaDB runs with performance_schema off.
    if not arn.endswith(("postgres14", "mariadb")):
        assert "boss" in shown[0], "the client that would be refused"
    assert [one for one in fleet.findings(arn) if one["kind"] == "tls-not-enforced"] == []
    with pytest.raises(OPERATIONAL):
        fleet.account.connect(arn, "boss", fleet.account.master_password(arn), tls=False)
    # A cluster may need a reboot, and an instance needs none.
    assert ("reboot" in first[-1]["text"]) == (":cluster:" in arn)
    assert ("No reboot follows" in first[-1]["note"]) == (":db:" in arn)
