"""`scripts/progress`: a command that says nothing for minutes is reported while it runs, and changes in nothing."""

import os
import subprocess
import time

import pytest

from tests.documented import ROOT


def run(*command: str, **options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["scripts/progress", "making something", *command],  # noqa: S607  of this project
        cwd=ROOT, env={"PATH": os.environ["PATH"], "PROGRESS_SECONDS": "0.2", **options},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_a_long_command_is_reported_while_it_runs():
    done = run("sh", "-c", "sleep 0.9; echo data")
    first, *others = done.stderr.splitlines()
    assert (done.returncode, done.stdout, first) == (0, "data\n", "setup: making something …")
    assert len(others) >= 2
    assert all(line.startswith("setup: still making something, for ") for line in others)


@pytest.mark.parametrize("code", [0, 1, 7])
def test_the_exit_code_is_the_commands(code):
    done = run("sh", "-c", f"echo why >&2; exit {code}")
    assert done.returncode == code
    assert done.stderr.splitlines() == ["setup: making something …", "why"]


def test_whoever_reads_the_output_waits_for_the_command_only():
    began = time.monotonic()
    run("true", PROGRESS_SECONDS="20")
    assert time.monotonic() - began < 10
