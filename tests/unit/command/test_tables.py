"""Tables: complete in a file, and on a terminal as wide as that by what matters."""

import io
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.command import tables

ARN = "arn:aws:rds:eu-central-1:123456789012:db:orders"
HOST = "orders.c9akciq32.eu-central-1.rds.amazonaws.com"
LS = (("orders", "postgres", "app_service", "5432", HOST, ARN),)
LS_HEADER = ("database", "engine", "users", "port", "endpoint", "arn")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Return a terminal of 80 columns, without colours."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_a_file_has_every_cell():
    shown, missing = tables.lines(LS, LS_HEADER, ("arn",), io.StringIO())
    assert shown[1].split() == list(LS[0])
    assert missing == []


def test_a_column_without_text_is_left_out():
    shown, _ = tables.lines(
        [("orders", "", "app"), ("billing", "", "app")], ("database", "note", "user"), (), io.StringIO()
    )
    assert shown == ["DATABASE  USER", "orders    app", "billing   app"]


def test_columns_that_matter_least_give_way(terminal):
    shown, missing = tables.lines(LS, LS_HEADER, ("arn", "engine"), terminal)
    assert missing == ["arn", "engine"]
    assert [len(line) <= 80 for line in shown] == [True, True]
    assert HOST in shown[1]


def test_arns_are_shortened_before_a_column_gives_way(terminal):
    row = ("2026-11-27T08:13:08Z", "allowed", "arn:aws:iam::123456789012:role/developer", ARN, "app_service")
    shown, missing = tables.lines([row], ("at", "outcome", "caller", "database", "user"), (), terminal)
    assert shown[1].split() == ["2026-11-27T08:13:08Z", "allowed", "role/developer", "orders", "app_service"]
    assert missing == []


@pytest.mark.parametrize(
    ("arn", "name"),
    [
        (ARN, "orders"),
        ("arn:aws-cn:rds:cn-north-1:1:cluster:orders", "orders"),
        ("arn:aws:lambda:eu-central-1:1:function:rdsiam-OnboardFunction:live", "rdsiam-OnboardFunction:live"),
        ("arn:aws:iam::1:user/ops/jo", "user/ops/jo"),
        ("arn:aws:secretsmanager:eu-central-1:1:secret:rdsiam/orders/app-a1B2c3", "rdsiam/orders/app-a1B2c3"),
        ("no arn:aws", "no arn:aws"),
    ],
)
def test_the_short_form_of_an_arn_is_its_name(terminal, arn, name):
    shown, _ = tables.lines([(arn, "x" * 76)], ("resource", "text"), (), terminal)
    assert shown[1].strip().startswith(name)
    assert f":{name}" not in shown[1]


def test_the_last_column_continues_on_further_lines(terminal):
    statement = 'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "public" TO "rdsiam_shop_readwrite"'
    shown, missing = tables.lines([("grant", "shop", statement)], ("change", "target", "statement"), (), terminal)
    assert " ".join(line[len("CHANGE  TARGET  ") :] for line in shown[1:]) == statement
    assert missing == []


@pytest.mark.parametrize("length", [60, 78, 80, 200])
def test_a_word_that_may_be_copied_stays_one(terminal, length):
    arn = f"arn:aws:iam::123456789012:policy/{'x' * (length - 33)}"
    statement = f"aws iam delete-policy --policy-arn {arn} --and-more"
    shown, _ = tables.lines([("delete-policy", "shop", statement)], ("change", "target", "statement"), (), terminal)
    text = " ".join(line.strip() for line in shown)
    assert arn in text
    assert all(len(line) <= max(80, length) for line in shown)


def test_a_name_that_is_too_wide_is_cut_and_named(terminal):
    shown, missing = tables.lines([("x" * 200, "app", "text")], ("database", "user", "problem"), (), terminal)
    assert all(len(line) <= 80 for line in shown)
    assert "…" in "".join(shown)
    assert missing == ["database"]


def test_wide_characters_keep_columns_aligned():
    shown, _ = tables.lines([("数据库", "a"), ("orders", "b"), ("é", "c")], ("database", "user"), (), io.StringIO())
    assert [tables.width(line[: line.rindex(" ") + 1]) for line in shown[1:]] == [10, 10, 10]


cells = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=120)


@given(st.lists(st.tuples(cells, cells, cells, cells), min_size=1, max_size=4), st.integers(20, 120))
def test_no_line_is_wider_than_the_terminal(rows, columns):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("NO_COLOR", "1")
        shown, _ = tables.lines(rows, ("one", "two", "three", "four"), ("two",), Terminal())
    words = [tables.width(word) for row in rows for word in row[3].split(" ")]
    assert max(map(tables.width, shown)) <= max(columns, *words, 3 * 8 + 24)


# --- colours ---


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals_of_users_who_want_them(monkeypatch, environment, coloured):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in tables.coloured("critical", Terminal())) == coloured
    assert tables.coloured("critical", io.StringIO()) == "critical"


@pytest.mark.parametrize(("columns", "colours"), [(80, {}), (80, {"NO_COLOR": "1"}), (60, {})], ids=str)
def test_a_real_terminal_of_80_columns_gets_no_longer_line(tmp_path, columns, colours):
    script = (
        "from rdsiam.command.output import Output\n"
        f"Output('table').show([['critical', {ARN!r}, 'app', 'a long sentence ' * 9]],"
        "['severity', 'database', 'user', 'title'])"
    )
    near, far = pty.openpty()
    termios.tcsetwinsize(far, (24, columns))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", **colours},
        cwd=Path(tmp_path), stdin=far, stdout=far, stderr=far,
    )  # fmt: skip
    os.close(far)
    text = ""
    while part := _read(near):
        text += part
    assert process.wait(30) == 0
    os.close(near)
    plain = text.replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert max(len(line.rstrip("\r")) for line in plain.split("\n")) <= columns
    assert ("\x1b[" in text) == (not colours)


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 65536).decode()
    except OSError:  # the other end is closed
        return ""
