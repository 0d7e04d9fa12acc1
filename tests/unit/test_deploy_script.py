"""`make deploy` shows the account, asks two questions, keeps the answers in samconfig.toml, and calls the SAM CLI."""

import contextlib
import io
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.documented import ROOT
from tests.unit.template import SAM

PIPELINE = "arn:aws:iam::123456789012:role/pipeline"
PLATFORM = "arn:aws:iam::123456789012:role/platform/team"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the script, the settings, and a `sam` that writes its arguments down."""
    sam = tmp_path / ".venv" / "sam" / "bin" / "sam"
    sam.parent.mkdir(parents=True)
    sam.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n[ ! -e {tmp_path}/"$1"-fails ]\n')
    sam.chmod(0o755)
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/deploy", "samconfig.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


class SecurityTokenService(BaseHTTPRequestHandler):
    """STS that knows one caller."""

    def do_POST(self) -> None:
        body = (
            b"<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account>"
            b"<Arn>arn:aws:iam::123456789012:user/ann</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>"
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def sts() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), SecurityTokenService) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def settings_of_aws(folder: Path, sts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(folder),
        "AWS_ENDPOINT_URL": sts,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


class Done(NamedTuple):
    """A finished run of the script."""

    returncode: int
    stdout: str
    stderr: str


def deploy(folder: Path, *arguments: str, typed: str = "") -> Done:
    """Run the script in this process, as Python does: one of its own would take longer to start than to run."""
    script, out, err, code = str(folder / "scripts" / "deploy"), io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", [script, *arguments])
        patch.setattr(sys, "stdin", io.StringIO(typed))
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
            if isinstance(end.code, str):
                err.write(f"{end.code}\n")
    return Done(code, out.getvalue(), err.getvalue())


def calls(folder: Path) -> list[str]:
    file = folder / "calls"
    return file.read_text().splitlines() if file.exists() else []


def overrides(folder: Path, name: str = "default") -> list[str]:
    parameters = tomllib.loads((folder / "samconfig.toml").read_text())[name]["deploy"]["parameters"]
    return list(parameters["parameter_overrides"])


def test_two_questions_are_asked_once(folder):
    first = deploy(folder, typed=f"{PIPELINE}\n{PLATFORM}, {PIPELINE}\n")
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("?") == 2
    assert overrides(folder) == [f"Publishers={PIPELINE}", f"Operators={PLATFORM},{PIPELINE}"]
    second = deploy(folder)
    assert second.returncode == 0
    assert second.stderr == (
        "account 123456789012, region eu-west-1, stack rdsiam; you are arn:aws:iam::123456789012:user/ann\n"
    )
    assert calls(folder) == ["build --config-env default", "deploy --config-env default"] * 2


def test_the_parameters_without_a_default_are_those_that_are_asked_for():
    assert [name for name, parameter in SAM["Parameters"].items() if "Default" not in parameter] == [
        "Publishers",
        "Operators",
    ]
    (pattern,) = re.findall(r"\^arn:aws.*?\$", (ROOT / "scripts" / "deploy").read_text())
    assert {SAM["Parameters"][name]["AllowedPattern"] for name in ("Publishers", "Operators")} == {pattern}


@pytest.mark.parametrize("wrong", ["", "me", "123456789012", "arn:aws:iam::1:role/a", f"{PIPELINE},", f'{PIPELINE}"'])
def test_a_wrong_answer_is_asked_for_again(folder, wrong):
    done = deploy(folder, typed=f"{wrong}\n{PIPELINE}\n{PLATFORM}\n")
    assert done.returncode == 0
    assert "not the ARN of a role or user" in done.stderr
    assert overrides(folder) == [f"Publishers={PIPELINE}", f"Operators={PLATFORM}"]


@pytest.mark.parametrize("typed", ["", f"{PIPELINE}\n", "me\n"])
def test_without_answers_nothing_is_deployed_or_written(folder, typed):
    done = deploy(folder, typed=typed)
    assert done.returncode == 1
    assert "nothing was deployed: " in done.stderr
    assert calls(folder) == []
    assert (folder / "samconfig.toml").read_text() == (ROOT / "samconfig.toml").read_text()


@pytest.mark.parametrize("name", ["default", "dev", "prod"])
def test_the_rest_of_the_settings_stays(folder, name):
    before = overrides(folder, name)
    assert deploy(folder, name, typed=f"{PIPELINE}\n{PLATFORM}\n").returncode == 0
    assert overrides(folder, name) == [f"Publishers={PIPELINE}", f"Operators={PLATFORM}", *before]
    changed = (folder / "samconfig.toml").read_text().splitlines()
    assert [line for line in changed if "arn:aws" not in line] == (ROOT / "samconfig.toml").read_text().splitlines()
    assert calls(folder) == [f"build --config-env {name}", f"deploy --config-env {name}"]


def test_settings_without_a_list_get_one(folder):
    file = folder / "samconfig.toml"
    file.write_text(file.read_text().replace("parameter_overrides = [\n]\n", "", 1))
    assert deploy(folder, typed=f"{PIPELINE}\n{PLATFORM}\n").returncode == 0
    assert overrides(folder) == [f"Publishers={PIPELINE}", f"Operators={PLATFORM}"]


def test_settings_as_sam_writes_them_are_left_alone(folder):
    file = folder / "samconfig.toml"
    text = file.read_text().replace("parameter_overrides = [\n]\n", 'parameter_overrides = "LogLevel=DEBUG"\n', 1)
    file.write_text(text)
    done = deploy(folder, typed=f"{PIPELINE}\n{PLATFORM}\n")
    assert done.returncode == 2
    assert "write parameter_overrides of default as a list" in done.stderr
    assert file.read_text() == text


@pytest.mark.parametrize("arguments", [("nothing",), ("--guided",), ("dev", "prod")])
def test_wrong_arguments_are_explained(folder, arguments):
    done = deploy(folder, *arguments)
    assert done.returncode == 2
    assert "default" in done.stderr
    assert calls(folder) == []


@pytest.mark.parametrize(("step", "ran"), [("build", 1), ("deploy", 2)])
def test_a_step_that_fails_ends_it(folder, step, ran):
    (folder / f"{step}-fails").touch()
    assert deploy(folder, typed=f"{PIPELINE}\n{PLATFORM}\n").returncode == 1
    assert len(calls(folder)) == ran


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"AWS_DEFAULT_REGION": ""}, "no region"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "Unable to locate credentials"),
        ({"AWS_PROFILE": "none"}, "The config profile (none) could not be found"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect"),
    ],
)
def test_missing_credentials_are_noticed_before_the_questions(folder, monkeypatch, settings, problem):
    for name, value in settings.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    done = deploy(folder, typed=f"{PIPELINE}\n{PLATFORM}\n")
    assert done.returncode == 1
    assert done.stderr.startswith(f"nothing was deployed: {problem}")
    assert "?" not in done.stderr
    assert calls(folder) == []
    assert (folder / "samconfig.toml").read_text() == (ROOT / "samconfig.toml").read_text()


def test_region_and_stack_are_those_of_the_environment_s_settings(folder):
    file = folder / "samconfig.toml"
    file.write_text(file.read_text().replace('stack_name = "rdsiam-dev"', 'stack_name = "try"\nregion = "eu-south-2"'))
    done = deploy(folder, "dev", typed=f"{PIPELINE}\n{PLATFORM}\n")
    assert done.stderr.startswith("account 123456789012, region eu-south-2, stack try; ")


def test_an_interrupt_at_a_question_shows_no_traceback(folder):
    command = [sys.executable, str(folder / "scripts" / "deploy")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("account ")
        assert process.stderr.readline().startswith("Which roles")
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert calls(folder) == []


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_is_no_error(folder, word):
    done = deploy(folder, word)
    assert (done.returncode, done.stdout) == (0, "usage: scripts/deploy [default | dev | prod]\n")


def test_deploying_needs_no_database_server_and_no_browser():
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.split("\ndeploy:")[1].split("\n\n")[0]
    assert "scripts/setup --for-deploy" in recipe
    assert "setup" not in recipe.splitlines()[0].split("##")[0]
    setup = (ROOT / "scripts" / "setup").read_text()
    assert setup.index("!= --for-deploy ] || exit 0") < setup.index("\ninstall_from_the_system\n")
