"""The login that a program gets: everything verified, the token in the environment only, shells not fooled."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from rdsiam.command import connect, listed, login, programs, shells
from rdsiam.command.app import app
from rdsiam.command.errors import Denied, NotFound, Usage
from rdsiam.tokens.trust import ca_for
from tests.examples import at_most

TOKEN = "the-token?Action=connect&X-Amz-Signature=1'%"
PG = login.LoginToken(
    TOKEN, "orders.x.eu-west-1.rds.amazonaws.com", 5432, "app", "postgres", "arn:1", "2026-01-01T00:00:00Z"
)
MY = login.LoginToken(
    TOKEN, "orders.x.eu-west-1.rds.amazonaws.com", 3306, "app", "mysql", "arn:1", "2026-01-01T00:00:00Z"
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("RDSIAM_CA", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)


def test_postgres_programs_verify_everything():
    got = programs.variables(PG, "shop", None)
    assert got.pop("PGSSLROOTCERT") == ca_for(PG.host)
    assert got == {
        "PGHOST": PG.host,
        "PGPORT": "5432",
        "PGUSER": "app",
        "PGPASSWORD": TOKEN,
        "PGDATABASE": "shop",
        "PGSSLMODE": "verify-full",
        "PGGSSENCMODE": "disable",
        "PGREQUIREAUTH": "password",
    }


def test_a_tunnel_changes_the_address_but_not_the_verified_name():
    got = programs.variables(PG, None, "127.0.0.1:15432")
    assert (got["PGHOST"], got["PGHOSTADDR"], got["PGPORT"]) == (PG.host, "127.0.0.1", "15432")
    assert got["PGSSLMODE"] == "verify-full"
    assert programs.variables(PG, None, "[::1]:15432")["PGHOSTADDR"] == "::1"


@pytest.mark.parametrize("via", ["", "x", "host:", ":1", "host:0", "host:65536", "host:x"])
def test_a_tunnel_without_host_or_port_is_refused(via):
    with pytest.raises(Usage):
        programs.variables(PG, None, via)


def test_mysql_tunnels_only_under_the_endpoints_own_name():
    with pytest.raises(Usage, match="/etc/hosts"):
        programs.variables(MY, None, "127.0.0.1:13306")
    assert programs.variables(MY, None, f"{MY.host}:13306")["MYSQL_TCP_PORT"] == "13306"


def fake(tmp_path, says):
    program = tmp_path / "mysql"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("says", "wanted", "unwanted"),
    [
        ("mysql  Ver 15.1 Distrib 10.11.6-MariaDB", {"--ssl", "--ssl-verify-server-cert"}, "--ssl-mode"),
        ("mysql  Ver 8.4.0 for Linux", {"--ssl-mode=VERIFY_IDENTITY", "--enable-cleartext-plugin"}, "--ssl-verify"),
    ],
)
def test_mysql_programs_verify_everything(tmp_path, says, wanted, unwanted):
    flags = programs.mysql_flags(fake(tmp_path, says), MY, None)
    assert wanted <= set(flags)
    assert any(flag.startswith("--ssl-ca=/") for flag in flags)
    assert not any(flag.startswith(unwanted) for flag in flags)
    assert not any(TOKEN in flag for flag in flags)


def test_a_missing_mysql_program_gets_default_options():
    assert programs.mysql_flags("/no/such/mysqldump", MY, None)


@pytest.mark.parametrize(
    ("program", "is_one"),
    [("mysql", True), ("/usr/bin/mysqldump", True), ("mariadb", True), ("mariadb-dump", True), ("mysqld", False),
     ("python", False), ("mysql-tool", False)],
)  # fmt: skip
def test_which_programs_take_mysqls_options(program, is_one):
    assert programs.is_mysql_program(program) is is_one


def exec_program(*command, **environment):
    code = f"from rdsiam.command.programs import exec_program; exec_program({list(command)!r}, {environment!r})"
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": "layers/rdsiam", "PGSERVICE": "elsewhere", "PGHOSTADDR": "10.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_exit_code_is_the_programs():
    assert exec_program("sh", "-c", "exit 42").returncode == 42
    assert exec_program("sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    assert exec_program("/no/such/program").returncode == 127
    assert exec_program("/etc/passwd").returncode == 126


def run_program(script: str) -> "subprocess.Popen[str]":
    """Run a script as psql is run if its database takes no connection."""
    code = f"from rdsiam.command.programs import run_program; exit(run_program(['sh', '-c', {script!r}], {{}}))"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": "layers/rdsiam"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(("script", "code"), [("exit 42", 42), ("kill -KILL $$", 137), ("exec /no/such", 127)])
def test_the_exit_code_of_a_child_is_the_programs(script, code):
    with run_program(script) as process:
        assert process.wait(30) == code


@pytest.mark.parametrize(
    ("number", "send"),
    [
        (signal.SIGINT, os.killpg),  # a terminal sends it to the whole group
        (signal.SIGTERM, os.killpg),
        (signal.SIGTERM, os.kill),
        (signal.SIGHUP, os.kill),
    ],
)
def test_signals_are_those_of_the_child(number, send):
    """An interactive psql takes Ctrl-C for its statement, and lives on."""
    script = "trap 'echo heard; exit 5' INT TERM HUP; echo ready; while :; do sleep 0.05; done"
    with run_program(script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)  # the parent's own handlers
        send(process.pid, number)
        assert process.stdout.read() == "heard\n"
        assert process.wait(30) == 5


def test_misleading_variables_are_removed_and_signals_reset():
    done = exec_program("sh", "-c", 'echo "$PGSERVICE$PGHOSTADDR$PGHOST"; yes | head -1', PGHOST="db")
    assert done.stdout == "db\ny\n"
    assert "yes" not in done.stderr, "a broken pipe ends it quietly"


# --- shells ---


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "pwsh"])
def test_a_real_shell_reads_back_what_was_written(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    value = "a'b\"c$HOME`id`\\ ;x\\'&|\u2019"
    script = {"pwsh": "[Console]::Out.Write($Env:V)"}.get(shell, 'printf %s "$V"')
    done = subprocess.run([shell, "-c", shells.assign(shell, {"V": value}) + script], capture_output=True, check=True)
    assert done.stdout.decode() == value


@settings(max_examples=at_most(30))
@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20))
def test_no_value_escapes_its_quotes(value):
    bash = str(shutil.which("bash"))
    script = shells.assign("bash", {"V": value}) + 'printf %s "$V"'
    done = subprocess.run([bash, "-c", script], capture_output=True, check=True)
    assert done.stdout.decode() == value


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "export A='it'\\''s'\n"),
        ("zsh", "export A='it'\\''s'\n"),
        ("fish", "set -gx A 'it\\'s'\n"),
        ("pwsh", "$Env:A = 'it''s'\n"),
    ],
)
def test_each_shells_quoting(shell, line):
    assert shells.assign(shell, {"A": "it's"}) == line


def test_unset_needs_no_database_and_names_every_variable():
    done = CliRunner().invoke(app, ["env", "--unset", "--shell", "bash"])
    assert done.exit_code == 0
    assert {"unset PGPASSWORD", "unset MYSQL_PWD", "unset PGHOSTADDR"} <= set(done.output.splitlines())


def test_env_unsets_variables_of_an_earlier_login(monkeypatch):
    monkeypatch.setattr(connect, "login_token", lambda *_: PG)
    done = CliRunner().invoke(app, ["env", "orders", "--shell", "bash"])
    assert "unset PGHOSTADDR\n" in done.stdout
    assert done.stdout.index("unset PGHOSTADDR") < done.stdout.index("export PGHOST=")


@pytest.mark.parametrize(("login", "own", "expected"), [
    (["--host=h"], ["-e", "SELECT 1"], ["--host=h", "-e", "SELECT 1"]),
    (["--host=h"], ["--defaults-file=/x", "-e", "y"], ["--defaults-file=/x", "--host=h", "-e", "y"]),
    (["--host=h"], ["--defaults-extra-file=/x", "--defaults-group-suffix=_a"],
     ["--defaults-extra-file=/x", "--defaults-group-suffix=_a", "--host=h"]),
    (["--no-defaults", "--host=h"], ["--defaults-file=/x"], ["--defaults-file=/x", "--host=h"]),
    (["--no-defaults", "--host=h"], ["--no-defaults"], ["--no-defaults", "--host=h"]),
    (["--no-defaults", "--host=h"], ["-N"], ["--no-defaults", "--host=h", "-N"]),
    (["--host=h"], ["-e", "--no-defaults"], ["--host=h", "-e", "--no-defaults"]),
    (["--host=h"], [], ["--host=h"]),
])  # fmt: skip
def test_an_option_file_of_the_user_stays_the_first_argument(login, own, expected):
    assert programs.mysql_arguments(login, own) == expected


#: Variables of a person: libpq takes host and TLS from the service before PGHOST and PGSSLMODE, and asks the server for
#: what no login by token has.
MISLEADING = {
    "PGSERVICE": "elsewhere",
    "PGHOSTADDR": "10.0.0.1",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCHANNELBINDING": "require",
    "PGSSLCERTMODE": "require",
}


def test_env_leaves_no_variable_that_leads_elsewhere(monkeypatch, tmp_path):
    (tmp_path / "services").write_text("[elsewhere]\nhost=evil.example\nsslmode=disable\n")
    for name, value in {**MISLEADING, "PGSERVICEFILE": str(tmp_path / "services")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(connect, "login_token", lambda *_: PG)
    done = CliRunner().invoke(app, ["env", "orders", "--shell", "bash"])
    names = " ".join(f"${name}" for name in (*MISLEADING, "PGSERVICEFILE"))
    shell = subprocess.run(
        [str(shutil.which("bash")), "-c", f'{done.stdout}echo "{names}" $PGHOST'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.split() == [PG.host]
    assert "PGSERVICE is unset: the service elsewhere would lead elsewhere" in done.stderr


def test_env_says_nothing_of_a_service_that_is_not_set(monkeypatch):
    monkeypatch.delenv("PGSERVICE", raising=False)
    monkeypatch.setattr(connect, "login_token", lambda *_: PG)
    assert "PGSERVICE" not in CliRunner().invoke(app, ["env", "orders", "--shell", "bash"]).stderr


@pytest.mark.parametrize("command", ["psql", "mysql"])
def test_the_wrong_client_is_named(monkeypatch, command):
    monkeypatch.setattr(connect, "login_token", lambda *_: MY if command == "psql" else PG)
    done = CliRunner().invoke(app, [command, "orders"])
    assert isinstance(done.exception, Usage)
    assert f"rdsiam {'mysql' if command == 'psql' else 'psql'}" in str(done.exception)


# --- which user ---

LISTED = [
    {"identifier": "orders", "arn": "arn:1", "engine": "postgres", "users": ["app"]},
    {"identifier": "twice", "arn": "arn:2", "engine": "postgres", "users": ["b", "a"]},
    {"identifier": "twice", "arn": "arn:3", "engine": "aurora-postgresql", "users": ["a"]},
    {"identifier": "none", "arn": "arn:4", "engine": "mysql", "users": []},
]


def test_names_match_exactly_and_ambiguous_names_are_errors():
    assert listed.choose(LISTED, "orders")["arn"] == "arn:1"
    assert listed.choose(LISTED, "arn:3")["arn"] == "arn:3"
    with pytest.raises(Usage, match="arn:2, arn:3") as caught:
        listed.choose(LISTED, "twice")
    assert caught.value.exit_code == 2
    with pytest.raises(NotFound, match="did you mean orders"):
        listed.choose(LISTED, "order")


def test_the_only_user_is_chosen_and_several_users_are_an_error():
    assert listed.only_user(LISTED[0]) == "app"
    with pytest.raises(Usage, match="a, b"):
        listed.only_user(LISTED[1])
    with pytest.raises(Denied):
        listed.only_user(LISTED[3])


def test_a_login_does_not_show_its_token():
    assert TOKEN not in repr(PG)


# --- help, completions ---


@pytest.mark.parametrize("name", sorted(app.commands))
def test_help_has_three_examples(name):
    commands = getattr(app.commands[name], "commands", None)
    for words in [[name, sub] for sub in commands] if commands else [[name]]:
        text = CliRunner().invoke(app, [*words, "--help"]).output
        assert text[text.index("Examples:") :].count(f"rdsiam {' '.join(words)}") >= 3, words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_printed(shell):
    done = CliRunner().invoke(app, ["completion", shell])
    assert done.exit_code == 0
    assert "_RDSIAM_COMPLETE" in done.output
