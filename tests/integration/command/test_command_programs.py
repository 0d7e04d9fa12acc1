"""Programs that the `rdsiam` command logs in, directly and through tunnels: real clients, real servers."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from localcloud.core.certificates import Authority
from tests.integration.commands import no_secret
from tests.integration.relay import Relay
from tests.kinds import MYSQL
from tests.mysql_client import write_mysql_client


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
    return f"{write_mysql_client(tmp_path)}:{os.environ['PATH']}"


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
    host = endpoint["Address"]
    relay = Relay(host, endpoint["Port"], at=socket.gethostbyname(host))  # as a line of /etc/hosts has it
    query = ["--", "-Ne", "SELECT current_user()"]
    done = rdsiam("mysql", "tokens-mariadb", "-u", "app", "--via", f"{host}:{relay.port}", *query, role="vended")
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


def test_mysql_sends_no_user_and_no_token_without_tls(rdsiam, account, place):
    """Whoever sits at a MySQL tunnel's end, and says that there is no TLS, gets neither user nor token."""
    version, flags = b"5.5.5-10.11.0-MariaDB\0", 0x0200 | 0x8000 | 0x0008  # protocol 4.1, secure connection; no TLS
    plugin_auth = 0x0008  # the upper half of the flags
    greeting = (
        *(b"\x0a", version, (1).to_bytes(4, "little"), b"12345678\0", flags.to_bytes(2, "little"), b"\x2d\x02\x00"),
        *(plugin_auth.to_bytes(2, "little"), b"\x15", bytes(10), b"123456789012\0", b"mysql_clear_password\0"),
    )
    packet = b"".join(greeting)
    host = account.describe(place["arns"]["mariadb"])["Endpoint"]["Address"]
    listener, received = socket.create_server((socket.gethostbyname(host), 0)), []

    def serve() -> None:
        connection, _ = listener.accept()
        connection.sendall(len(packet).to_bytes(3, "little") + b"\0" + packet)
        with contextlib.suppress(OSError):
            received.append(connection.recv(65536))
        connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    via = ["--via", f"{host}:{listener.getsockname()[1]}"]
    done = rdsiam("mysql", "tokens-mariadb", "-u", "app", *via, "--", "-e", "SELECT 1", role="vended")
    thread.join(10)
    assert done.returncode != 0
    assert "SSL" in done.stderr
    assert b"X-Amz" not in b"".join(received)
    assert b"app" not in b"".join(received)


# --- databases that don't run ---


def test_a_stopped_database_is_named_as_the_cause_after_the_programs_own_error(rdsiam, account, place):
    rds, arn = account.cloud.client("rds"), place["arns"]["postgres"]
    rds.stop_db_instance(DBInstanceIdentifier="tokens-postgres")
    try:
        account.wait(arn, "stopped")
        query = ["--", "-XAtc", "SELECT 1"]
        signed = rdsiam("psql", "tokens-postgres", "--local", "-u", "app", *query)
        vended = rdsiam("psql", "tokens-postgres", "-u", "app", *query, role="vended")
    finally:
        rds.start_db_instance(DBInstanceIdentifier="tokens-postgres")
        account.wait(arn, "available")
    start = "aws rds start-db-instance --db-instance-identifier tokens-postgres"
    assert (signed.returncode, signed.stdout) == (2, "")
    first, *_, last = signed.stderr.splitlines()
    assert first.startswith("psql: error: ")
    assert last == f"rdsiam: tokens-postgres is stopped; {start}"
    assert (vended.returncode, vended.stdout) == (2, "")
    assert vended.stderr.endswith("; rdsiam doctor tokens-postgres app finds the cause\n"), "it may not describe it"
    for done in (signed, vended):
        no_secret(done)
