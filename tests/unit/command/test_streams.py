"""The command's streams: readers that leave, full disks, closed streams, interrupts. Real processes of the command."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = f"{sys.executable} -m rdsiam.command"
TOKEN = "token --host orders.c9akciq32.eu-central-1.rds.amazonaws.com --port 5432 --user app"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "eu-central-1"}


def environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path), **KEYS}


def shell(line: str, home: Path) -> "subprocess.CompletedProcess[str]":
    script = f'set -o pipefail\nrdsiam() {{ {COMMAND} "$@"; }}\n{line}'
    return subprocess.run(
        ["/bin/bash", "-c", script], env=environment(home), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "line",
    [
        "rdsiam access schema | head -1",
        f"rdsiam {TOKEN} | true",
        pytest.param("rdsiam access schema --help | true", marks=pytest.mark.exhaustive),
        pytest.param("rdsiam env --unset | (exec <&-; true)", marks=pytest.mark.exhaustive),
    ],
)
def test_a_reader_that_leaves_ends_the_output_and_changes_no_exit_code(tmp_path, line):
    done = shell(line, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "line",
    [
        "rdsiam access schema",
        f"rdsiam {TOKEN}",
        pytest.param("rdsiam --help", marks=pytest.mark.exhaustive),
        pytest.param("rdsiam env --unset", marks=pytest.mark.exhaustive),
    ],
)
def test_a_full_disk_is_an_error_of_one_line(tmp_path, line):
    done = shell(f"{line} > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (1, "rdsiam: output: No space left on device [unexpected]\n")


@pytest.mark.parametrize(
    "redirection",
    [
        "2>/dev/full",
        "<&- >&- 2>&-",
        pytest.param("2>&-", marks=pytest.mark.exhaustive),
        pytest.param(">&- 2>&-", marks=pytest.mark.exhaustive),
    ],
)
def test_lines_for_people_that_can_not_be_written_change_no_exit_code(tmp_path, redirection):
    assert shell(f"rdsiam nosuch {redirection}", tmp_path).returncode == 2
    assert shell(f"rdsiam {TOKEN} --region eu-west-1 {redirection}", tmp_path).returncode == 0


def test_a_character_that_the_terminal_does_not_know_is_escaped(tmp_path):
    done = shell("PYTHONIOENCODING=latin-1 rdsiam doctor --error 'FATAL: PAM authentication failed'", tmp_path)
    assert (done.returncode, done.stderr) == (3, "")
    assert "\\u2192" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["ls"], ["doctor", "orders", "app"], pytest.param(["onboard", "orders"], marks=pytest.mark.exhaustive)],
    ids=str,
)
def test_an_interrupt_ends_a_waiting_command_without_a_traceback(tmp_path, arguments):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "rdsiam.command", *arguments],
            env={**environment(tmp_path), "AWS_ENDPOINT_URL": address, "RDSIAM_API_URL": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        connection.close()
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "rdsiam: interrupted"


def test_an_interrupt_while_the_command_loads_leaves_no_traceback(tmp_path):
    for pause in (0.06, 0.15, 0.3):
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import time; import rdsiam.command; print('up', flush=True); rdsiam.command.main()",
            ],
            env={**environment(tmp_path), "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        process.stdout.readline()
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert "Traceback" not in err
        assert process.returncode != 1
