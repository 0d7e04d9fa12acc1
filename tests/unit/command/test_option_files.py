"""The option file of `rdsiam env` and `exec`: private, without the token, and one for each login."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from rdsiam.command import connect, option_files, programs
from rdsiam.command.app import app
from tests.unit.command.test_programs import MY, PG, TOKEN


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Make a home without option files, and a `mysql` of MySQL's on the path."""
    home, bin_ = tmp_path / "home", tmp_path / "bin"
    for folder in (home, bin_):
        folder.mkdir()
    (bin_ / "mysql").write_text("#!/bin/sh\necho 'mysql  Ver 9.7.4 for Linux'\n")
    (bin_ / "mysql").chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", str(bin_))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return home


def test_the_file_is_private_and_holds_no_token(home):
    values = option_files.variables(MY, 3306, "shop")
    file = Path(values["MYSQL_HOME"]) / "my.cnf"
    assert values["MARIADB_HOME"] == values["MYSQL_HOME"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert file.is_relative_to(home / ".cache" / "rdsiam")
    assert "X-Amz" not in file.read_text()
    assert 'ssl-mode="VERIFY_IDENTITY"' in file.read_text()
    assert list(file.parent.iterdir()) == [file]


def test_the_same_login_has_the_same_file_and_others_have_their_own():
    folder = option_files.variables(MY, 3306, "shop")["MYSQL_HOME"]
    assert option_files.variables(replace(MY, token="another"), 3306, "shop")["MYSQL_HOME"] == folder
    others = [(replace(MY, user="b"), 3306, "shop"), (MY, 13306, "shop"), (MY, 3306, None)]
    assert len({folder, *(option_files.variables(*other)["MYSQL_HOME"] for other in others)}) == 4


def test_a_file_that_others_could_read_is_replaced():
    file = Path(option_files.variables(MY, 3306, None)["MYSQL_HOME"]) / "my.cnf"
    file.write_text("[client]\nhost=elsewhere\n")
    file.chmod(0o666)
    option_files.variables(MY, 3306, None)
    assert "elsewhere" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_relative_cache_directory_is_ignored(monkeypatch, home):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert option_files.variables(MY, 3306, None)["MYSQL_HOME"].startswith(str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "other"))
    assert option_files.variables(MY, 3306, None)["MYSQL_HOME"].startswith(str(home / "other"))


def test_a_home_that_cannot_be_written_to_is_named(home, capsys):
    (home / ".cache").write_text("a file")
    assert option_files.variables(MY, 3306, None) == {}
    assert "can't be written to" in (said := capsys.readouterr().err)
    assert "rdsiam mysql" in said


def test_a_user_without_a_home_is_told_so(monkeypatch, capsys):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert option_files.variables(MY, 3306, None) == {}
    assert "home directory" in capsys.readouterr().err
    assert programs.mysql_flags("mysql", MY, None)[0] == "--protocol=tcp"


def test_without_a_client_no_file_is_written(monkeypatch, home):
    monkeypatch.setenv("PATH", str(home))
    assert option_files.variables(MY, 3306, None) == {}
    assert list(home.iterdir()) == []


def test_options_of_the_user_that_replace_the_login_are_named(home, capsys):
    (home / ".my.cnf").write_text("[client]\nuser=me\npassword=secret\n[mysql]\npager=less\n")
    folder = option_files.variables(MY, 3306, None)["MYSQL_HOME"]
    said = capsys.readouterr().err
    assert "password, user" in said
    assert f"--defaults-file={folder}/my.cnf" in said
    assert "secret" not in said


@pytest.mark.parametrize("line", ["password=x", "password", "default-auth=mysql_native_password"])
def test_rdsiam_mysql_reads_no_option_file_that_would_replace_the_token(home, line):
    (home / ".my.cnf").write_text(f"[client]\n{line}\n")
    assert programs.mysql_flags("mysql", MY, None)[0] == "--no-defaults"
    (home / ".my.cnf").write_text("[client]\nuser=me\n[mysql]\nprompt=x\n")
    assert programs.mysql_flags("mysql", MY, None)[0] == "--protocol=tcp"


def test_env_leads_to_the_file_and_unset_away_from_it(monkeypatch):
    monkeypatch.setattr(connect, "login_token", lambda *_: MY)
    done = CliRunner().invoke(app, ["env", "billing", "--shell", "bash"])
    assert "export MYSQL_HOME='/" in done.stdout
    assert done.stdout.count(TOKEN[:20]) == 1
    gone = CliRunner().invoke(app, ["env", "--unset", "--shell", "bash"]).stdout.splitlines()
    assert "export MYSQL_TEST_LOGIN_FILE='/dev/null'" in done.stdout
    assert {"unset MYSQL_HOME", "unset MARIADB_HOME", "unset MYSQL_TEST_LOGIN_FILE"} <= set(gone)


def test_postgres_gets_no_option_file(monkeypatch, home):
    monkeypatch.setattr(connect, "login_token", lambda *_: PG)
    assert "MYSQL" not in CliRunner().invoke(app, ["env", "orders", "--shell", "bash"]).stdout
    assert list(home.iterdir()) == []
