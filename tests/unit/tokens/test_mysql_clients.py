"""Option files of MySQL's and MariaDB's programs: real programs read back what was written."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.databases.servers.mysql_programs import find_mysql
from rdsiam.errors import InvalidRequest
from rdsiam.tokens import mysql_clients
from tests.examples import at_most
from tests.kinds import MYSQL, needs_mysql

HOST = "billing.x.eu-west-1.rds.amazonaws.com"


def client(kind: str) -> list[str]:
    """Return the beginning of the command of a client: MariaDB's, or Oracle's beside its server."""
    if kind == "mariadb":
        return [str(shutil.which("mariadb"))]
    programs = find_mysql()
    assert programs is not None
    *loader, server = programs.command
    return [*loader, str(Path(server).parents[1] / "bin" / "mysql")]


def read_back(command: list[str], text: str, folder: Path) -> list[str]:
    """Return the arguments that a client takes from an option file, in one line each."""
    file = folder / "my.cnf"
    file.write_text(text)
    done = subprocess.run(
        [*command, f"--defaults-file={file}", "--print-defaults"], capture_output=True, text=True, check=True
    )
    return done.stdout.split("\n", 1)[1].strip("\n ").split(" --")


@pytest.mark.parametrize("kind", ["mariadb", MYSQL])
@pytest.mark.parametrize(
    "user", ["app", "a b#c;d", 'it\'s "q"', "back\\slash\\n", "'quoted'", "[client]", "!include x"]
)
def test_a_client_reads_back_any_user(tmp_path, kind, user):
    text = mysql_clients.option_file({"host": HOST, "user": user, "port": "3306"}, "sh#op")
    assert read_back(client(kind), text, tmp_path) == [
        f"--host={HOST}",
        f"user={user}",
        "port=3306",
        "database=sh#op",
    ]


@settings(max_examples=at_most(20))
@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20))
def test_no_name_leaves_its_line(user):
    lines = mysql_clients.option_file({"user": user}).split("\n")
    assert (lines[0], len(lines)) == ("[client]", 3)
    assert lines[1].startswith('user="')


def test_a_name_with_nul_is_refused():
    with pytest.raises(InvalidRequest):
        mysql_clients.option_file({"user": "a\0b"})


@pytest.mark.parametrize("kind", ["mariadb", MYSQL])
def test_each_client_knows_the_options_that_are_written_for_it(tmp_path, kind):
    command = client(kind)
    program = tmp_path / "mysql"
    program.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
    program.chmod(0o755)
    login = mysql_clients.options(str(program), HOST, 3306, "app")
    file = tmp_path / "my.cnf"
    file.write_text(mysql_clients.option_file(login, "shop"))
    done = subprocess.run([program, f"--defaults-file={file}", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    settled = {words[0]: words[1] for words in map(str.split, done.stdout.splitlines()) if len(words) == 2}
    verified = {"mariadb": ("ssl-verify-server-cert", "TRUE"), "mysql": ("enable-cleartext-plugin", "TRUE")}[kind]
    assert settled[verified[0]] == verified[1]
    assert (settled["host"], settled["user"], settled["database"]) == (HOST, "app", "shop")


def write_login_paths(file: Path, lines: list[str]) -> None:
    """Write what mysql_config_editor writes: four zeros, the key, and each line encrypted, after its length."""
    given, key = bytes(range(1, 21)), bytearray(16)
    for number, byte in enumerate(given):
        key[number % 16] ^= byte
    text = bytes(4) + given
    for line in lines:
        padded = line.encode() + b"\n"
        padded += bytes([16 - len(padded) % 16]) * (16 - len(padded) % 16)
        encryptor = Cipher(algorithms.AES(bytes(key)), modes.ECB()).encryptor()  # noqa: S305  the format's own
        encrypted = encryptor.update(padded) + encryptor.finalize()
        text += struct.pack("<i", len(encrypted)) + encrypted
    file.write_bytes(text)
    file.chmod(0o600)


@needs_mysql
def test_login_paths_do_not_replace_a_login(tmp_path):
    write_login_paths(tmp_path / ".mylogin.cnf", ["[client]", "user = other", "password = mine", "host = elsewhere"])
    command = [*client("mysql"), "--print-defaults"]

    def options_with(variables: dict[str, str]) -> str:
        return subprocess.run(
            command, env={"HOME": str(tmp_path), **variables}, capture_output=True, text=True, check=True
        ).stdout

    assert "--user=other" in options_with({})
    assert "--user" not in options_with(dict(mysql_clients.NO_LOGIN_PATHS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("[client]\npassword=x\nuser = me\n", ["password", "user"]),
        ("[ mysql ]\n  host=x\n", ["host"]),
        ("[mysql]\nprompt=x\npager=less\nsafe-updates\n", []),
        ("[mysqld]\nuser=mysql\nport=3306\n", []),
        ("[mysqld-8.0]\nuser=mysql\n[mysqld_safe]\nsocket=/x\n[mariadbd]\nport=1\n", []),
        ("[client-mariadb]\nskip-ssl\n", ["skip-ssl"]),
        ("[mysqldump]\nloose_ssl_mode=DISABLED\n", ["ssl-mode"]),
        ("# [client]\npassword=x\n", []),
        ("[client]\n#password=x\npassword\n", ["password"]),
        ("[client]\n[mysqld]\npassword=x\n", []),
        ("[mariadb-client]\nSOCKET=/run/x\n", ["socket"]),
        ("[client_billing]\nssl\n", ["ssl"]),
    ],
)
def test_options_that_would_replace_a_login_are_found(text, expected):
    assert mysql_clients.conflicts(text) == expected


@pytest.mark.parametrize("line", ["!include {}/more/own.cnf", "  !include   {}/more/own.cnf  ", "!includedir {}/more"])
def test_options_of_included_files_are_found_as_clients_read_them(tmp_path, monkeypatch, line):
    """A password of an included file would replace the token, and its `skip-ssl` would take TLS away."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "own.cnf").write_text("[client]\nskip-ssl\n!include deeper.cnf\n")
    (tmp_path / "deeper.cnf").write_text("[client]\npassword=mine\n!include deeper.cnf\n")
    (tmp_path / ".my.cnf").write_text(f"[mysqld]\n{line.format(tmp_path)}\nuser=mysql\n")
    monkeypatch.chdir(tmp_path)
    assert mysql_clients.conflicts(mysql_clients.own_options()) == ["password", "skip-ssl"]
    assert mysql_clients.other_password()


@pytest.mark.parametrize("line", ["!include missing.cnf", "!includedir missing", "!include", "#!include own.cnf"])
def test_files_that_are_not_included_change_nothing(tmp_path, monkeypatch, line):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.cnf").write_text("[client]\npassword=mine\n")
    (tmp_path / ".my.cnf").write_text(f"[client]\n{line}\n")
    assert not mysql_clients.other_password()
