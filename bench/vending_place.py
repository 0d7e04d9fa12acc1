"""A cloud with one onboarded database, a user that is vended, and a role that may ask for its tokens."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demo.first_login import DATABASE, ROLE, ROOT, USER, make_database, make_role
from localcloud.client import RunningCloud

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


class Place:
    """The cloud that the benchmarks of vending need."""

    def __init__(self, cloud: RunningCloud) -> None:
        self._cloud = cloud
        self.region, self.api_url = cloud.region, cloud.api_url
        self.body = json.dumps({"database": DATABASE, "user": USER})
        self._role = make_role(cloud.client, cloud.account)
        make_database(cloud.client, cloud.info, self._role)

    def caller(self, session: str) -> dict[str, str]:
        """Return credentials of the role that may ask, under a session's name."""
        sts = self._cloud.client("sts")
        credentials: dict[str, str] = sts.assume_role(RoleArn=self._role, RoleSessionName=session)["Credentials"]
        return credentials

    def event(self) -> dict[str, Any]:
        """Return what API Gateway hands VendFunction for one request."""
        event: dict[str, Any] = json.loads((ROOT / "events" / "tokens-post.json").read_text())
        iam = event["requestContext"]["authorizer"]["iam"]
        iam["userArn"] = f"arn:aws:sts::{self._cloud.account}:assumed-role/{ROLE}/bench"
        return event | {"body": self.body}

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of VendFunction, its role's credentials too, once it has run."""
        name = self._cloud.functions["VendFunction"].partition(":")[0]
        for file in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
                pairs = (pair.partition("=") for pair in file.read_text(errors="replace").split("\0") if pair)
                found = {key: value for key, _, value in pairs}
                own = found.get("AWS_ENDPOINT_URL") == self._cloud.endpoint
                if own and found.get("AWS_LAMBDA_FUNCTION_NAME") == name and "AWS_LAMBDA_RUNTIME_API" in found:
                    return {key: value for key, value in found.items() if key.startswith(_KEPT)}
        raise RuntimeError("VendFunction has not run")
