"""A shell in which remediations are run as they are printed, by an administrator of localcloud's account."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.integration.account import Account

_ROOT = Path(__file__).parents[3]


def in_shell(account: Account, text: str) -> "subprocess.CompletedProcess[str]":
    """Run the text with the AWS CLI and the rdsiam command."""
    cloud = account.cloud
    credentials = cloud.info["credentials"]
    environment = {
        "PATH": f"{_ROOT / '.venv/bin'}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/"),
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "AWS_REGION": cloud.region,
        "AWS_DEFAULT_REGION": cloud.region,  # for the AWS CLI's first version
        "AWS_ACCESS_KEY_ID": credentials["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": credentials["secret_access_key"],
        "PYTHONPATH": str(_ROOT / "layers/rdsiam"),
        "RDSIAM_ONBOARD_FUNCTION": cloud.functions["OnboardFunction"],
        "RDSIAM_MIGRATE_FUNCTION": cloud.functions["MigrateFunction"],
        "RDSIAM_SECRETS_FUNCTION": cloud.functions["SecretsFunction"],
        "RDSIAM_AUDIT_FUNCTION": cloud.functions["AuditFunction"],
    }
    rdsiam = f"rdsiam() {{ {shlex.quote(sys.executable)} -c 'from rdsiam.command import main; main()' \"$@\"; }}"
    return subprocess.run(
        ["bash", "-c", f"{rdsiam}\n{text}"],  # noqa: S607
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
