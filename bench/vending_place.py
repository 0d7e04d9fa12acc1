"""A cloud with one onboarded database, a user that is vended, and roles that may ask for its tokens."""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcloud.client import RunningCloud

ROOT = Path(__file__).resolve().parent.parent
DATABASE, USER, ROLE = "bench", "app", "bench-caller"


class Place:
    """What the benchmarks of vending need of a cloud."""

    def __init__(self, cloud: RunningCloud) -> None:
        self._cloud = cloud
        self.region, self.api_url = cloud.region, cloud.api_url
        self._make_role()
        self._make_database()

    def caller(self, session: str) -> dict[str, str]:
        """Return credentials of the role that may ask, under a session's name."""
        credentials: dict[str, str] = self._cloud.client("sts").assume_role(
            RoleArn=self._role, RoleSessionName=session
        )["Credentials"]
        return credentials

    def event(self) -> dict[str, Any]:
        """Return what API Gateway hands VendFunction for one request."""
        event: dict[str, Any] = json.loads((ROOT / "events" / "tokens-post.json").read_text())
        iam = event["requestContext"]["authorizer"]["iam"]
        iam["userArn"] = f"arn:aws:sts::{self._cloud.account}:assumed-role/{ROLE}/bench"
        return event | {"body": json.dumps({"database": DATABASE, "user": USER})}

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of VendFunction, its role's credentials too, once it has run."""
        name = self._cloud.functions["VendFunction"].partition(":")[0]
        for file in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
                pairs = (pair.partition("=") for pair in file.read_text(errors="replace").split("\0") if pair)
                found = {key: value for key, _, value in pairs}
                ours = found.get("AWS_ENDPOINT_URL") == self._cloud.endpoint
                if ours and found.get("AWS_LAMBDA_FUNCTION_NAME") == name and "AWS_LAMBDA_RUNTIME_API" in found:
                    return {key: value for key, value in found.items() if key.startswith(_KEPT)}
        raise RuntimeError("VendFunction has not run")

    def _make_role(self) -> None:
        iam = self._cloud.client("iam")
        trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{self._cloud.account}:root"}}
        ask = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}
        self._role = iam.create_role(
            RoleName=ROLE, AssumeRolePolicyDocument=_policy(trust | {"Action": "sts:AssumeRole"})
        )["Role"]["Arn"]
        iam.put_role_policy(RoleName=ROLE, PolicyName="ask", PolicyDocument=_policy(ask))

    def _make_database(self) -> None:
        declared = {"name": USER, "privileges": "readonly", "on": ["shop"], "callers": [{"role": self._role}]}
        entries = [{"match": {"identifier": DATABASE}, "users": [declared]}]
        # JSON is YAML.
        self._cloud.client("s3").put_object(
            Bucket=self._cloud.outputs["AccessBucket"],
            Key="access.yaml",
            Body=json.dumps({"version": 1, "databases": entries}).encode(),
        )
        arn = self._cloud.client("rds").create_db_instance(
            DBInstanceIdentifier=DATABASE, Engine="postgres", DBInstanceClass="db.t4g.medium", AllocatedStorage=20,
            MasterUsername="boss", ManageMasterUserPassword=True, DBName="shop",
        )["DBInstance"]["DBInstanceArn"]  # fmt: skip
        inventory, dynamodb = self._cloud.outputs["InventoryTable"], self._cloud.client("dynamodb")
        for _ in range(900):
            item = dynamodb.get_item(TableName=inventory, Key={"database": {"S": arn}}).get("Item", {})
            if item.get("finished", {}).get("BOOL"):
                return
            time.sleep(0.1)
        raise RuntimeError(f"{arn} was not onboarded within 90 s")


_KEPT = (
    "AWS_ACCESS",
    "AWS_SECRET",
    "AWS_SESSION",
    "AWS_REGION",
    "AWS_DEFAULT",
    "AWS_ENDPOINT",
    "RDSIAM_",
    "POWERTOOLS_",
)


def _policy(statement: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
