"""Lines for people: wrapped to their terminal, while commands, SQL and entries of access.yaml stay whole."""

import contextlib
import io
import os
import pty

import pytest

from rdsiam.command import wrapping
from rdsiam.command.app import app
from rdsiam.command.doctor import doctor
from rdsiam.command.output import progress
from rdsiam.command.tables import width


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def of_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


SENTENCE = "a role that no entry names gets no token, whatever it asks for, and its denial is recorded with its caller"


@pytest.mark.parametrize("text", [SENTENCE, f"refused: {SENTENCE}; {SENTENCE} [not-allowed]", f"  → {SENTENCE}"])
def test_a_text_fits_the_terminal_and_loses_no_word(text):
    shown = wrapping.lines(text, Terminal())
    assert max(map(width, shown)) <= 80
    assert " ".join(shown).split() == text.split()
    assert len(shown) > 1


@pytest.mark.parametrize(
    "whole",
    [
        "rdsiam rotate set-up orders-production-eu-west-1 legacy_etl --secret arn:aws:secretsmanager:x --confirm",
        'rdsiam revoke orders app_service --reason "key leaked; see TICKET-7, and the log" --plan',
        "aws lambda get-durable-execution --durable-execution-arn arn:aws:lambda:eu-central-1:123456789012:function:x",
        "ALTER ROLE legacy_application_user NOLOGIN",
        "`rdsiam access publish access.yaml --yes`",
        '{name: "app_iam", replaces: "app", roles: [], privileges: readonly, on: [shop, archive]}',
        "make login",
        "pip install rdsiam[access]",
    ],
)
@pytest.mark.parametrize("words", range(1, 14, 3))
def test_a_command_in_a_text_stays_on_one_line(whole, words):
    text = f"{' '.join(['words'] * words)}: {whole}; and so on with some more words until the line is over [code]"
    shown = wrapping.lines(text, Terminal())
    assert any(whole in line for line in shown)
    assert all(width(line) <= 80 for line in shown if whole not in line)
    beside = wrapping.beside("FAIL    IAM permission      ", text, Terminal())
    assert any(whole in line for line in beside)


@pytest.mark.parametrize("entry", [f"  - match: {{}} # {SENTENCE}", f"- {SENTENCE}", f"    {SENTENCE}"])
def test_lines_to_copy_into_a_file_stay_as_they_are(entry):
    assert wrapping.lines(entry, Terminal()) == [entry]


def test_a_pipe_gets_one_line():
    assert wrapping.lines(SENTENCE, io.StringIO()) == [SENTENCE]
    assert wrapping.beside("OK  ", SENTENCE, io.StringIO()) == [f"OK  {SENTENCE}"]


def test_a_text_beside_another_continues_below_itself():
    shown = wrapping.beside(f"{'FAIL':<8}{'user':<20}", SENTENCE, Terminal())
    assert all(width(line) <= 80 for line in shown)
    assert all(line.startswith(" " * 28) and line[28] != " " for line in shown[1:])


def test_a_program_is_told_from_a_sentence():
    shown = wrapping.lines(f"rdsiam changes only users that it manages, and so {SENTENCE}", Terminal())
    assert max(map(width, shown)) <= 80
    assert sorted(app.list_commands(app.make_context("rdsiam", ["ls"]))) == sorted(wrapping.COMMANDS)


def _read_to_the_end(control: int) -> bytes:
    """Return everything that a terminal was given; one read may return a part, on a busy machine."""
    shown = b""
    with contextlib.suppress(OSError), open(control, "rb", buffering=0) as terminal:  # EIO: no process has it open
        while block := terminal.read(65536):
            shown += block
    return shown


def test_messages_and_explanations_fit_a_real_terminal(monkeypatch):
    control, other = pty.openpty()
    try:
        with open(other, "w", closefd=False) as stream:
            monkeypatch.setattr("sys.stderr", stream)
            monkeypatch.setattr("sys.stdout", stream)
            progress(SENTENCE)
            with pytest.raises(SystemExit):
                doctor.main(["--error", "FATAL: PAM authentication failed for user"], standalone_mode=False)
    finally:
        os.close(other)
    lines = _read_to_the_end(control).decode().splitlines()
    assert len(lines) > 4
    assert [line for line in lines if width(line) > 80 and "rdsiam " not in line and "aws " not in line] == []
