"""`make deploy` asks two questions, keeps the answers in samconfig.toml, and calls the SAM CLI."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

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


def deploy(folder: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "scripts" / "deploy"), *arguments]
    return subprocess.run(command, input=typed, capture_output=True, text=True, check=False, timeout=30)


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
    assert second.stderr == ""
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
