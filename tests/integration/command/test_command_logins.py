"""The `rdsiam` command as people use it: real processes, real servers, the real API where it has the route."""

import contextlib
import http.server
import json
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from localcloud.core.certificates import Authority
from localcloud.databases.servers.mysql_programs import find_mysql
from tests.integration import commands
from tests.integration.relay import Relay
from tests.kinds import MYSQL


@pytest.fixture
def rdsiam(account, place, tmp_path):
    """Run the command with the credentials of a role; the administrator's where none is named."""

    def run(*arguments: str, role: str | None = None, input: str = "", **environment: str):
        cloud = account.cloud
        own = cloud.info["credentials"]
        keys = {"AWS_ACCESS_KEY_ID": own["access_key_id"], "AWS_SECRET_ACCESS_KEY": own["secret_access_key"]}
        if role is not None:
            got = account.assume(place[role])
            keys = {"AWS_ACCESS_KEY_ID": got["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": got["SecretAccessKey"]}
            keys["AWS_SESSION_TOKEN"] = got["SessionToken"]
        return commands.run(
            arguments,
            {
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "PYTHONPATH": os.pathsep.join(sys.path),
                "AWS_ENDPOINT_URL": cloud.endpoint,
                "AWS_DEFAULT_REGION": cloud.region,
                "AWS_EC2_METADATA_DISABLED": "true",
                "RDSIAM_API_URL": cloud.api_url,
                "RDSIAM_CA": str(cloud.ca),
                **keys,
                **environment,
            },
            limit=120,
            given=input,
            directory=tmp_path,
        )

    return run


def no_secret(done: "subprocess.CompletedProcess[str]") -> None:
    assert "X-Amz-Signature" not in done.stderr
    assert "Traceback" not in done.stderr, done.stderr


# --- token ---


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_a_token_from_the_api_logs_in(rdsiam, account, place, engine):
    done = rdsiam("token", f"tokens-{engine}", "--user", "app", role="vended")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    account.connect(place["arns"][engine], "app", done.stdout.strip()).close()
    no_secret(done)


def test_a_token_signed_offline_logs_in(rdsiam, account, place):
    endpoint = account.describe(place["arns"]["postgres"])["Endpoint"]
    where = ["--host", endpoint["Address"], "--port", str(endpoint["Port"]), "--region", account.cloud.region]
    done = rdsiam("token", *where, "--user", "app2", role="signing", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    account.connect(place["arns"]["postgres"], "app2", done.stdout.strip()).close()


@pytest.mark.parametrize(
    ("arguments", "role", "code"),
    [
        (["tokens-postgres", "--user", "app"], "stranger", 4),
        (["unknown", "--user", "app"], "vended", 4),
        (["tokens-postgres", "--user", "oncall"], "vended", 4),
        (["tokens-postgres", "--user", "app", "--api-url", "http://localhost:9"], "vended", 6),
        (["tokens-postgres", "--user", "app", "--api-url", "http://api.example.com"], "vended", 2),
        (["tokens-postgres", "--user", "app", "--local"], "stranger", 4),
        (["tokens-postgres", "--local"], "signing", 2),
        (["db.example.invalid", "--user", "app"], "vended", 5),
        (["tokens-postgres", "--user", "a b"], "vended", 2),
    ],
    ids=str,
)
def test_exit_codes_of_refusals(rdsiam, arguments, role, code):
    done = rdsiam("token", *arguments, role=role)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("rdsiam: ")
    no_secret(done)


def test_the_reason_reaches_the_api(rdsiam):
    assert rdsiam("token", "tokens-postgres", "-u", "oncall", "--reason", "TICKET-9", role="vended").returncode == 0


# --- programs ---


def test_psql_is_logged_in(rdsiam):
    done = rdsiam(
        "psql", "tokens-postgres", "-u", "app", "-d", "shop", "--", "-XAtc", "SELECT current_user", role="vended"
    )
    assert (done.returncode, done.stdout) == (0, "app\n"), done.stderr
    no_secret(done)


def test_mysql_is_logged_in(rdsiam):
    arguments = [
        "-u",
        "app",
        "-d",
        "shop",
        "--",
        "--skip-column-names",
        "-e",
        "SELECT current_user(); SHOW STATUS LIKE 'Ssl_cipher'",
    ]
    done = rdsiam("mysql", "tokens-mariadb", *arguments, role="vended")
    assert done.returncode == 0, done.stderr
    user, cipher = done.stdout.splitlines()
    assert user == "app@%"
    assert "TLS" in cipher
    no_secret(done)


def test_signed_here_psql_is_logged_in_without_the_api(rdsiam):
    done = rdsiam("psql", "tokens-postgres", "--local", "-u", "app", "-d", "shop", "--", "-XAtc", "SELECT current_user",
                  RDSIAM_API_URL="http://localhost:9")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "app\n"), done.stderr


def test_exec_gives_any_program_the_login_and_returns_its_code(rdsiam):
    script = (
        "import psycopg; print(psycopg.connect(dbname='shop').execute('SELECT current_user').fetchone()[0]); exit(9)"
    )
    done = rdsiam("exec", "tokens-postgres", "-u", "app", "--", sys.executable, "-c", script, role="vended")
    assert (done.returncode, done.stdout) == (9, "app\n"), done.stderr
    no_secret(done)


def test_exec_gives_mysqls_programs_their_options(rdsiam):
    done = rdsiam("exec", "tokens-mariadb", "-u", "app", "--", "mysql", "-Ne", "SELECT current_user()", role="vended")
    assert (done.returncode, done.stdout) == (0, "app@%\n"), done.stderr


def test_no_token_is_an_argument(rdsiam):
    done = rdsiam(
        "exec",
        "tokens-postgres",
        "-u",
        "app",
        "--",
        "sh",
        "-c",
        "cat /proc/$$/cmdline /proc/$PPID/cmdline",
        role="vended",
    )
    assert done.returncode == 0
    assert "X-Amz" not in done.stdout


def test_env_logs_a_shell_in_and_out(rdsiam, account, tmp_path):
    done = rdsiam("env", "tokens-postgres", "-u", "app", "-d", "shop", "--shell", "bash", role="vended")
    assert done.returncode == 0, done.stderr
    gone = rdsiam("env", "--unset", "--shell", "bash")
    script = f"{done.stdout}\npsql -XAtc 'SELECT current_user'\n{gone.stdout}\nenv"
    bash, path = str(shutil.which("bash")), {"PATH": os.environ["PATH"]}
    shell = subprocess.run([bash], input=script, capture_output=True, text=True, check=True, env=path)
    assert shell.stdout.startswith("app\n"), shell.stderr
    assert "X-Amz" not in shell.stdout
    no_secret(done)


@pytest.fixture(params=["mariadb", MYSQL])
def client_of_mysql(request, tmp_path) -> str:
    """Return a PATH with a `mysql` of MariaDB's or of MySQL's."""
    if request.param == "mariadb":
        return os.environ["PATH"]
    programs = find_mysql()
    assert programs is not None
    *loader, server = programs.command
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("mysql", "mysqldump"):
        command = shlex.join([*loader, str(Path(server).parents[1] / "bin" / name)])
        (bin_ / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (bin_ / name).chmod(0o755)
    return f"{bin_}:{os.environ['PATH']}"


def in_bash(script: str, path: str, home: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(shutil.which("bash"))],
        input=script,
        capture_output=True,
        text=True,
        env={"PATH": path, "HOME": str(home)},
    )


def test_env_logs_both_clients_of_mysql_in_and_out(rdsiam, client_of_mysql, tmp_path):
    done = rdsiam(
        *["env", "tokens-mariadb", "-u", "app", "-d", "shop", "--shell", "bash"], role="vended", PATH=client_of_mysql
    )
    assert done.returncode == 0, done.stderr
    gone = rdsiam("env", "--unset", "--shell", "bash").stdout
    query = "SELECT current_user(), database(); SHOW STATUS LIKE 'Ssl_cipher'"
    script = f'{done.stdout}\nstat -c %a "$MYSQL_HOME/my.cnf"\nmysql -Ne "{query}"\n{gone}\nenv; mysql -Ne "{query}"'
    shell = in_bash(script, client_of_mysql, tmp_path)
    mode, login, cipher, *after = shell.stdout.splitlines()
    assert (mode, login) == ("600", "app@%\tshop"), shell.stderr
    assert "TLS" in cipher
    assert not any("X-Amz" in line or "MYSQL" in line or "app@" in line for line in after)
    no_secret(done)


def test_env_never_connects_a_client_of_mysql_to_an_unverified_server(rdsiam, client_of_mysql, tmp_path):
    other = str(Authority(tmp_path / "other").path)
    done = rdsiam(
        *["env", "tokens-mariadb", "-u", "app", "--shell", "bash"], role="vended", PATH=client_of_mysql, RDSIAM_CA=other
    )
    assert done.returncode == 0, done.stderr
    shell = in_bash(f"{done.stdout}\nmysql -Ne 'SELECT 1'", client_of_mysql, tmp_path)
    assert (shell.returncode, shell.stdout) == (1, "")
    assert "certificate" in shell.stderr.lower()


def test_exec_logs_a_script_in_that_calls_mysql(rdsiam, client_of_mysql):
    command = ["sh", "-c", "mysql -Ne 'SELECT current_user()'"]
    done = rdsiam("exec", "tokens-mariadb", "-u", "app", "--", *command, role="vended", PATH=client_of_mysql)
    assert (done.returncode, done.stdout) == (0, "app@%\n"), done.stderr


def test_a_password_in_the_users_option_file_does_not_replace_the_token(rdsiam, client_of_mysql, tmp_path):
    (tmp_path / ".my.cnf").write_text("[client]\nuser=me\npassword=mine\n")
    done = rdsiam(
        *["mysql", "tokens-mariadb", "-u", "app", "--", "-Ne", "SELECT current_user()"],
        role="vended",
        PATH=client_of_mysql,
    )
    assert (done.returncode, done.stdout) == (0, "app@%\n"), done.stderr
    assert "mine" not in done.stderr


# --- tunnels ---


def test_through_a_tunnel_the_endpoint_is_signed_and_checked(rdsiam, account, place):
    endpoint = account.describe(place["arns"]["postgres"])["Endpoint"]
    relay = Relay(endpoint["Address"], endpoint["Port"])
    via = ["--via", f"127.0.0.1:{relay.port}"]
    done = rdsiam(
        "psql", "tokens-postgres", "-u", "app", "-d", "shop", *via, "--", "-XAtc", "SELECT current_user", role="vended"
    )
    assert (done.returncode, done.stdout) == (0, "app\n"), done.stderr


def test_mysql_goes_through_a_tunnel_under_the_endpoints_name(rdsiam, account, place):
    endpoint = account.describe(place["arns"]["mariadb"])["Endpoint"]
    relay = Relay(endpoint["Address"], endpoint["Port"])
    query = ["--", "-Ne", "SELECT current_user()"]
    done = rdsiam("mysql", "tokens-mariadb", "-u", "app", "--via", f"localhost:{relay.port}", *query, role="vended")
    assert (done.returncode, done.stdout) == (0, "app@%\n"), done.stderr
    done = rdsiam("mysql", "tokens-mariadb", "-u", "app", "--via", f"127.0.0.1:{relay.port}", *query, role="vended")
    assert done.returncode == 2
    assert "/etc/hosts" in done.stderr


def test_a_tunnel_to_another_server_gets_no_token(rdsiam, tmp_path):
    """Another authority's certificate, and the right name on it: whoever sits at the tunnel's end learns nothing."""
    issued = Authority(tmp_path / "other").issue(tmp_path / "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    listener, received = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(8)
        connection.sendall(b"S")
        try:
            received.append(context.wrap_socket(connection, server_side=True).recv(65536))
        except OSError as error:
            received.append(type(error).__name__.encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    via = ["--via", f"127.0.0.1:{listener.getsockname()[1]}"]
    done = rdsiam("psql", "tokens-postgres", "-u", "app", *via, "--", "-XAtc", "SELECT 1", role="vended")
    thread.join(10)
    assert done.returncode == 2, "psql's own code for a connection that could not be made"
    assert "certificate verify failed" in done.stderr
    assert b"X-Amz" not in b"".join(received)


# --- ls, and the one user: against the contract of GET /databases ---


@pytest.fixture
def listing():
    """Return a stand-in for `GET /databases`, which answers with what is put in its list."""
    answer: dict[str, object] = {"status": 200, "body": {"databases": []}}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer["authorization"] = self.headers.get("authorization", "")
            body = json.dumps(answer["body"]).encode()
            self.send_response(int(str(answer["status"])))
            self.send_header("content-length", str(len(body)))
            self.send_header("retry-after", "7")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answer["url"] = f"http://127.0.0.1:{server.server_address[1]}"
    yield answer
    server.shutdown()
    server.server_close()


ONE = {
    "identifier": "orders",
    "arn": "arn:aws:rds:eu-west-1:1:db:orders",
    "engine": "postgres",
    "users": ["a", "b"],
    "host": "orders.c9akciq32.eu-west-1.rds.amazonaws.com",
    "port": 5432,
}


def test_ls_lists_databases_and_users(rdsiam, listing):
    listing["body"] = {"databases": [ONE]}
    table = rdsiam("ls", RDSIAM_API_URL=listing["url"])
    assert table.stdout.splitlines()[1].split() == ["orders", "postgres", "a,", "b", "5432", ONE["host"], ONE["arn"]]
    assert "/execute-api/aws4_request" in listing["authorization"]
    assert json.loads(rdsiam("ls", "--output", "json", RDSIAM_API_URL=listing["url"]).stdout) == [ONE]


@pytest.mark.parametrize(
    ("criteria", "listed"),
    [
        (["orders"], ["orders"]),
        (["ORD*"], ["orders"]),
        (["bill*", "ord*"], ["orders", "billing"]),
        (["ord"], []),
        (["--engine", "mysql"], ["billing"]),
        (["--user", "b"], ["orders"]),
        (["-u", "c", "--engine", "postgres"], []),
    ],
)
def test_ls_lists_what_matches(rdsiam, listing, criteria, listed):
    other = {**ONE, "identifier": "billing", "engine": "mysql", "users": ["a", "c"], "host": None, "port": None}
    listing["body"] = {"databases": [ONE, other]}
    done = rdsiam("ls", *criteria, "--output", "json", RDSIAM_API_URL=listing["url"])
    assert ([row["identifier"] for row in json.loads(done.stdout)], done.returncode) == (listed, 0)
    assert ("none of the 2 databases" in done.stderr) == (not listed)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (403, {"message": "Forbidden"}, 4),
        (401, {"code": "no-token", "detail": "who are you?"}, 4),
        (404, {"message": "Not Found"}, 5),
        (429, {"message": "Too Many Requests"}, 6),
        (503, {"code": "unavailable", "detail": "try again"}, 6),
        (400, {"code": "malformed", "detail": "user: is odd"}, 2),
        (200, {"databases": "none"}, 1),
        (200, [], 1),
    ],
)
def test_each_answer_of_the_api_has_its_exit_code(rdsiam, listing, status, body, code):
    listing.update(status=status, body=body)
    done = rdsiam("ls", RDSIAM_API_URL=listing["url"])
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr


def test_several_users_are_listed_and_none_is_chosen(rdsiam, listing):
    listing["body"] = {"databases": [ONE]}
    done = rdsiam("token", "orders", RDSIAM_API_URL=listing["url"])
    assert done.returncode == 2
    assert "a, b" in done.stderr


# --- access, onboard, config ---


def test_access_is_checked_planned_and_published(rdsiam, account, tmp_path):
    bucket = account.cloud.outputs["AccessBucket"]
    current = account.cloud.client("s3").get_object(Bucket=bucket, Key="access.yaml")["Body"].read().decode()
    file = tmp_path / "access.yaml"
    file.write_text(current)
    where = ["--access-bucket", bucket]
    assert rdsiam("access", "validate", "access.yaml").returncode == 0
    assert rdsiam("access", "plan", "access.yaml", *where).returncode == 0

    data = yaml.safe_load(current)
    data["databases"].append(
        {
            "match": {"identifier": "tokens-postgres"},
            "users": [{"name": "added", "privileges": "readonly", "on": ["shop"]}],
        }
    )
    file.write_text(yaml.safe_dump(data))
    plan = rdsiam("access", "plan", "access.yaml", *where, "--database", "tokens-postgres", "--output", "json")
    assert plan.returncode == 3, plan.stderr
    assert json.loads(plan.stdout) == [{"database": "tokens-postgres", "user": "added", "change": "declared"}]
    dry = rdsiam("access", "publish", "access.yaml", *where, "--plan")
    assert dry.returncode == 3
    assert "because this is a plan" in dry.stderr
    assert rdsiam("access", "plan", "access.yaml", *where).returncode == 3, "a plan changes nothing"
    try:
        done = rdsiam("access", "publish", "access.yaml", *where, "--yes")
        assert done.returncode == 0, done.stderr
        assert "published as version" in done.stderr
        assert rdsiam("access", "plan", "access.yaml", *where).returncode == 0
        planned = rdsiam(
            "onboard", "tokens-postgres", "--plan", "--onboard-function", account.cloud.functions["OnboardFunction"]
        )
        assert planned.returncode == 3, planned.stderr
        assert 'CREATE ROLE "added"' in planned.stdout
    finally:
        account.publish(current)


def test_an_invalid_file_is_not_published(rdsiam, tmp_path):
    (tmp_path / "access.yaml").write_text("version: 1\ndatabases:\n  - match: {}\n    userz: []\n")
    done = rdsiam("access", "validate", "access.yaml")
    assert done.returncode == 3
    assert "line 4" in done.stderr
    assert rdsiam("access", "publish", "access.yaml", "--access-bucket", "b").returncode == 3
    done = rdsiam("access", "validate", "-", "--output", "json", input="version: 2")
    assert json.loads(done.stdout)["valid"] is False
    assert rdsiam("access", "validate", "missing.yaml").returncode == 5


def test_config_says_where_values_come_from(rdsiam, tmp_path):
    (tmp_path / "rdsiam.toml").write_text('access_bucket = "mine"\n')
    trusting = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert rdsiam("config", "trust", **trusting).returncode == 0
    done = rdsiam("config", "--output", "json", RDSIAM_AUDIT_FUNCTION="f:live", **trusting)
    found = {row["setting"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)}
    assert found["access_bucket"] == ("mine", str(tmp_path / "rdsiam.toml"))
    assert found["audit_function"] == ("f:live", "RDSIAM_AUDIT_FUNCTION")
    assert found["stack"] == ("rdsiam", "default")


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands(rdsiam):
    done = rdsiam(_RDSIAM_COMPLETE="bash_complete", COMP_WORDS="rdsiam onb", COMP_CWORD="1")
    assert "plain,onboard" in done.stdout


def test_mysql_sends_no_user_and_no_token_without_tls(rdsiam):
    """Whoever sits at a MySQL tunnel's end, and says that there is no TLS, gets neither user nor token."""
    version, flags = b"5.5.5-10.11.0-MariaDB\0", 0x0200 | 0x8000 | 0x0008  # protocol 4.1, secure connection; no TLS
    plugin_auth = 0x0008  # the upper half of the flags
    greeting = (
        *(b"\x0a", version, (1).to_bytes(4, "little"), b"12345678\0", flags.to_bytes(2, "little"), b"\x2d\x02\x00"),
        *(plugin_auth.to_bytes(2, "little"), b"\x15", bytes(10), b"123456789012\0", b"mysql_clear_password\0"),
    )
    packet = b"".join(greeting)
    listener, received = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        connection, _ = listener.accept()
        connection.sendall(len(packet).to_bytes(3, "little") + b"\0" + packet)
        with contextlib.suppress(OSError):
            received.append(connection.recv(65536))
        connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    via = ["--via", f"localhost:{listener.getsockname()[1]}"]
    done = rdsiam("mysql", "tokens-mariadb", "-u", "app", *via, "--", "-e", "SELECT 1", role="vended")
    thread.join(10)
    assert done.returncode != 0
    assert "SSL" in done.stderr
    assert b"X-Amz" not in b"".join(received)
    assert b"app" not in b"".join(received)


# --- doctor ---


def diagnosis(rdsiam, *arguments: str, role: str | None = None) -> dict[str, str]:
    """Return the state of each check."""
    done = rdsiam("doctor", *arguments, "--output", "json", role=role)
    no_secret(done)
    assert "X-Amz" not in done.stdout
    rows = json.loads(done.stdout)
    assert done.returncode == (3 if "FAIL" in {row["state"] for row in rows} else 7), done.stderr
    return {row["check"]: row["state"] for row in rows}


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_the_doctor_of_a_caller_that_may_only_ask_the_api_uses_its_answer(rdsiam, engine):
    states = diagnosis(rdsiam, f"tokens-{engine}", "app", role="vended")
    well = (
        "name", "port", "TLS", "IAM authentication", "identity", "user", "API", "revocation", "login", "resource id",
        "policy decision", "clock", "region",
    )  # fmt: skip
    assert {check for check, state in states.items() if state == "OK"} == set(well)
    assert "FAIL" not in states.values()


def test_the_doctor_says_that_a_reason_is_required_and_takes_one(rdsiam):
    without = diagnosis(rdsiam, "tokens-postgres", "oncall", role="vended")
    assert [check for check, state in without.items() if state == "FAIL"] == ["API"]
    assert (without["name"], without["port"], without["TLS"]) == ("OK",) * 3, "the API's list has the endpoint"
    with_reason = diagnosis(rdsiam, "tokens-postgres", "oncall", "--reason", "TICKET-7", role="vended")
    assert (with_reason["API"], with_reason["login"]) == ("OK", "OK")


def test_the_doctor_tells_a_role_that_signs_its_own_tokens_how(rdsiam):
    done = rdsiam("doctor", "tokens-postgres", "app2", role="signing")
    assert "OK      API                 access.yaml lets your role sign its own tokens: add --local" in done.stdout


def test_the_doctor_of_an_administrator_needs_no_role(rdsiam):
    states = diagnosis(rdsiam, "tokens-postgres", "app2")
    assert "FAIL" not in states.values()
    assert (states["API"], states["login"], states["revocation"]) == ("OK",) * 3


def test_an_iam_user_is_told_that_it_can_not_ask(rdsiam):
    done = rdsiam("token", "tokens-postgres", "-u", "app")
    assert done.returncode == 4
    assert "which is no role: IAM users and the root user can't ask" in done.stderr
