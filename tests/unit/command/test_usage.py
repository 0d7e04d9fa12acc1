"""Wrong command lines: each is an error that says what is right, before anything is asked."""

import tomllib
from pathlib import Path

import pytest

from rdsiam.command.app import app, run
from rdsiam.command.version import VERSION


def usage(monkeypatch, capsys, *words: str) -> str:
    """Return the one line of the error for a wrong command line."""
    monkeypatch.setattr("sys.argv", ["rdsiam", *words])
    with pytest.raises(SystemExit) as ended:
        run()
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1), err
    assert err.endswith("[usage]\n")
    return str(err)


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["psql", "orders", "shop"], "Unexpected argument: shop"),
        (["psql", "orders", "SELECT 1"], "psql's own arguments come after --: rdsiam psql DATABASE -- SELECT 1"),
        (["psql", "orders", "-d", "shop", "one", "two"], "after --: rdsiam psql DATABASE -- one two"),
        (["psql", "orders", "-c", "SELECT 1"], "psql's own arguments come after --: rdsiam psql DATABASE -- -c"),
        (["psql", "orders", "-XAtc", "SELECT 1"], "after --: rdsiam psql DATABASE -- -X"),
        (["psql", "orders", "--command=SELECT 1"], "after --: rdsiam psql DATABASE -- --command"),
        (["psql", "orders", "-f", "a.sql"], "after --: rdsiam psql DATABASE -- -f"),
        (["mysql", "billing", "shop"], "mysql's own arguments come after --: rdsiam mysql DATABASE -- shop"),
        (["mysql", "billing", "-e", "SELECT 1"], "after --: rdsiam mysql DATABASE -- -e"),
        (["exec", "orders", "python", "migrate.py"], "the command to run comes after --"),
        (["exec", "orders"], "Missing command"),
        (["exec", "orders", "--"], "rdsiam exec DATABASE -- COMMAND"),
        (["psql", "--", "orders"], "Missing argument 'DATABASE'; see rdsiam psql --help"),
        (["onboard", "orders", "--dry-run"], "this command has the option --plan"),
        (["revoke", "orders", "app", "--dry-run", "--reason", "x"], "this command has the option --plan"),
        (["doctor", "orders", "-u", "app"], "this command has the argument USER"),
        (["revoke", "orders", "--user", "app", "--reason", "x"], "this command has the argument USER"),
        (["onboard", "--database", "orders"], "this command has the argument DATABASE"),
        (["ls", "--format", "json"], "this command has the option --output"),
        (["onboard", ""], "the name of the database is empty"),
        (["psql", "", "-u", "app"], "the name of the database is empty"),
        (["doctor", "", "app"], ""),
        (["completion"], "Choose from: bash, zsh, fish; see rdsiam completion --help"),
        (["acces", "validate"], "No such command 'acces'; did you mean access? [usage]"),
        (["access", "valdate"], "No such command 'valdate'; did you mean validate? [usage]"),
        (["LS"], "No such command 'LS'; did you mean ls? [usage]"),
        (["ls", "--outptu", "json"], "No such option '--outptu'; did you mean --output? [usage]"),
        (["psql", "orders", "--usr", "app"], "No such option '--usr'; did you mean --user? psql's own arguments"),
        (["audit", "orders"], "Unexpected argument: orders; a database is named with --database; see"),
        (["decisions", "orders"], "Unexpected argument: orders; a database is named with --database; see"),
        (["proxy", "orders", "--port", "abc"], "Invalid value for '--port': 'abc' is no whole number; see"),
        (["proxy", "orders", "--login-timeout", "abc"], "'abc' is no number; see"),
        (["ls", "--nosuch"], "No such option '--nosuch'; see rdsiam ls --help"),
        (["ls", "--api-url", "https://[::1"], "not an address of an API"),
        (["ls", "--api-url", "https://x:99999"], "not an address of an API"),
        (["audit", "--incomplete-ok", "--remediate", "x"], "--incomplete-ok goes with an audit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_says_what_is_right(monkeypatch, capsys, words, advice):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert advice in usage(monkeypatch, capsys, *words)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["psql", "orders", "-u"], "psql"),
        (["psql", "orders", "-u", "--", "-c", "SELECT 1"], "psql"),
        (["exec", "orders", "--user"], "exec"),
        (["ls", "--engine"], "ls"),
        (["doctor", "--error"], "doctor"),
        (["migrate", "start", "orders", "app", "--watch"], "migrate start"),
        (["rotate", "now", "orders", "app", "--wait"], "rotate now"),
        (["rotate", "all", "--reason"], "rotate all"),
        (["access", "history", "--limit"], "access history"),
        (["access", "publish", "file", "--region"], "access publish"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_without_its_value_points_to_the_help_of_its_command(monkeypatch, capsys, words, command):
    assert f" requires an argument; see rdsiam {command} --help [usage]" in usage(monkeypatch, capsys, *words)


@pytest.mark.parametrize("words", [["--plan"], ["--nosuch"], ["nosuch"]])
def test_the_program_itself_has_no_such_words(monkeypatch, capsys, words):
    assert "see rdsiam --help" in usage(monkeypatch, capsys, *words)


def test_arguments_after_two_dashes_reach_the_program_as_they_are():
    words = ["orders", "-u", "app", "--", "-c", "SELECT 1", "--", "-h", "--user"]
    context = app.commands["psql"].make_context("psql", words)
    assert context.params["arguments"] == ("-c", "SELECT 1", "--", "-h", "--user")
    assert context.params["user"] == "app"


def test_the_usage_of_a_passing_command_shows_the_dashes():
    assert "DATABASE [-- ARGUMENTS...]" in app.commands["psql"].get_help(
        app.commands["psql"].make_context("psql", ["x"])
    )


def test_the_version_is_that_of_the_distribution(monkeypatch, capsys):
    root = Path(__file__).parents[3]
    project = tomllib.loads((root / "layers" / "rdsiam" / "pyproject.toml").read_text())["project"]
    monkeypatch.setattr("sys.argv", ["rdsiam", "--version"])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code in (0, None)
    assert capsys.readouterr().out == f"rdsiam {project['version']}\n"
    assert project["version"] == VERSION
