"""The API's denials as the command shows them: in terms of commands, and with the cause if the caller has no role."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from rdsiam.api import http
from rdsiam.command import aws
from rdsiam.command.api import Api
from rdsiam.command.app import run
from rdsiam.command.aws import Aws
from rdsiam.errors import RdsiamError

ROLE = "arn:aws:sts::123456789012:assumed-role/app/session"
ORDERS = {
    "identifier": "orders",
    "arn": "arn:aws:rds:eu-west-1:123456789012:db:orders",
    "engine": "postgres",
    "users": ["app"],
}


class Server(HTTPServer):
    """An API that gives one answer."""

    answer: tuple[int, Any] = (200, {"databases": []})


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = self.server.answer  # type: ignore[attr-defined]
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api(monkeypatch, tmp_path) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HOME": str(tmp_path), "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret", "RDSIAM_API_URL": f"http://127.0.0.1:{server.server_port}",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def caller(monkeypatch) -> SimpleNamespace:
    """Let STS say who the caller is."""
    identity = SimpleNamespace(arn=ROLE, error=None)

    def get_caller_identity() -> dict[str, str]:
        if identity.error is not None:
            raise identity.error
        return {"Arn": identity.arn}

    sts = SimpleNamespace(get_caller_identity=get_caller_identity)
    monkeypatch.setattr(Aws, "client", lambda *_, **__: sts)
    return identity


@pytest.fixture
def rdsiam(api, caller, monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Run the command, which asks that API; returns exit code and stderr."""

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["rdsiam", *arguments])
        with pytest.raises(SystemExit) as ended:
            run()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


def problem(code: str, detail: str) -> tuple[int, Any]:
    """Return an answer as the API gives it."""
    answer = http.problem(code, detail, "request-1")
    return answer["statusCode"], json.loads(answer["body"])


TOKEN = ["token", "orders", "-u", "app"]
DENIED = "access.yaml gives this caller no login as that user on that database"


@pytest.mark.parametrize("code", sorted(http.PROBLEMS))
@pytest.mark.parametrize("arguments", [TOKEN, ["ls"], ["decisions"]], ids=lambda words: words[0])
def test_no_problem_speaks_of_paths(api, rdsiam, code, arguments):
    api.answer = problem(code, DENIED)
    status, stderr = rdsiam(*arguments)
    assert status not in (0, 1), stderr
    assert code in stderr
    assert "GET" not in stderr, stderr
    assert "POST" not in stderr, stderr
    assert "/tokens" not in stderr, stderr


@pytest.mark.parametrize("code", sorted(http.PROBLEMS))
def test_no_problem_with_a_report_speaks_of_paths(api, caller, code):
    api.answer = problem(code, DENIED)
    of_api = Api(f"http://127.0.0.1:{api.server_port}", Aws(None, None))
    for ask in (lambda: of_api.audits(1), lambda: of_api.audit("20261127T081326Z-d411b22c")):
        with pytest.raises(RdsiamError) as caught:
            ask()
        assert "GET" not in str(caught.value)
        assert code != "not-allowed" or "only auditors" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("reason-required", "--reason"),
        ("signs-itself", "add --local"),
        ("user-revoked", "ask an operator"),
        ("not-allowed", "rdsiam ls"),
    ],
)
def test_a_denied_caller_is_told_which_command_helps(api, rdsiam, code, says):
    api.answer = problem(code, DENIED)
    status, stderr = rdsiam(*TOKEN)
    assert status == 4
    assert says in stderr
    assert "app on orders: " in stderr
    assert "(request request-1)" in stderr


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::123456789012:user/ann",
        "arn:aws:iam::123456789012:user/team/ann",
        "arn:aws:iam::123456789012:root",
        "arn:aws:sts::123456789012:federated-user/ann",
    ],
)
@pytest.mark.parametrize("arguments", [TOKEN, ["token", "orders"], ["ls"]], ids=" ".join)
def test_a_caller_without_a_role_is_told_that_it_cannot_ask(api, caller, rdsiam, arn, arguments):
    caller.arn = arn
    api.answer = problem("not-allowed", DENIED) if "-u" in arguments else (200, {"databases": []})
    status, stderr = rdsiam(*arguments)
    assert status == (0 if arguments == ["ls"] else 4)
    assert f"you are {arn}, which is no role: IAM users and the root user can't ask" in stderr
    assert "assume a role" in stderr


@pytest.mark.parametrize("arguments", [TOKEN, ["token", "orders"], ["ls"]], ids=" ".join)
@pytest.mark.parametrize(
    "error",
    [
        None,
        ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetCallerIdentity"),
        ClientError({"Error": {"Code": "Throttling", "Message": "no"}}, "GetCallerIdentity"),
        EndpointConnectionError(endpoint_url="https://sts"),
    ],
    ids=["a role", "denied", "throttled", "unreachable"],
)
def test_a_caller_with_a_role_or_an_unknown_one_gets_the_usual_answer(api, caller, rdsiam, arguments, error):
    caller.error = error
    api.answer = problem("not-allowed", DENIED) if "-u" in arguments else (200, {"databases": []})
    status, stderr = rdsiam(*arguments)
    assert status == {2: 5, 1: 0, 4: 4}[len(arguments)]
    assert "can't ask" not in stderr


def test_the_gateways_own_denial_names_the_right(api, rdsiam):
    api.answer = 403, {"message": "Forbidden"}
    status, stderr = rdsiam(*TOKEN)
    assert status == 4
    assert "execute-api:Invoke" in stderr


def test_an_answer_of_a_newer_api_is_shown_with_its_own_hint(api, rdsiam):
    api.answer = 403, {"code": "new-code", "detail": "something new", "hint": "do this"}
    _, stderr = rdsiam(*TOKEN)
    assert "something new; do this [new-code]" in stderr


def test_a_caller_of_another_ones_decisions_is_told_whose_to_ask_for(api, rdsiam):
    api.answer = problem("not-allowed", DENIED)
    _, stderr = rdsiam("decisions", "--caller", "ann")
    assert "leave --caller out" in stderr
    assert aws.RENEW not in stderr


# --- answers that no API of rdsiam gives ---

LOGIN = {
    "token": "t", "host": "orders.x.eu-west-1.rds.amazonaws.com", "port": 5432, "user": "app", "engine": "postgres",
    "database": "arn:aws:rds:eu-west-1:123456789012:db:orders",
}  # fmt: skip


@pytest.mark.parametrize("body", [
    b"<html>", b"[" * 100_000, b"[1]", {"databases": {}}, {"databases": [1]}, {"databases": [{}]},
    {"databases": [ORDERS | {"users": 5}]}, {"databases": [ORDERS | {"users": "abc"}]},
    {"databases": [ORDERS | {"users": [None]}]}, {"databases": [ORDERS | {"arn": 5}]},
    {"databases": [ORDERS | {"host": ["h"]}]}, {"databases": [ORDERS | {"port": 0}]},
], ids=lambda body: str(body)[:30])  # fmt: skip
@pytest.mark.parametrize("arguments", ["ls", "psql orders"])
def test_a_list_that_can_not_be_used_is_refused(api, rdsiam, body, arguments):
    api.answer = (200, body)
    code, stderr = rdsiam(*arguments.split())
    assert code == 1
    assert "the API's answer has no list of databases; see with rdsiam config" in stderr


@pytest.mark.parametrize("change", [
    {"token": ""}, {"token": "a\nb"}, {"token": "a\0b"}, {"token": "\ud800"}, {"token": "a b"},
    {"port": 0}, {"port": -1}, {"port": 65536}, {"port": True}, {"port": 10**30},
    {"host": ""}, {"host": "/run/socket"}, {"host": "-oProxy"}, {"host": "a,b"}, {"host": "a b"}, {"host": "a\n"},
], ids=ascii)  # fmt: skip
@pytest.mark.parametrize("arguments", ["token orders -u app", "env orders -u app", "exec orders -u app -- true"])
def test_a_token_that_can_not_be_used_is_refused(api, rdsiam, change, arguments):
    api.answer = (200, LOGIN | change)
    code, stderr = rdsiam(*arguments.split())
    assert code == 1
    assert "rdsiam: the API" in stderr


@pytest.mark.parametrize("forged", ["a] b", "x\ny", {"a": 1}, 5, "UPPER", "a--b"], ids=ascii)
def test_a_code_that_is_none_is_not_shown(api, rdsiam, forged):
    api.answer = (403, {"detail": "no", "code": forged})
    assert rdsiam("ls")[1].endswith("[denied]\n")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(api, rdsiam, status):
    api.answer = (status, {})
    code, stderr = rdsiam("ls")
    assert code == 1
    assert f"the API answers {status}, a redirect; see with rdsiam config" in stderr


def test_a_proxy_that_does_not_answer_is_named(api, rdsiam, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    code, stderr = rdsiam("ls")
    assert code == 6
    assert "can't be reached through the proxy of HTTP_PROXY and HTTPS_PROXY; correct them" in stderr


LISTED = [
    {"identifier": "orders", "arn": "arn:1", "engine": "postgres", "users": ["app_service"]},
    {"identifier": "billing", "arn": "arn:2", "engine": "mysql", "users": ["app_service", "etl"]},
]


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["oders"], "none matches; did you mean orders?"),
        (["ORDERS-"], "none matches; did you mean orders?"),
        (["nothing-*"], "none matches\n"),
        (["--engine", "postgre"], "none matches; did you mean postgres?"),
        (["--user", "app_servise"], "none matches; did you mean app_service?"),
        (["orders", "--user", "etl"], "none matches\n"),
    ],
    ids=str,
)
def test_a_list_without_a_match_suggests_the_closest_name(api, rdsiam, arguments, advice):
    api.answer = 200, {"databases": LISTED}
    code, stderr = rdsiam("ls", *arguments)
    assert (code, advice in stderr) == (0, True), stderr
