"""The demo's lines, and the wait of `make login`."""

import subprocess
import sys
from pathlib import Path

import pytest

from demo import first_login, operator_shell
from demo.__main__ import steps

ARN = "arn:aws:rds:eu-central-1:123456789012:db:orders-pg"


def test_each_step_of_a_database_is_printed_once_and_on_one_line():
    lines = [
        f"described {ARN}: available",
        f"described {ARN}: available",
        "described arn:aws:rds:eu-central-1:123456789012:db:other: available",
        f"create-auditor on {ARN} as manager: CREATE PROCEDURE audit() BEGIN\n    SELECT 1;\nEND",
        f"described {ARN}: available",
        f"onboarded {ARN}",
    ]

    assert steps(lines, ARN) == [
        f"described {ARN}: available",
        f"create-auditor on {ARN} as manager: CREATE PROCEDURE audit() BEGIN …",
        f"onboarded {ARN}",
    ]


def test_login_ends_if_the_cloud_has_ended_without_a_line(tmp_path):
    file = tmp_path / "cloud.json"
    file.write_text("")

    with pytest.raises(SystemExit, match=r"`make local > cloud.json` ended without a cloud"):
        first_login.wait_for(file)


def test_login_waits_while_a_program_has_the_file_open(tmp_path, monkeypatch):
    file = tmp_path / "cloud.json"
    program = "import sys, time; time.sleep(1); print('{}', flush=True)"
    with file.open("w") as output:
        child = subprocess.Popen([sys.executable, "-c", program], stdout=output)
    try:
        assert first_login.wait_for(file) == {}
    finally:
        child.wait()


def test_login_waits_for_a_file_that_is_not_there_yet(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(first_login, "_MISSING_LIMIT", 0.3)

    with pytest.raises(SystemExit, match=r"there is no .*: run `make local > cloud.json &` in this folder first"):
        first_login.wait_for(Path(tmp_path / "cloud.json"))

    assert capsys.readouterr().err.count("waiting for") == 1


def test_login_ends_after_some_minutes_with_an_empty_file(tmp_path, monkeypatch):
    monkeypatch.setattr(first_login, "_LIMIT", 0.3)
    file = tmp_path / "cloud.json"

    with file.open("w"), pytest.raises(SystemExit, match=r"does `make local > cloud.json` run"):
        first_login.wait_for(file)


@pytest.mark.parametrize("text", ["{\n", "make: *** No rule to make target 'local'.\n", "\n"])
def test_login_says_that_a_file_is_not_the_cloud_s(tmp_path, text):
    file = tmp_path / "cloud.json"
    file.write_text(text)

    with pytest.raises(SystemExit, match=r"is not the line that `make local > cloud.json` prints"):
        first_login.wait_for(file)


def test_no_shell_becomes_the_operator_of_a_cloud_that_has_ended(tmp_path, monkeypatch, capsys):
    file = tmp_path / "cloud.json"
    file.write_text('{"aws_endpoint_url": "http://127.0.0.1:9"}\n')
    monkeypatch.setattr(sys, "argv", ["operator_shell", str(file)])

    with pytest.raises(SystemExit, match=r"nothing answers at http://127.0.0.1:9: run `make local > .*cloud.json`"):
        operator_shell.main()

    assert capsys.readouterr().out == ""
