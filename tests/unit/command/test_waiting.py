"""Endpoints that don't answer are named after a moment, and waited for no longer than they should be."""

import http.server
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from rdsiam.command import api as api_module
from rdsiam.command import connect, unanswered, waiting
from rdsiam.command.app import app
from rdsiam.command.errors import Denied, TryAgain
from rdsiam.command.login import LoginToken
from rdsiam.errors import RdsiamError
from tests.unit.doctor.cases import DATABASE

PAUSE = 0.6
TOKEN = LoginToken("secret", "localhost", 5432, "app", "postgres", "arn:aws:rds:eu-west-1:1:db:orders", "")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(waiting, "SECONDS", 0.2)
    for name, value in {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.fixture
def slow(request) -> Iterator[str]:
    """Return the address of a server that answers after a moment, or after the seconds of its parameter."""
    pause = getattr(request, "param", PAUSE)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(pause)
            self._answer(json.dumps({"databases": []}).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            time.sleep(pause)
            self._answer(b"<DescribeDBClustersResponse/>")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_slow_api_is_named_while_it_is_waited_for(slow, monkeypatch):
    done = CliRunner().invoke(app, ["ls", "--api-url", slow])
    assert done.stderr.count(f"{slow} has not answered for 0.2 s; still waiting …") == 1


@pytest.mark.parametrize("slow", [0.0], indirect=True)
def test_an_api_that_answers_is_not_named(slow):
    assert "has not answered" not in CliRunner().invoke(app, ["ls", "--api-url", slow]).stderr


def test_a_slow_service_of_aws_is_named_once(slow, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", slow)
    done = CliRunner().invoke(app, ["onboard", "orders"])
    assert done.stderr.count("has not answered for 0.2 s") == 1
    assert slow.removeprefix("http://") in done.stderr


@pytest.fixture
def black_hole(monkeypatch) -> Iterator[int]:
    """Return a port whose queue of connections is full, so that further ones get no answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting_ones = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting_ones.append(client)
        time.sleep(0.1)
        yield port
        for client in waiting_ones:
            client.close()


def test_an_api_that_takes_no_connection_is_an_error_after_a_moment(black_hole, monkeypatch):
    monkeypatch.setattr(api_module, "_TIMEOUT", (waiting.SECONDS, 30))
    began = time.monotonic()
    done = CliRunner().invoke(app, ["ls", "--api-url", f"http://127.0.0.1:{black_hole}"])
    assert isinstance(done.exception, TryAgain)
    assert time.monotonic() - began < 5


def unknown(monkeypatch: pytest.MonkeyPatch, error: RdsiamError | None = None, status: str = "available") -> Any:
    """Return an installation in which RDS doesn't tell about a database, or tells its status."""

    def describe(*_: object, **__: object) -> Any:
        if error is not None:
            raise error
        return replace(DATABASE, status=status)

    monkeypatch.setattr(unanswered, "describe_at", describe)
    return SimpleNamespace(aws=SimpleNamespace(client=lambda *_: None))


def test_the_state_of_a_database_that_takes_no_connection_is_named(black_hole, monkeypatch):
    token = LoginToken("secret", "127.0.0.1", black_hole, "app", "postgres", TOKEN.database, "")
    problem = "has not answered for 0.2 s: orders is stopped; aws rds start-db-instance --db-instance-identifier orders"
    with pytest.raises(TryAgain, match=problem):
        connect._answers(unknown(monkeypatch, status="stopped"), token, None, None)


STARTS = "orders is starting; aws rds wait db-instance-available --db-instance-identifier orders"
REBOOTS = "orders is rebooting, and may refuse connections until that ends; aws rds wait db-instance-available"
DOCTOR = "db.example:5432 takes no connection; rdsiam doctor orders app --endpoint reader finds the cause"


@pytest.mark.parametrize(
    ("family", "code", "error", "status", "line"),
    [
        ("postgres", 2, None, "starting", STARTS),
        ("mysql", 1, None, "starting", STARTS),
        ("postgres", 2, None, "rebooting", REBOOTS),
        ("postgres", 2, None, "available", DOCTOR),
        ("postgres", 2, Denied("DescribeDBInstances: AccessDenied"), "", DOCTOR),
        ("postgres", 2, TryAgain("no answer"), "", DOCTOR),
        ("postgres", 0, None, "starting", ""),
        ("postgres", 1, None, "starting", ""),
        ("mysql", 0, None, "starting", ""),
    ],
)
def test_the_cause_follows_a_program_that_could_not_connect(capfd, monkeypatch, family, code, error, status, line):
    """Its output and its exit code stay its own."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # those of this process stay
    token = LoginToken("secret", "db.example", 5432, "app", family, TOKEN.database, "")
    command = ["sh", "-c", f'echo "$PGUSER"; echo refused >&2; exit {code}']
    assert connect._fail(unknown(monkeypatch, error, status), token, "reader", command, {"PGUSER": "app"}) == code
    out, err = capfd.readouterr()
    assert out == "app\n"
    assert err.startswith("refused\n")
    assert err.removeprefix("refused\n").startswith(f"rdsiam: {line}" if line else "")
    assert err.count("\n") == (2 if line else 1)


@pytest.mark.parametrize("user", ["app", "a b"])
def test_a_database_that_takes_no_connection_is_an_error_before_its_program_starts(black_hole, monkeypatch, user):
    token = LoginToken("secret", "127.0.0.1", black_hole, user, "postgres", TOKEN.database, "")
    began = time.monotonic()
    with pytest.raises(TryAgain, match=rf"has not answered for 0.2 s; rdsiam doctor orders '?{user}") as caught:
        connect._answers(unknown(monkeypatch), token, None, None)
    assert time.monotonic() - began < 2
    assert "secret" not in str(caught.value)


def test_a_tunnel_and_other_problems_are_left_to_the_program(black_hole, monkeypatch):
    token = LoginToken("secret", "127.0.0.1", black_hole, "app", "mysql", TOKEN.database, "")
    assert connect._answers(unknown(monkeypatch), token, "127.0.0.1:15432", None)
    for error in (ConnectionRefusedError(), socket.gaierror("unknown name"), OSError("no route")):
        monkeypatch.setattr("socket.create_connection", raising(error))
        assert not connect._answers(unknown(monkeypatch), token, None, None)


def raising(error: OSError) -> Any:
    def connection(*_: object) -> SimpleNamespace:
        raise error

    return connection


def test_the_program_starts_if_its_database_answers(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        token = LoginToken("secret", "127.0.0.1", port, "app", "postgres", TOKEN.database, "")
        assert connect._answers(unknown(monkeypatch), token, None, None)
        listener.accept()[0].close()
