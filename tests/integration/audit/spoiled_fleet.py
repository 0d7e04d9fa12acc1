"""A fleet that tests spoil by hand, and whose remedies are run as they are printed."""

import copy
import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.integration.account import Account
from tests.integration.audit.shell import in_shell

PG, MY, CL = "spoil-pg", "spoil-my", "spoil-cl"
OFF, PENDING, STOPPED, LOST, SMALL = "spoil-off", "spoil-pending", "spoil-stopped", "spoil-lost", "spoil-small"


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

    # --- remediation ---

    def mend(self, finding: dict[str, Any]) -> None:
        """Run a way of a finding's remedies as it is printed: the first that ends the finding at once."""
        ways = sorted({step["way"] for step in finding["remediation"]})
        # A migration takes days, and a rotation keeps the password; both have tests of their own. What interrupts
        # clients waits for the maintenance window first.
        number = {"user-without-iam": ways[-1], "user-with-empty-password": ways[-1], "instance-too-small": 2}
        for step in finding["remediation"]:
            if step["way"] == number.get(finding["kind"], 1):
                {"sql": self.run_sql, "cli": self.run_cli, "access": self.add_access}[step["language"]](finding, step)

    def mends(self, finding: dict[str, Any]) -> bool:
        """Return whether the remediation succeeds."""
        try:
            self.mend(finding)
        except StepRefused:
            return False
        return True

    def run_sql(self, finding: dict[str, Any], step: dict[str, Any]) -> None:
        name = next(name for name, arn in self.arns.items() if arn == finding["database"])
        run = self.manager if step["user"] == "rdsiam_manager" else self.master
        run(name, step["text"], database=step["database"] or "shop")

    def run_cli(self, finding: dict[str, Any], step: dict[str, Any]) -> None:
        ended = in_shell(self.account, step["text"])
        said = f"{finding['kind']}: {step['text']}\n{ended.stdout}\n{ended.stderr}"
        if ended.returncode and "refused:" in ended.stderr:
            raise StepRefused(said)
        assert ended.returncode == 0, said

    def add_access(self, finding: dict[str, Any], step: dict[str, Any]) -> None:
        for number, entry in enumerate(yaml.safe_load(step["text"]) or []):
            # PyYAML takes the key `on` for a boolean; rdsiam doesn't.
            entry["users"] = [
                {"on" if key is True else key: value for key, value in one.items()} for one in entry.get("users", [])
            ]
            self.account.entries[f"remedy of {finding['id']} {number}"] = entry
        self.account.publish_entries()
