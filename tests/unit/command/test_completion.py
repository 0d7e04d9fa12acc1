"""Completion of names, asked of a stand-in for the API, in processes of the command and in real shells."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import click
import pytest

from demo.first_login import shell_lines
from rdsiam.command import names, waiting
from rdsiam.command.app import app
from rdsiam.command.passing import PassingCommand

ORDERS = {"identifier": "orders", "arn": "arn:aws:rds:eu-west-1:1:db:orders", "users": ["analyst", "app_service"]}
BILLING = {"identifier": "billing", "arn": "arn:aws:rds:eu-west-1:1:db:billing", "users": ["clerk"]}
HOSTILE = ["$(id)", "a b", "`id`", "a;id", "a\nb", "-x", "a'b", 'a"b', "a,b", "a*", "~root", "\x1b[2J", "", "é"]


@pytest.fixture
def api() -> Iterator[dict[str, Any]]:
    """Return a stand-in for the API: it answers with its `databases`, after its `pause`."""
    state: dict[str, Any] = {"databases": [ORDERS, BILLING], "pause": 0.0}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(state["pause"])
            body = json.dumps({"databases": state["databases"]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state["url"] = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def environment(api, tmp_path) -> dict[str, str]:
    program = tmp_path / "bin" / "rdsiam"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m rdsiam.command "$@"\n')
    program.chmod(0o755)
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": api["url"],
        "RDSIAM_API_URL": api["url"],
    }


@pytest.fixture(autouse=True, scope="module")
def no_reports() -> Iterator[None]:
    """Report no silent endpoint: threads that a completion has given up go on here, and end with a real process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "SECONDS", 600.0)
        yield


@pytest.fixture
def offered(api, environment, monkeypatch):
    """Return the names that are offered for the last word of a command line."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def complete(*words: str) -> list[str]:
        from click.shell_completion import BashComplete

        completion = BashComplete(app, {}, "rdsiam", "_RDSIAM_COMPLETE")
        return [item.value for item in completion.get_completions(list(words[:-1]), words[-1])]

    return complete


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["psql", ""], ["billing", "orders"]),
        (["psql", "or"], ["orders"]),
        (["exec", "x"], []),
        (["token", "o"], ["orders"]),
        (["ls", "o"], ["orders"]),
        (["onboard", "o"], ["orders"]),
        (["revoke", "o"], ["orders"]),
        (["migrate", "start", "o"], ["orders"]),
        (["audit", "--database", "o"], ["orders"]),
        (["psql", "orders", "-u", ""], ["analyst", "app_service"]),
        (["psql", "orders", "--user", "ap"], ["app_service"]),
        (["psql", "-u", "c"], ["clerk"]),
        (["token", "billing", "-u", ""], ["clerk"]),
        (["revoke", "orders", "an"], ["analyst"]),
        (["migrate", "undo", "orders", "an"], ["analyst"]),
        (["psql", "orders", "--lo"], ["--local"]),
        (["psql", "orders", "--", "-"], ["-"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_names_complete(offered, words, names):
    assert offered(*words) == names


def test_a_name_that_a_shell_would_not_take_as_a_word_is_not_offered(offered, api):
    api["databases"] = [{"identifier": name, "arn": name, "users": HOSTILE} for name in [*HOSTILE, "orders"]]
    assert offered("psql", "") == ["orders"]
    assert offered("psql", "-u", "") == []
    assert offered("revoke", "orders", "") == []


@pytest.mark.parametrize("answer", [None, "none", [None], [{}], [{"identifier": 7, "users": 7}]], ids=str)
def test_a_wrong_answer_offers_nothing_and_says_nothing(offered, api, capsys, answer):
    api["databases"] = answer
    assert [name for name in offered("psql", "") if name not in {"None", "7"}] == []
    assert capsys.readouterr() == ("", "")


def test_a_slow_api_delays_a_completion_for_a_moment_only(offered, api, monkeypatch):
    monkeypatch.setattr(names, "_SECONDS", 0.2)
    api["pause"] = 2.0
    began = time.monotonic()
    assert offered("psql", "") == []
    assert time.monotonic() - began < 1.5


def test_profiles_complete(offered, tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[profile prod]\n[profile play]\n[profile a b]\n")
    assert offered("ls", "--profile", "p") == ["play", "prod"]


def commands(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            yield from commands(command)
        yield command


def test_each_parameter_that_names_a_database_or_a_user_completes():
    forgotten = [
        f"{command.name} {parameter.name}"
        for command in commands(app)
        for parameter in command.params
        if parameter.name in {"database", "databases", "user", "profile"} and not parameter._custom_shell_complete
    ]
    assert forgotten == []
    assert any(isinstance(command, PassingCommand) for command in commands(app))


# --- real shells ---

#: Shell → its start without the user's settings, and the script that prints what it offers for the last word.
SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile"],
        """
        [ "$(type -t _rdsiam_completion)" ] || eval "$(rdsiam completion bash)"
        COMP_WORDS=(rdsiam LINE); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _rdsiam_completion
        printf '%s\\n' "${COMPREPLY[@]}"
        """,
    ),
    "zsh": (
        ["zsh", "-f"],
        """
        compdef() { :; }
        compadd() { print -l -- $names; }
        _describe() { print -l -- ${described%%:*}; }
        (( $+functions[_rdsiam_completion] )) || eval "$(rdsiam completion zsh)"
        words=(rdsiam LINE); CURRENT=$#words; _rdsiam_completion
        """,
    ),
    "fish": (
        ["fish", "--no-config"],
        """
        functions -q _rdsiam_completion; or rdsiam completion fish | source
        complete -C 'rdsiam LINE'
        """,
    ),
}


@pytest.mark.parametrize(
    ("kind", "shell"),
    [
        ("program", "bash"),
        ("function", "zsh"),
        *((kind, "fish") for kind in ("program", "function")),
        pytest.param("function", "bash", marks=pytest.mark.exhaustive),
        pytest.param("program", "zsh", marks=pytest.mark.exhaustive),
    ],
)
def test_shells_complete(environment, tmp_path, shell, kind):
    """As a program, and as a function of the shell, which no `env` finds."""
    start, offer = SHELLS[shell]
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    lines = []
    if kind == "function":
        program = (tmp_path / "bin" / "rdsiam").rename(tmp_path / "program")
        lines.append(f"function rdsiam; {program} $argv; end" if shell == "fish" else f'rdsiam() {{ {program} "$@"; }}')
    lines += [offer.replace("LINE", words) for words in ("psql or", "psql orders -u an", "onb")]
    done = subprocess.run(
        start, input="\n".join(lines), capture_output=True, text=True, timeout=60, check=False,
        env={**environment, "TERM": "xterm"}, cwd=tmp_path,
    )  # fmt: skip
    offered = [line.partition("\t")[0] for line in done.stdout.split("\n") if line]
    assert offered == ["orders", "analyst", "onboard"], done.stderr


@pytest.mark.parametrize("shell", ["bash", pytest.param("zsh", marks=pytest.mark.exhaustive)])
def test_names_complete_in_the_shell_of_make_login(api, environment, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    keys = {"AccessKeyId": "AKIAEXAMPLE", "SecretAccessKey": "s", "SessionToken": "t"}
    info = {
        "aws_endpoint_url": api["url"],
        "region": "eu-west-1",
        "api_url": api["url"],
        "ca": "/ca.pem",
        "environment": {},
    }
    start, offer = SHELLS[shell]
    lines = [*shell_lines(info, keys), "command -v rdsiam >&2", offer.replace("LINE", "psql orders -u an")]
    done = subprocess.run(
        [*start, "-i", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "HOME": environment["HOME"], "TERM": "xterm"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout.split() == ["analyst"], done.stderr
    assert "demo/bin/rdsiam" in done.stderr
