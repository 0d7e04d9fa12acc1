"""The command without the packages of the extras."""

import json
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


_OTHERS = (
    "audit completion config decisions doctor env exec ls migrate mysql onboard psql reconcile revoke rotate token"
)
_OF_AN_EXTRA = [["validate", "access.yaml"], ["publish", "a.yaml", "--plan"], ["--help"], []]
#: Runs command lines one after the other, and prints exit code, output and errors of each.
_RUN = """
import contextlib, io, json
from rdsiam.command.app import run
answers = []
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    code, streams = 0, (io.StringIO(), io.StringIO())
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            run()
        except SystemExit as end:
            code = end.code or 0
    answers.append((code, *(stream.getvalue() for stream in streams)))
print(json.dumps(answers))
"""


class Rdsiam:
    """The command in a process without the packages."""

    def __init__(self) -> None:
        self._lines = [["--help"], *([name, "--help"] for name in _OTHERS.split())]
        self._lines += [["access", *words] for words in _OF_AN_EXTRA]
        done = python(f"sys.argv[1:] = [{json.dumps(self._lines)!r}]\n{_RUN}")
        assert done.returncode == 0, done.stderr
        self._answers = json.loads(done.stdout)

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Return exit code, output and errors of a command line."""
        code, out, err = self._answers[self._lines.index([*words])]
        return code, out, err


@pytest.fixture(scope="module")
def rdsiam() -> Rdsiam:
    return Rdsiam()


@pytest.mark.parametrize("words", _OF_AN_EXTRA)
def test_a_command_of_an_extra_says_which_to_install(rdsiam, words):
    expected = "rdsiam: pydantic is not installed; pip install 'rdsiam[access]' [extra-missing]\n"
    assert rdsiam("access", *words) == (5, "", expected)


def test_help_lists_every_command_without_the_extras(rdsiam):
    code, out, err = rdsiam("--help")
    assert code == 0, err
    assert "access      Not installed: pip install 'rdsiam[access]'" in out
    assert "psql" in out


@pytest.mark.parametrize("command", _OTHERS.split())
def test_other_commands_need_the_base_only(rdsiam, command):
    code, out, err = rdsiam(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: rdsiam {command} ")


def test_a_process_of_the_command_needs_the_base_only():
    done = python("sys.argv[1:] = ['psql', '--help']; from rdsiam.command import main; main()")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: rdsiam psql ")


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
