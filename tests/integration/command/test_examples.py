"""Every example that can be run here, against the databases of localcloud, as the role that may sign for the user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import node_packages

EXAMPLES = Path(__file__).parents[3] / "examples"
NODE = EXAMPLES / "node"


@pytest.fixture
def environment(account, place, tmp_path):
    """Return the environment of an application of the role that may sign for `app2`."""

    def of(engine: str) -> dict[str, str]:
        endpoint = account.describe(place["arns"][engine])["Endpoint"]
        keys = account.assume(place["signing"])
        bin_ = tmp_path / "bin"
        bin_.mkdir(exist_ok=True)
        (bin_ / "rdsiam").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rdsiam.command "$@"\n')
        (bin_ / "rdsiam").chmod(0o755)
        return {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
            "DB_HOST": endpoint["Address"],
            "DB_PORT": str(endpoint["Port"]),
            "DB_USER": "app2",
            "DB_NAME": "shop",
            "DB_REGION": account.cloud.region,
            "DB_CA": str(account.cloud.ca),
            "RDSIAM_CA": str(account.cloud.ca),
        }

    return of


def prints(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "X-Amz" not in done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("example", "engine", "more"),
    [
        ("with_psycopg.py", "postgres", {}),
        ("with_sqlalchemy.py", "postgres", {"DB_DRIVER": "postgresql+psycopg"}),
        ("with_sqlalchemy.py", "mariadb", {"DB_DRIVER": "mysql+pymysql"}),
        ("with_pymysql.py", "mariadb", {}),
    ],
)
def test_python(environment, example, engine, more):
    command = [sys.executable, str(EXAMPLES / "python" / example)]
    assert prints(command, environment(engine) | more).startswith("app2")


@pytest.mark.parametrize(("example", "engine"), [("with_pg.mjs", "postgres"), ("with_mysql2.mjs", "mariadb")])
def test_node(environment, example, engine):
    done = node_packages.run(NODE / example, **environment(engine))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("app2")
    assert "X-Amz" not in done.stdout + done.stderr


def test_shell(environment):
    told = environment("postgres")
    arguments = [told[f"DB_{name}"] for name in ("HOST", "PORT", "USER", "NAME", "REGION", "CA")]
    assert prints([str(EXAMPLES / "shell" / "login.sh"), *arguments], told) == "app2"


def test_every_example_is_short():
    for path in EXAMPLES.rglob("*.*"):
        if path.suffix in {".py", ".mjs", ".sh", ".java", ".go"} and "node_modules" not in path.parts:
            assert len(path.read_text().splitlines()) <= 40, path


def test_examples_that_are_not_run_say_so():
    for path in (EXAMPLES / "java" / "HikariTokens.java", EXAMPLES / "go" / "main.go"):
        assert "Not run by the tests." in path.read_text()
