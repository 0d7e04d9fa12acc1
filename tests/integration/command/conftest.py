"""The `rdsiam` command as a process of its own, with the rights of a role."""

import os
import sys

import pytest

from tests.integration import commands


@pytest.fixture
def rdsiam(account, place, tmp_path):
    """Run the command with the credentials of a role; the administrator's where none is named."""

    def run(*arguments: str, role: str | None = None, input: str = "", **environment: str):
        cloud = account.cloud
        own = cloud.info["credentials"]
        keys = {"AWS_ACCESS_KEY_ID": own["access_key_id"], "AWS_SECRET_ACCESS_KEY": own["secret_access_key"]}
        if role is not None:
            got = account.assume(place[role])
            keys = {"AWS_ACCESS_KEY_ID": got["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": got["SecretAccessKey"]}
            keys["AWS_SESSION_TOKEN"] = got["SessionToken"]
        return commands.run(
            arguments,
            {
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "PYTHONPATH": os.pathsep.join(sys.path),
                "AWS_ENDPOINT_URL": cloud.endpoint,
                "AWS_DEFAULT_REGION": cloud.region,
                "AWS_EC2_METADATA_DISABLED": "true",
                "RDSIAM_API_URL": cloud.api_url,
                "RDSIAM_CA": str(cloud.ca),
                **keys,
                **environment,
            },
            limit=120,
            given=input,
            directory=tmp_path,
        )

    return run
