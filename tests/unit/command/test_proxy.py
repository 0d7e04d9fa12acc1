"""`rdsiam proxy`: command lines and the settings that they are."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rdsiam.command.app import run
from rdsiam.command.output import Output
from rdsiam.command.proxy_options import ProxyOptions
from rdsiam.command.proxy_run import read_settings, show
from rdsiam.errors import RdsiamError
from rdsiam.proxy.contracts import Listener
from rdsiam.proxy.settings import Protection, Settings
from rdsiam.tokens.trust import ca_file

ARN = "arn:aws:rds:eu-central-1:123456789012:db:orders"


def asked(**given) -> ProxyOptions:
    nothing = dict.fromkeys(["config", "user", "endpoint", "host", "port", "socket", "name", "reason"])
    return ProxyOptions(**{**nothing, "fields": {}, "local": False, "only_check": False, **given})


@pytest.mark.parametrize(
    ("databases", "port", "places"),
    [
        (["orders"], None, [("orders", None)]),
        (["orders"], 0, [("orders", 0)]),
        (["orders", "billing"], 0, [("orders", 0), ("billing", 0)]),
        (["orders", "billing", "stock"], 6000, [("orders", 6000), ("billing", 6001), ("stock", 6002)]),
        (["orders:6001", "billing", "stock"], 6000, [("orders", 6001), ("billing", 6000), ("stock", 6002)]),
        (["orders:6001", "billing"], None, [("orders", 6001), ("billing", None)]),
        ([ARN], None, [(ARN, None)]),
        ([f"{ARN}:6000"], None, [(ARN, 6000)]),
        (["o.abc.eu-central-1.rds.amazonaws.com:1"], None, [("o.abc.eu-central-1.rds.amazonaws.com", 1)]),
    ],
    ids=str,
)
def test_each_database_has_its_port(databases, port, places):
    found = read_settings(databases, asked(port=port))
    assert [(listener.database, listener.port) for listener in found.listeners] == places


def test_options_are_of_all_databases():
    found = read_settings(["orders", "billing"], asked(user="app", endpoint="reader", fields={"cut": True}))
    assert found.listeners == (
        Listener("orders", endpoint="reader", user="app"),
        Listener("billing", endpoint="reader", user="app"),
    )
    assert found.cut


@pytest.mark.parametrize(
    ("databases", "given", "problem"),
    [
        ([], {}, "no database is named"),
        (["orders:70000"], {}, "no port 70000"),
        (["orders:abc"], {}, "orders: what follows the colon is no port; write DATABASE:PORT, with a whole number"),
        (["orders:"], {}, "orders: what follows the colon is no port"),
        (["orders:5432:1"], {}, "orders: what follows the colon is no port"),
        (["orders", "billing"], {"port": 65535}, "no port 65536"),
        (["orders:5432", "billing:5432"], {}, "localhost:5432 is given twice"),
        (["orders", "orders"], {}, "orders is named twice"),
        (["orders", "billing"], {"socket": Path("s")}, "--socket is for one database"),
        (["orders"], {"socket": Path("s"), "port": 1}, "--socket is for one database"),
        (["orders"], {"host": "0.0.0.0"}, "that needs certificate, key and require_password_file"),  # noqa: S104
        (["orders"], {"config": Path("p")}, "--config is given, and DATABASE as well; write it into p"),
        ([], {"config": Path("p"), "user": "a", "port": 0}, "--config is given, and --user, --port as well"),
        ([], {"config": Path("p"), "fields": {"max_connections": 1}}, "and --max-connections as well"),
        ([], {"config": Path("nosuch.toml")}, "nosuch.toml: No such file or directory"),
    ],
    ids=str,
)
def test_other_command_lines_are_refused(databases, given, problem):
    with pytest.raises(RdsiamError) as error:
        read_settings(databases, asked(**given))
    assert problem in str(error.value)


def command(monkeypatch, capsys, *words: str) -> tuple[object, str]:
    monkeypatch.setattr("sys.argv", ["rdsiam", "proxy", *words])
    with pytest.raises(SystemExit) as ended:
        run()
    out, err = capsys.readouterr()
    assert out == ""
    return ended.value.code or 0, err


def test_a_check_reads_everything_and_starts_nothing(monkeypatch, capsys, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("a long enough password\n")
    secret.chmod(0o600)
    file = tmp_path / "proxy.toml"
    file.write_text('require_password_file = "secret"\n[[database]]\nname = "orders"\nport = 5432\n')
    words = ("--config", str(file), "--check")
    code, err = command(monkeypatch, capsys, *words)
    assert (code, err) == (0, "good: 1 listener; nothing was started\n")
    secret.chmod(0o644)
    code, err = command(monkeypatch, capsys, *words)
    assert (code, "others can read or change the password" in err) == (2, True)
    file.write_text("helth_port = 1\n")
    code, err = command(monkeypatch, capsys, *words)
    assert (code, "proxy.toml: line 1: helth_port: unknown; did you mean health_port? [" in err) == (2, True)
    assert err.endswith("[proxy-settings-invalid]\n")


@pytest.mark.parametrize("check", [["--check"], []])
@pytest.mark.parametrize(
    ("content", "problem"), [(None, "No such file"), ("", "no certificate"), ("x", "no certificate")]
)
def test_authorities_that_can_not_be_read_stop_the_start(monkeypatch, capsys, tmp_path, content, problem, check):
    """Else it starts, and each client hears of it."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    ca_file.cache_clear()
    monkeypatch.setenv("RDSIAM_CA", str(file))
    code, err = command(monkeypatch, capsys, "orders", *check)
    assert (code, "RDSIAM_CA" in err, problem in err) == (2, True, True)


@pytest.mark.parametrize("flag", ["--port=65536", "--max-connections=0", "--login-timeout=0", "--drain-timeout=-1"])
def test_a_number_out_of_range_is_a_wrong_command_line(monkeypatch, capsys, flag):
    code, err = command(monkeypatch, capsys, "orders", flag)
    assert (code, err.endswith("[usage]\n")) == (2, True)


def listening(engine: str, secret: bytes | None) -> SimpleNamespace:
    listener = Listener("orders", user="app", port=6000)
    labels = {"listener": "localhost:6000", "endpoint": "default"}
    service = SimpleNamespace(labels=labels, protection=Protection(secret))
    return SimpleNamespace(listener=listener, engine=engine, users=frozenset(), service=service)


@pytest.mark.parametrize(
    ("engine", "secret", "line"),
    [
        ("postgres", b"hunter2", "  clients have to give the password in /etc/proxy.secret\n"),
        (
            "mysql",
            b"hunter2",
            "  clients have to give the password in /etc/proxy.secret; mysql asks for it with --password\n",
        ),
        ("postgres", None, ""),
    ],
)
def test_the_printed_lines_say_that_clients_have_to_give_a_password(capsys, engine, secret, line):
    settings = Settings((), password_file=Path("/etc/proxy.secret") if secret else None)
    server = SimpleNamespace(listening=[listening(engine, secret)], settings=settings)
    show(server, "shop", Output("text"))  # type: ignore[arg-type]
    text = capsys.readouterr().out
    assert text.endswith(line)
    assert ("password" in text) == (secret is not None)
    show(server, "shop", Output("json"))  # type: ignore[arg-type]
    document = capsys.readouterr().out
    assert json.loads(document)["password_required"] == (secret is not None)
    assert "hunter2" not in text + document


def starting(tmp_path: Path, *words: str, **environment: str) -> "subprocess.Popen[str]":
    """Begin a proxy in a process of its own, with static credentials."""
    return subprocess.Popen(
        [sys.executable, "-m", "rdsiam.command", "proxy", "orders", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HOME": str(tmp_path),
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            **environment,
        },
    )


@pytest.mark.parametrize(
    ("words", "variable"),
    [([], "RDSIAM_API_URL"), (["--local"], "AWS_ENDPOINT_URL_CLOUDFORMATION")],
    ids=["a slow API", "a slow CloudFormation"],
)
def test_ctrl_c_does_not_wait_for_an_answer(tmp_path, words, variable):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with starting(tmp_path, *words, **{variable: url}) as process:
            connection, _ = silent.accept()
            with connection:
                began = time.monotonic()
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=30)
                assert time.monotonic() - began < 3
    assert process.returncode == 130, err
    assert "Traceback" not in err


@pytest.mark.exhaustive
def test_an_api_that_never_answers_ends_the_start_with_an_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with starting(tmp_path, RDSIAM_API_URL=url) as process:
            began = time.monotonic()
            _, err = process.communicate(timeout=60)
            assert time.monotonic() - began < 20
    assert (process.returncode, err.count("\n")) == (6, 1), err
    assert err.endswith(("[no-answer]\n", "[try-again]\n"))
