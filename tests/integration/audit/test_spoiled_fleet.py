"""A fleet spoiled by hand in every way that the audit knows: all is found, nothing else is, and its own remedies work.

Spoiling takes plain SQL and boto3, as people do it; remedies are run as they are printed: SQL by the master, commands
by a shell with the AWS CLI, lines of access.yaml by adding them.
"""

import copy
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.account import Account, until

ROOT = Path(__file__).parents[3]
PG, MY, CL = "spoil-pg", "spoil-my", "spoil-cl"
OFF, PENDING, STOPPED, LOST, SMALL = "spoil-off", "spoil-pending", "spoil-stopped", "spoil-lost", "spoil-small"
LATER = "2027-12-31T00:00:00Z"


def user(name: str, privileges: str = "readwrite", **more: Any) -> dict[str, Any]:
    return {"name": name, "privileges": privileges, "on": ["shop"], **copy.deepcopy(more)}  # YAML has no aliases here


class StepRefused(Exception):
    """Onboarding refused, and says what stands in its way."""


@dataclass
class Fleet:
    """The databases and roles of these tests, and what the audit says of them."""

    account: Account
    role: str
    arns: dict[str, str] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)

    # --- making it ---

    def make(self) -> None:
        rds = self.account.cloud.client("rds")
        for family, group, name, value in (
            ("postgres18", "spoil-postgres", "rds.force_ssl", "1"),
            ("mariadb10.11", "spoil-mariadb", "require_secure_transport", "1"),
            ("mariadb10.11", "spoil-other", "require_secure_transport", "1"),
        ):
            rds.create_db_parameter_group(DBParameterGroupName=group, DBParameterGroupFamily=family, Description="t")
            self.set_parameter(group, name, value)
        signs: dict[str, Any] = {"roles": [self.role]}
        declare, create = self.account.declare, self.account.create
        declare(PG, user("writer", **signs), user("reader", "readonly", **signs))
        declare(
            MY,
            *(user(name, **signs) for name in ("writer", "second", "half", "plain", "gone", "pooled")),
        )
        declare(CL, user("writer", **signs))
        declare(LOST, user("writer", **signs))
        declare(STOPPED, user("writer", **signs))
        declare(SMALL, user("writer", **signs))
        declare(OFF, user("writer", **signs))
        declare(PENDING, user("writer", **signs))
        self.arns = {
            PG: create(PG, "postgres", DBParameterGroupName="spoil-postgres"),
            MY: create(MY, "mariadb", DBParameterGroupName="spoil-mariadb"),
            LOST: create(LOST, "postgres"),
            STOPPED: create(STOPPED, "postgres"),
            SMALL: create(SMALL, "postgres", DBInstanceClass="db.t4g.medium"),
            OFF: create(OFF, "mariadb", DBParameterGroupName="spoil-other"),
            PENDING: create(PENDING, "postgres"),
        }
        self.arns[CL] = self.make_cluster()
        for name in self.arns:
            self.account.wait_onboarded(self.arns[name], 180)

    def make_cluster(self) -> str:
        rds = self.account.cloud.client("rds")
        made = rds.create_db_cluster(
            DBClusterIdentifier=CL,
            Engine="aurora-postgresql",
            MasterUsername="boss",
            ManageMasterUserPassword=True,
            DatabaseName="shop",
        )["DBCluster"]
        for member in ("writer", "reader"):
            rds.create_db_instance(
                DBInstanceIdentifier=f"{CL}-{member}",
                DBClusterIdentifier=CL,
                Engine="aurora-postgresql",
                DBInstanceClass="db.r6g.large",
            )
        return str(made["DBClusterArn"])

    def set_parameter(self, group: str, name: str, value: str) -> None:
        self.account.cloud.client("rds").modify_db_parameter_group(
            DBParameterGroupName=group,
            Parameters=[{"ParameterName": name, "ParameterValue": value, "ApplyMethod": "immediate"}],
        )

    def resource_id(self, name: str) -> str:
        rds = self.account.cloud.client("rds")
        if name == CL:
            return str(rds.describe_db_clusters(DBClusterIdentifier=CL)["DBClusters"][0]["DbClusterResourceId"])
        return str(rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["DbiResourceId"])

    # --- spoiling it ---

    def master(self, name: str, *statements: str, database: str = "shop") -> None:
        with self.account.as_master(self.arns[name], database) as session:
            for statement in statements:
                session.run(statement)

    def manager(self, name: str, *statements: str, database: str = "shop") -> None:
        """Run as rdsiam_manager, whom an administrator of the account can log in as."""
        token = self.account.token(self.arns[name], "rdsiam_manager", self.account.administrator())
        with self.account.connect(self.arns[name], "rdsiam_manager", token, database) as session:
            for statement in statements:
                session.run(statement)

    def allow(self, holder: str, statement: dict[str, Any]) -> None:
        """Give a role of that name an inline policy."""
        self.holders.setdefault(holder, "")
        if not self.holders[holder]:
            self.holders[holder] = self.account.make_role(holder)
        document = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "rds-db:connect", **statement}],
        }
        self.account.cloud.client("iam").put_role_policy(
            RoleName=holder, PolicyName="by-hand", PolicyDocument=json.dumps(document)
        )

    def dbuser(self, resource_id: str, name: str) -> str:
        cloud = self.account.cloud
        return f"arn:aws:rds-db:{cloud.region}:{cloud.account}:dbuser:{resource_id}/{name}"

    def secret(self, name: str, database: str, username: str) -> str:
        described = self.account.describe(self.arns[database])
        value = {
            "engine": described["Engine"],
            "host": described["Endpoint"]["Address"],
            "port": described["Endpoint"]["Port"],
            "username": username,
            "password": "canary-of-the-spoiled",
        }
        made = self.account.cloud.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(value))
        return str(made["ARN"])

    # --- looking at it ---

    def audit(self) -> dict[str, Any]:
        """Audit the whole fleet and return the report."""
        answer = self.account.invoke("AuditFunction", {})
        assert "errorMessage" not in answer, answer
        bucket, _, key = answer["reports"]["json"].removeprefix("s3://").partition("/")
        body = self.account.cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        report: dict[str, Any] = json.loads(body)
        return report

    def findings(self) -> list[dict[str, Any]]:
        """Return what an audit finds in the databases and roles of these tests."""
        return [
            one
            for one in self.audit()["findings"]
            if one["database"] in self.arns.values() or one["user"] in self.holders.values()
        ]

    def short(self, found: list[dict[str, Any]]) -> set[tuple[str, str, str | None]]:
        """Return kind, database and user of findings by the names that these tests use."""
        names = {arn: name for name, arn in self.arns.items()} | {arn: name for name, arn in self.holders.items()}
        return {(one["kind"], names.get(one["database"], ""), names.get(one["user"], one["user"])) for one in found}

    # --- mending it ---

    def mend(self, finding: dict[str, Any]) -> None:
        """Run the first way of a finding's remedies as it is printed."""
        for step in finding["remediation"]:
            if step["way"] == 1:
                {"sql": self.run_sql, "cli": self.run_cli, "access": self.add_access}[step["language"]](finding, step)

    def mends(self, finding: dict[str, Any]) -> bool:
        """Tell whether `mend` succeeds."""
        try:
            self.mend(finding)
        except StepRefused:
            return False
        return True

    def run_sql(self, finding: dict[str, Any], step: dict[str, Any]) -> None:
        name = next(name for name, arn in self.arns.items() if arn == finding["database"])
        run = self.manager if "On PostgreSQL as rdsiam_manager" in step["note"] else self.master
        run(name, step["text"], database=step["database"] or "shop")

    def run_cli(self, finding: dict[str, Any], step: dict[str, Any]) -> None:
        cloud = self.account.cloud
        credentials = cloud.info["credentials"]
        environment = {
            "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", "/"),
            "AWS_ENDPOINT_URL": cloud.endpoint,
            "AWS_REGION": cloud.region,
            "AWS_DEFAULT_REGION": cloud.region,  # for the AWS CLI's first version
            "AWS_ACCESS_KEY_ID": credentials["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": credentials["secret_access_key"],
            "PYTHONPATH": str(ROOT / "layers/rdsiam"),
            "RDSIAM_ONBOARD_FUNCTION": cloud.functions["OnboardFunction"],
        }
        rdsiam = f"rdsiam() {{ {shlex.quote(sys.executable)} -c 'from rdsiam.command import main; main()' \"$@\"; }}"
        ended = subprocess.run(
            ["bash", "-c", f"{rdsiam}\n{step['text']}"],  # noqa: S607
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        said = f"{finding['kind']}: {step['text']}\n{ended.stdout}\n{ended.stderr}"
        if ended.returncode and "refused:" in ended.stderr:
            raise StepRefused(said)
        assert ended.returncode == 0, said

    def add_access(self, finding: dict[str, Any], step: dict[str, Any]) -> None:
        for number, entry in enumerate(yaml.safe_load(step["text"]) or []):
            # PyYAML takes the key `on` for a boolean; rdsiam doesn't.
            entry["users"] = [
                {"on" if key is True else key: value for key, value in one.items()} for one in entry["users"]
            ]
            self.account.entries[f"remedy of {finding['id']} {number}"] = entry
        self.account.publish_entries()


@pytest.fixture(scope="module")
def fleet(account) -> Fleet:
    made = Fleet(account, account.make_role("spoil-app"))
    made.make()
    return made


def spoil(fleet: Fleet) -> set[tuple[str, str, str | None]]:
    """Spoil the fleet, and return what has to be found: kind, database, user."""
    rds = fleet.account.cloud.client("rds")
    expected: set[tuple[str, str, str | None]] = set()

    # PostgreSQL
    fleet.master(
        PG,
        "CREATE ROLE pw_user LOGIN PASSWORD 'hunter2'",
        "CREATE ROLE by_hand LOGIN",
        "GRANT rds_iam TO by_hand",
        "CREATE ROLE team NOLOGIN",
        "GRANT rds_iam TO team",
        "CREATE ROLE caught LOGIN PASSWORD 'hunter2'",
        "GRANT team TO caught",
        "CREATE ROLE second_boss LOGIN CREATEROLE PASSWORD 'hunter2'",
        "GRANT team TO second_boss",
        "CREATE ROLE vendor LOGIN PASSWORD 'hunter2'",
        "CREATE ROLE vendor_clone LOGIN PASSWORD 'hunter2'",
        "GRANT CREATE ON SCHEMA public TO vendor_clone",
        'CREATE ROLE "bobby""; DROP TABLE" LOGIN PASSWORD \'hunter2\'',
        "CREATE ROLE asleep NOLOGIN PASSWORD 'hunter2'",  # nobody can log in as it: nothing to report
    )
    with fleet.account.connect(fleet.arns[PG], "vendor_clone", "hunter2") as clone:
        clone.run("CREATE TABLE public.of_the_clone (id int)")
    fleet.manager(PG, "ALTER ROLE reader NOLOGIN", "REVOKE shop_readwrite FROM writer")
    fleet.set_parameter("spoil-postgres", "rds.force_ssl", "0")
    expected |= {
        ("user-without-iam", PG, "pw_user"),
        ("user-without-iam", PG, 'bobby"; DROP TABLE'),
        ("undeclared-user", PG, "by_hand"),
        ("group-with-rds-iam", PG, "team"),
        ("user-inherits-rds-iam", PG, "caught"),
        ("administrator-locked-out", PG, "second_boss"),
        ("user-without-iam", PG, "vendor"),
        ("user-without-iam", PG, "vendor_clone"),
        ("objects-owned-by-clone", PG, "vendor_clone"),
        ("missing-user", PG, "reader"),
        ("privileges-differ", PG, "writer"),
        ("tls-not-enforced", PG, None),
    }

    # MariaDB
    fleet.master(
        MY,
        "CREATE USER 'pw_any'@'%' IDENTIFIED BY 'hunter2'",
        "CREATE USER 'pw_local'@'10.0.0.%' IDENTIFIED BY 'hunter2'",
        "CREATE USER `o'brien\\`@'%' IDENTIFIED BY 'hunter2'",
        "CREATE USER 'nobody_asks'@'%'",
        "CREATE USER ''@'10.1.2.3'",
        "CREATE USER 'by_hand'@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL",
        "CREATE USER 'half'@'10.%' IDENTIFIED BY 'hunter2'",
        "CREATE USER 'pooled_pw'@'%' IDENTIFIED BY 'hunter2'",  # behind a classic proxy: nothing to report
        "CREATE USER 'asleep'@'%' IDENTIFIED BY 'hunter2' ACCOUNT LOCK",
        "ALTER USER 'second'@'%' IDENTIFIED VIA AWSAuthenticationPlugin USING 'RDS' "
        "OR mysql_native_password USING PASSWORD('hunter2') REQUIRE SSL",
        "ALTER USER 'plain'@'%' REQUIRE NONE",
        "DROP USER 'gone'@'%'",
        "REVOKE INSERT ON `shop`.* FROM 'writer'@'%'",
    )
    fleet.set_parameter("spoil-mariadb", "require_secure_transport", "0")
    expected |= {
        ("user-without-iam", MY, "pw_any@%"),
        ("user-without-iam", MY, "pw_local@10.0.0.%"),
        ("user-without-iam", MY, "o'brien\\@%"),
        ("user-with-empty-password", MY, "nobody_asks@%"),
        ("anonymous-user", MY, "@10.1.2.3"),
        ("undeclared-user", MY, "by_hand@%"),
        ("user-partly-converted", MY, "half"),
        ("user-with-second-password", MY, "second@%"),
        ("user-without-tls", MY, "plain@%"),
        ("missing-user", MY, "gone"),
        ("privileges-differ", MY, "writer@%"),
        ("tls-not-enforced", MY, None),
    }

    # What RDS says of them
    rds.modify_db_instance(DBInstanceIdentifier=OFF, EnableIAMDatabaseAuthentication=False, ApplyImmediately=True)
    rds.modify_db_instance(DBInstanceIdentifier=PENDING, EnableIAMDatabaseAuthentication=False, ApplyImmediately=False)
    rds.modify_db_instance(DBInstanceIdentifier=SMALL, DBInstanceClass="db.t4g.micro", ApplyImmediately=True)
    rds.stop_db_instance(DBInstanceIdentifier=STOPPED)
    fleet.manager(LOST, "ALTER ROLE rdsiam_auditor NOLOGIN")
    until(lambda: not fleet.account.describe(fleet.arns[OFF])["IAMDatabaseAuthenticationEnabled"], 60)
    until(lambda: fleet.account.describe(fleet.arns[SMALL])["DBInstanceClass"] == "db.t4g.micro", 60)
    fleet.account.wait(fleet.arns[STOPPED], "stopped")
    fleet.account.declare(CL, user("writer", roles=[fleet.role]) | {"on": ["nowhere", "shop"]})
    expected |= {
        ("iam-authentication-off", OFF, None),
        ("iam-authentication-pending", PENDING, None),
        ("instance-too-small", SMALL, None),
        ("database-unreachable", STOPPED, None),
        ("database-unreachable", LOST, None),
        ("declared-database-missing", CL, None),
    }

    # Proxies and secrets
    kept = {name: fleet.secret(f"spoil-{name}", MY, name) for name in ("pooled", "pooled_pw", "second")}
    rds.create_db_proxy(
        DBProxyName="spoil-proxy",
        EngineFamily="MYSQL",
        Auth=[
            {"AuthScheme": "SECRETS", "SecretArn": kept[name], "IAMAuth": "DISABLED"}
            for name in ("pooled", "pooled_pw")
        ],
        RoleArn=fleet.role,
        VpcSubnetIds=[one["SubnetId"] for one in fleet.account.cloud.client("ec2").describe_subnets()["Subnets"]],
        RequireTLS=False,
    )
    rds.register_db_proxy_targets(DBProxyName="spoil-proxy", DBInstanceIdentifiers=[MY])
    stuck = fleet.secret("spoil-stuck", MY, "pw_any")
    fleet.account.cloud.client("secretsmanager").put_secret_value(
        SecretId=stuck, SecretString='{"username": "pw_any"}', VersionStages=["AWSPENDING"]
    )
    expected |= {
        ("proxy-user-with-iam", MY, "pooled@%"),
        ("proxy-without-tls", MY, None),
        ("rotation-stuck", MY, "pw_any"),
    }

    # Policies
    member = rds.describe_db_instances(DBInstanceIdentifier=f"{CL}-writer")["DBInstances"][0]["DbiResourceId"]
    cloud, own = fleet.account.cloud, fleet.resource_id(PG)
    fleet.allow("spoil-anybody", {"Resource": fleet.dbuser("*", "*")})
    fleet.allow("spoil-everything", {"Action": "*", "Resource": "*"})
    fleet.allow("spoil-any-user", {"Resource": fleet.dbuser(own, "*")})
    fleet.allow("spoil-stale", {"Resource": fleet.dbuser("db-ABCDEFGHIJKLMNOPQRSTUVWXYZ", "writer")})
    fleet.allow("spoil-member", {"Resource": fleet.dbuser(member, "writer")})
    fleet.allow("spoil-mixed-up", {"Resource": f"arn:aws:rds:{cloud.region}:{cloud.account}:db:{PG}"})
    fleet.allow("spoil-undeclared", {"Resource": fleet.dbuser(own, "writer")})
    fleet.allow("spoil-case", {"Resource": fleet.dbuser(own, "WRITER")})
    fleet.holders["spoil-app"] = fleet.role
    fleet.allow(
        "spoil-app",
        {"Resource": fleet.dbuser(own, "writer"), "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
    )
    expected |= {
        ("wildcard-connect-policy", "", "spoil-anybody"),
        ("wildcard-connect-policy", "", "spoil-everything"),
        ("wildcard-connect-policy", PG, "spoil-any-user"),
        ("stale-resource-id", "", "spoil-stale"),
        ("member-resource-id", CL, "spoil-member"),
        ("wrong-connect-arn", "", "spoil-mixed-up"),
        ("undeclared-connect-grant", PG, "spoil-undeclared"),
        ("user-name-case", PG, "spoil-case"),
        ("condition-on-connect-policy", PG, "spoil-app"),
    }
    return expected


def test_a_fleet_in_order_gives_nothing_then_all_that_is_spoiled_is_found_and_mended(fleet):
    rds = fleet.account.cloud.client("rds")
    # What rdsiam leaves alone.
    for engine, make in (("neptune", rds.create_db_cluster), ("docdb", rds.create_db_cluster)):
        make(DBClusterIdentifier=f"spoil-{engine}", Engine=engine, MasterUsername="boss", MasterUserPassword="s" * 12)
    fleet.account.create("spoil-oracle", "oracle-ee", LicenseModel="bring-your-own-license")
    assert fleet.short(fleet.findings()) == set()

    expected = spoil(fleet)
    found = fleet.findings()
    missed, surplus = expected - fleet.short(found), fleet.short(found) - expected
    assert not missed, f"not found: {missed}"
    assert not surplus, f"found, though nobody spoiled it: {surplus}"
    assert len({kind for kind, _, _ in expected}) >= 25
    again = fleet.findings()
    assert {one["id"] for one in again} == {one["id"] for one in found}, "the same problem has the same id"
    assert not any("canary-of-the-spoiled" in json.dumps(one) or "hunter2" in json.dumps(one) for one in found)

    # What is mended may bring to light what was hidden behind it: who was an administrator by a group is one with a
    # password now, and a proxy that passes tokens on needs its secrets no more.
    for _ in range(3):
        # Onboarding refuses a server as long as one account stands in its way: once more when all others are mended.
        for finding in [one for one in found if not fleet.mends(one)]:
            fleet.mend(finding)
        rest = fleet.findings()
        assert not {one["id"] for one in found} & {one["id"] for one in rest}, fleet.short(rest)
        found = rest
    assert fleet.short(found) == set()
