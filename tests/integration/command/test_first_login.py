"""From `make local` to `psql` as a newcomer does it: the README's three commands, in a fresh shell."""

import os
import re
import subprocess

from tests.documented import ROOT, blocks_of

QUESTION = "SELECT session_user, current_user;"


def commands() -> list[str]:
    """Return the commands of the README."""
    (block,) = (block for block in blocks_of(ROOT / "README.md") if "make -s login" in block.text)
    return block.commands()


def test_three_commands_lead_to_a_login_without_a_password(tmp_path):
    local, login, psql = commands()
    file = tmp_path / "cloud.json"
    script = f"""
set -u
trap 'kill %1; wait' EXIT
{local.replace("cloud.json", str(file))}
{login}
{psql} <<<'{QUESTION}'
"""
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CLOUD": str(file)},
        cwd=ROOT, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"app_service *\| shop_owner", done.stdout), done.stdout + done.stderr
    assert "X-Amz-Signature" not in done.stdout + done.stderr
    assert "Password" not in done.stdout + done.stderr


def test_a_missing_cloud_is_named(tmp_path):
    file = tmp_path / "cloud.json"
    keys = '{"access_key_id": "a", "secret_access_key": "b"}'
    file.write_text(
        f'{{"aws_endpoint_url": "http://127.0.0.1:9", "region": "eu-west-1", "account": "1", "credentials": {keys}}}\n'
    )
    done = subprocess.run(
        ["/usr/bin/env", "make", "-s", "login"], env={"PATH": os.environ["PATH"], "CLOUD": str(file)},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stdout == ""
    assert "nothing answers at http://127.0.0.1:9: run `make local >" in done.stderr
