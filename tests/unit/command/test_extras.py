"""The command without the packages of the extras."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: Packages that the base does without.
BEYOND_THE_BASE = (
    "aws_durable_execution_sdk_python",
    "aws_lambda_powertools",
    "boto3",
    "psycopg",
    "pydantic",
    "pymysql",
    "sqlalchemy",
    "typing_extensions",
    "yaml",
)
_HIDE = f"import sys; sys.modules.update(dict.fromkeys({BEYOND_THE_BASE}));"


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"{_HIDE} {code}"],
        env={"PYTHONPATH": f"{ROOT / 'layers' / 'rdsiam'}:{ROOT}", "AWS_CONFIG_FILE": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )


def rdsiam(*words: str) -> subprocess.CompletedProcess[str]:
    return python(f"sys.argv[1:] = {list(words)}; from rdsiam.command import main; main()")


@pytest.mark.parametrize("words", [["validate", "access.yaml"], ["publish", "a.yaml", "--plan"], ["--help"], []])
def test_a_command_of_an_extra_says_which_to_install(words):
    done = rdsiam("access", *words)
    expected = "rdsiam: pydantic is not installed; pip install 'rdsiam[access]' [extra-missing]\n"
    assert (done.returncode, done.stdout, done.stderr) == (5, "", expected)


def test_help_lists_every_command_without_the_extras():
    done = rdsiam("--help")
    assert done.returncode == 0, done.stderr
    assert "access      Not installed: pip install 'rdsiam[access]'" in done.stdout
    assert "psql" in done.stdout


_OTHERS = (
    "audit completion config decisions doctor env exec ls migrate mysql onboard psql reconcile revoke rotate token"
)


@pytest.mark.parametrize("command", _OTHERS.split())
def test_other_commands_need_the_base_only(command):
    done = rdsiam(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: rdsiam {command} ")


_DIAGNOSE = """
from botocore.exceptions import NoCredentialsError
from dataclasses import replace
from rdsiam.doctor.case import LoginCase
from rdsiam.doctor.checks import diagnose
from rdsiam.signer import Credentials
from tests.unit.databases import ORDERS
def client(service):
    raise NoCredentialsError
database = replace(ORDERS, engine=sys.argv[1], host="localhost", port=1)
for row in diagnose(LoginCase(database, "app", client, Credentials("AKIDEXAMPLE", "key"), None, "eu-west-1")):
    print(row.check, row.state, row.detail, row.fix, sep=": ")
"""


@pytest.mark.parametrize(
    ("engine", "extra", "package"), [("postgres",) * 2 + ("psycopg",), ("mariadb", "mysql", "pymysql")]
)
def test_the_doctor_works_without_drivers_and_names_the_one_that_a_login_needs(engine, extra, package):
    done = python(f"sys.argv[1:] = [{engine!r}]\n{_DIAGNOSE}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "database: OK" in lines[0]
    assert "name: OK" in lines[1]
    assert f"login: UNKNOWN: {package} is not installed: pip install 'rdsiam[{extra}]'" in lines
