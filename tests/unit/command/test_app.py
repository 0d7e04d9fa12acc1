"""The `rdsiam` command without AWS: settings, output, errors and exit codes."""

import io
import json
import os
import socket
from pathlib import Path
from typing import Any

import click
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.parsers import ResponseParserError
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.command import audit, aws, executions, fast_token, trust
from rdsiam.command.app import app, run
from rdsiam.command.aws import translate_errors
from rdsiam.command.errors import CredentialsExpired, Denied, ExecutionFailed, FunctionError, NotFound, TryAgain
from rdsiam.command.output import Output, visible
from rdsiam.command.settings import Settings
from rdsiam.errors import Refused


def trust_here() -> None:
    """Trust the file of the working directory."""
    file = trust.local_file(Path())
    assert file is not None
    file.trust()


def answer(unreachable=0, **findings):
    return {
        "id": "20261124T000000Z-abc",
        "databases": 3,
        "audited": 3 - unreachable,
        "unreachable": unreachable,
        "findings": {"critical": 0, "high": 0, "medium": 0, "low": 0} | findings,
        "reports": {"json": "s3://reports/audits/1/report.json", "csv": "s3://r/c", "html": "s3://r/h"},
    }


@pytest.mark.parametrize(
    ("result", "fail_on", "code"),
    [
        (answer(), "low", 0),
        (answer(low=1), "low", 3),
        (answer(low=1, medium=2), "high", 0),
        (answer(high=1), "high", 3),
        (answer(critical=1), "high", 3),
        (answer(critical=1), "none", 0),
        (answer(unreachable=1), "none", 7),
        (answer(unreachable=1, critical=1), "low", 7),
    ],
)
def test_the_exit_code_of_an_audit_follows_findings_and_unknown_databases(result, fail_on, code):
    assert audit._exit_code(result, fail_on) == code


@pytest.mark.parametrize(
    ("result", "fail_on", "code"),
    [
        (answer(unreachable=1), "low", 0),
        (answer(unreachable=1, critical=1), "low", 3),
        (answer(unreachable=2, low=1), "high", 0),
        (answer(unreachable=1, critical=1), "none", 0),
    ],
)
def test_unreadable_databases_hide_no_findings_if_that_is_asked_for(result, fail_on, code):
    assert audit._exit_code(result, fail_on, incomplete_ok=True) == code


@pytest.mark.parametrize(
    "arguments", [["--plan"], ["--confirm"], ["--remediate", "x", "--database", "y"], ["--fail-on", "worst"], ["extra"]]
)
def test_wrong_usage_of_audit_has_exit_code_2(arguments):
    assert CliRunner().invoke(app, ["audit", *arguments]).exit_code == 2


def test_help_has_three_examples():
    text = CliRunner().invoke(app, ["audit", "--help"]).output
    assert text[text.index("Examples:") :].count("rdsiam audit") >= 3


# --- errors ---


def raises(error: BaseException) -> Any:
    def run(**_: Any) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            NotFound("orders: no such database", "see rdsiam ls"),
            5,
            "orders: no such database; see rdsiam ls [not-found]",
        ),
        (Refused("orders: busy", "wait", "needs-confirmation"), 3, "orders: busy; wait [needs-confirmation]"),
        (click.UsageError("Missing argument 'USER'."), 2, "Missing argument 'USER'; see rdsiam --help [usage]"),
    ],
)
def test_an_error_is_a_line_with_problem_remedy_and_code(monkeypatch, capsys, error, code, line):
    monkeypatch.setattr(app, "main", raises(error))
    with pytest.raises(SystemExit) as ended:
        run()
    assert (ended.value.code, capsys.readouterr().err) == (code, f"rdsiam: {line}\n")


def test_an_interrupted_command_has_exit_code_130(monkeypatch):
    monkeypatch.setattr(app, "main", raises(click.Abort()))
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 130


# --- settings ---


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """Return a folder without settings, and none in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("RDSIAM_AUDIT_FUNCTION", "RDSIAM_STACK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_nearest_setting_wins(empty, monkeypatch):
    asked = []

    def outputs(stack):
        asked.append(stack)
        return {"AuditFunctionAlias": "from-the-stack"}

    def found(**flags):
        setting = Settings(flags, outputs).get("audit_function")
        return setting.value, setting.origin

    assert found() == ("from-the-stack", "output AuditFunctionAlias of stack rdsiam")
    (empty / "config" / "rdsiam").mkdir(parents=True)
    (empty / "config" / "rdsiam" / "config.toml").write_text('audit_function = "users"\nstack = "mine"\n')
    assert found()[0] == "users"
    Path("rdsiam.toml").write_text('audit_function = "folders"\n')
    assert found()[0] == "users", "nobody trusts that file"
    trust_here()
    assert found() == ("folders", str(empty / "rdsiam.toml"))
    monkeypatch.setenv("RDSIAM_AUDIT_FUNCTION", "environments")
    assert found() == ("environments", "RDSIAM_AUDIT_FUNCTION")
    assert found(audit_function="flags") == ("flags", "--audit-function")
    assert asked == ["rdsiam"], "the stack is asked only when nothing nearer has the setting"


def test_a_missing_output_of_the_stack_names_the_variable_to_set(empty):
    with pytest.raises(NotFound, match="RDSIAM_AUDIT_FUNCTION"):
        Settings({"stack": "other"}, lambda _: {}).get("audit_function")


def test_a_caller_who_may_not_read_the_stack_is_told_which_variable_to_set(empty):
    def outputs(_: str) -> dict[str, str]:
        raise Denied("stack rdsiam: DescribeStacks: AccessDenied")

    with pytest.raises(
        Denied,
        match=r"^audit_function is not set, .*AccessDenied; ask an operator for the value of RDSIAM_AUDIT_FUNCTION",
    ):
        Settings({}, outputs).get("audit_function")


def test_missing_credentials_stay_the_cause_of_a_missing_setting(empty):
    def outputs(_):
        raise Denied("no AWS credentials", "set AWS_PROFILE")

    with pytest.raises(Denied, match=r"^no AWS credentials; set AWS_PROFILE$"):
        Settings({}, outputs).get("api_url")


def test_config_says_once_why_the_stack_is_not_read(empty, monkeypatch):
    def denied(*_):
        raise Denied("stack rdsiam: DescribeStacks: AccessDenied")

    monkeypatch.setattr("rdsiam.command.aws.Aws.outputs", denied)
    done = CliRunner().invoke(app, ["config"])
    assert done.exit_code == 0
    assert done.output.count("AccessDenied") == 1
    assert "DescribeStacks" not in done.stdout


def test_a_broken_file_is_named_and_not_shown(empty):
    (empty / "config" / "rdsiam").mkdir(parents=True)
    (empty / "config" / "rdsiam" / "config.toml").write_text("password = hunter2 not toml\n")
    with pytest.raises(NotFound, match=r"config\.toml is not TOML") as caught:
        Settings({}, lambda _: {}).get("stack")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("content", "says"), [
    ('api-url = "https://x"', "value: ignored; did you mean api_url?"),
    ("api_url = 5", "api_url is no setting of rdsiam with a text as its value: ignored\n"),
    ('colour = "red"', "colour is no setting of rdsiam with a text as its value: ignored\n"),
    ('"a\\u001b[31m" = 1', r"a\x1b[31m is no setting"),
])  # fmt: skip
def test_a_line_of_the_users_file_that_sets_nothing_is_named(empty, capsys, content, says):
    (empty / "config" / "rdsiam").mkdir(parents=True)
    (empty / "config" / "rdsiam" / "config.toml").write_text(content + "\n")
    assert Settings({}, lambda _: {}).get("stack").value == "rdsiam"
    assert says in capsys.readouterr().err


# --- which files are trusted ---


def stack(**_: str) -> str:
    return Settings({}, lambda _: {}).get("stack").value


def test_a_file_of_the_working_directory_is_ignored_and_named_once(empty, capsys):
    Path("rdsiam.toml").write_text('stack = "evil"\n')

    for _ in range(2):
        assert stack() == "rdsiam"

    told = capsys.readouterr().err
    assert told.count("rdsiam config trust") == 1
    assert f"{empty}/rdsiam.toml is not trusted" in told


def test_a_trusted_file_applies_only_with_the_trusted_content(empty):
    Path("rdsiam.toml").write_text('stack = "mine"\n')
    done = CliRunner().invoke(app, ["config", "trust"])
    assert (done.exit_code, stack()) == (0, "mine")
    assert "stack = mine" in done.stderr

    Path("rdsiam.toml").write_text('stack = "evil"\n')
    assert stack() == "rdsiam"

    Path("rdsiam.toml").write_text('stack = "mine"\n')
    assert stack() == "mine"


def test_a_file_is_trusted_at_its_place_only(empty, monkeypatch):
    """Neither the same content elsewhere, nor a file of a directory above, nor a link to the trusted file."""
    Path("rdsiam.toml").write_text('stack = "mine"\n')
    trust_here()
    below, copied, linked = empty / "below", empty / "copied", empty / "linked"
    for folder in (below, copied, linked):
        folder.mkdir()
    (copied / "rdsiam.toml").write_text('stack = "mine"\n')
    (linked / "rdsiam.toml").symlink_to(empty / "rdsiam.toml")
    for folder in (below, copied, linked):
        monkeypatch.chdir(folder)
        assert stack() == "rdsiam"

    (empty / "alias").symlink_to(empty)
    monkeypatch.chdir(empty / "alias")
    assert stack() == "mine"


def test_a_trusted_link_applies_only_with_the_trusted_content(empty):
    Path("target").write_text('stack = "mine"\n')
    Path("rdsiam.toml").symlink_to("target")
    trust_here()
    assert stack() == "mine"

    Path("target").write_text('stack = "evil"\n')
    assert stack() == "rdsiam"


def test_a_forgotten_file_is_no_longer_trusted(empty):
    for content in ('stack = "one"\n', 'stack = "two"\n'):
        Path("rdsiam.toml").write_text(content)
        CliRunner().invoke(app, ["config", "trust", "rdsiam.toml"])

    done = CliRunner().invoke(app, ["config", "trust", "--forget", str(empty)])

    assert f"2 versions of {trust.NAME} no longer trusted" in done.stderr
    assert stack() == "rdsiam"


@pytest.mark.parametrize("kind", ["pipe", "large", "directory"])
def test_pipes_directories_and_large_files_are_ignored_and_never_trusted(empty, kind):
    if kind == "pipe":
        os.mkfifo("rdsiam.toml")
    elif kind == "large":
        Path("rdsiam.toml").write_bytes(b"#" * 70_000)
    else:
        Path("rdsiam.toml/rdsiam.toml").mkdir(parents=True)
    assert CliRunner().invoke(app, ["config", "trust", "rdsiam.toml"]).exit_code != 0

    assert stack() == "rdsiam"


def test_a_relative_xdg_config_home_is_ignored(empty, monkeypatch):
    (empty / "planted" / "rdsiam").mkdir(parents=True)
    (empty / "planted" / "rdsiam" / "config.toml").write_text('stack = "evil"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", "planted")
    monkeypatch.setenv("HOME", str(empty))

    assert stack() == "rdsiam"


def test_the_fast_token_path_reads_no_settings(empty, monkeypatch):
    Path("rdsiam.toml").write_text('stack = "evil"\n')
    monkeypatch.setattr(trust, "local_file", lambda _: pytest.fail("read it"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    host = "orders.c9akciq32.eu-central-1.rds.amazonaws.com"

    assert fast_token.token(["token", "--host", host, "--port", "5432", "--user", "app"])


# --- what AWS answers ---


def client_error(code):
    return ClientError({"Error": {"Code": code, "Message": "reason"}}, "Invoke")


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (client_error("AccessDeniedException"), Denied, 4),
        (client_error("ExpiredToken"), Denied, 4),
        (NoCredentialsError(), Denied, 4),
        (client_error("ResourceNotFoundException"), NotFound, 5),
        (client_error("ThrottlingException"), TryAgain, 6),
        (client_error("InternalFailure"), ExecutionFailed, 1),
        (ResponseParserError("Unable to parse response: b'<html>a proxy</html>'"), TryAgain, 6),
    ],
)
def test_errors_of_aws_have_their_exit_code(error, kind, code):
    with pytest.raises(kind) as caught, translate_errors("the function"):
        raise error
    assert caught.value.exit_code == code
    assert "the function" in str(caught.value)
    assert "<html>" not in str(caught.value)


class Lambda:
    """A durable function whose execution is looked at twice before it ends."""

    def __init__(self, status="SUCCEEDED"):
        self.status, self.looked, self.invoked = status, 0, {}

    def invoke(self, **arguments: Any):
        self.invoked = arguments
        return {"DurableExecutionArn": "arn:execution"}

    def get_durable_execution(self, **_: Any):
        self.looked += 1
        if self.looked < 3:
            return {"Status": "RUNNING"}
        if self.status == "SUCCEEDED":
            return {"Status": "SUCCEEDED", "Result": json.dumps({"id": "1"})}
        return {"Status": self.status, "Error": {"ErrorMessage": "it broke"}}

    def get_durable_execution_history(self, Marker=None, **_: Any):  # noqa: N803
        events = [
            {"EventId": 1, "EventType": "ExecutionStarted"},
            {"EventId": 2, "EventType": "StepSucceeded", "Name": "list the fleet"},
            {"EventId": 3, "EventType": "ChainedInvokeFailed", "Name": "batch 1"},
        ]
        first = events[: self.looked]
        return {"Events": first[:1], "NextMarker": "more"} if Marker is None else {"Events": first[1:]}


def test_an_execution_is_followed_to_its_end_and_each_step_reported_once(monkeypatch):
    monkeypatch.setattr("rdsiam.command.executions.time.sleep", lambda _: None)
    told_of: list[str] = []
    function = Lambda()
    assert executions.run(function, "f:live", {"a": 1}, "audit", told_of.append) == {"id": "1"}
    assert told_of == ["list the fleet", "batch 1: failed"]
    assert function.invoked["InvocationType"] == "Event"


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "STOPPED"])
def test_a_failed_execution_raises_its_cause(monkeypatch, status):
    monkeypatch.setattr("rdsiam.command.executions.time.sleep", lambda _: None)
    with pytest.raises(ExecutionFailed, match="it broke"):
        executions.run(Lambda(status), "f:live", {}, "audit", lambda _: None)


@pytest.mark.parametrize(
    ("kind", "code"), [("rdsiam.errors.InvalidRequest", 2), ("NotAllowed", 4), ("DatabaseNotFound", 5)]
)
def test_an_execution_that_failed_with_an_error_of_rdsiam_has_its_exit_code(monkeypatch, kind, code):
    monkeypatch.setattr("rdsiam.command.executions.time.sleep", lambda _: None)
    function = Lambda("FAILED")
    looked = function.get_durable_execution
    monkeypatch.setattr(
        function,
        "get_durable_execution",
        lambda **named: {
            **looked(**named),
            **({"Error": {"ErrorType": kind, "ErrorMessage": "watch: wrong"}} if function.looked > 2 else {}),
        },
    )
    with pytest.raises(FunctionError, match="watch: wrong") as caught:
        executions.run(function, "f:live", {}, "migrate", lambda _: None)
    assert caught.value.exit_code == code


def test_an_interrupt_names_the_execution_that_goes_on(monkeypatch, capsys):
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rdsiam.command.executions.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        executions.run(Lambda(), "f:live", {}, "audit", lambda _: None)
    assert "execution arn:execution goes on; its state: aws lambda get-durable-execution" in capsys.readouterr().err


def test_an_interrupt_of_the_start_says_that_it_may_have_begun(monkeypatch, capsys):
    function = Lambda()
    monkeypatch.setattr(function, "invoke", raises(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        executions.run(function, "f:live", {}, "audit", lambda _: None)
    assert "of f:live may have begun, and then goes on" in capsys.readouterr().err


# --- output ---


@given(st.text())
def test_nothing_from_a_database_moves_the_cursor(text):
    assert visible(text).isprintable()


@pytest.mark.parametrize(
    "character", ["\u3164", "\u2800", "\u115f", "\uffa0", "\ufe0f", "\U000e0100", "\u200b", "\u202e"]
)
def test_two_names_that_look_alike_are_written_differently(character):
    """As the report's page marks them: a filler is a letter for Unicode, and shows as nothing."""
    assert visible(f"app{character}") == f"app{character.encode('unicode_escape').decode()}"
    assert visible("zo\u00eb \u00fc 日本") == "zo\u00eb \u00fc 日本"


@pytest.mark.parametrize(
    "arguments",
    [
        ["access", "validate", "\x1b[2Jno.yaml"],
        ["access", "validate", "\x1b[2Jbad.yaml"],
        ["access", "publish", "\x1b[2Jbad.yaml"],
        ["psql", "--\x1b[2J"],
        ["\x1b[2J"],
        ["ls", "--profile", "\x1b[2J"],
        ["report", "\x1b[2J"],
    ],
)
def test_no_error_moves_the_cursor(arguments, tmp_path, monkeypatch):
    """Names of files come from a branch that somebody pushed, and texts of errors from servers."""
    monkeypatch.chdir(tmp_path)
    Path("\x1b[2Jbad.yaml").write_text("version: 2\n")
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", written)
    monkeypatch.setattr("sys.argv", ["rdsiam", *arguments])
    with pytest.raises(SystemExit):
        run()
    assert "\\x1b[2J" in written.getvalue()
    assert "\x1b" not in written.getvalue()


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_csv_runs_no_formula(cells):
    @app.command("rows-of-a-test")
    def _rows() -> None:
        Output("csv").show([cells], [str(number) for number in range(len(cells))])

    try:
        text = CliRunner().invoke(app, ["rows-of-a-test"]).output
    finally:
        app.commands.pop("rows-of-a-test")
    line = text.split("\n", 1)[1]
    assert not line.startswith(("=", "+", "-", "@", '"=', '"+', '"-', '"@'))


def test_a_table_shows_every_row(capsys):
    Output("table").show([["high", None, "a\x1b[2Jb"], ["low", 3, "x"]], ["severity", "n", "title"])
    assert capsys.readouterr().out.splitlines() == [
        "SEVERITY  N  TITLE",
        "high         a\\x1b[2Jb",
        "low       3  x",
    ]


@pytest.mark.parametrize("group", [[], ["access"], ["migrate"], ["rotate"], ["config"]], ids=" ".join)
def test_no_list_of_commands_cuts_a_sentence(group):
    """Half of a sentence doesn't say which command to choose."""
    text = CliRunner().invoke(app, [*group, "--help"], terminal_width=80).output
    assert "..." not in text.partition("Commands:")[2]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("ask", [aws.Aws.credentials, aws.Aws.account], ids=["credentials", "account"])
def test_credentials_that_have_expired_as_soon_as_they_were_renewed_are_expired(monkeypatch, tmp_path, ask):
    keys = {"Version": 1, "AccessKeyId": "AKID", "SecretAccessKey": "s", "Expiration": "2020-01-01T00:00:00Z"}
    (tmp_path / "keys").write_text(json.dumps(keys | {"SessionToken": "t"}))
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path / 'keys'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CredentialsExpired):
        ask(aws.Aws(None, "eu-west-1"))


def test_credentials_that_nobody_answers_for_are_an_error_after_some_seconds(monkeypatch, tmp_path):
    """By botocore's defaults STS gets a minute, five times."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = tmp_path / "config"
        config.write_text(
            "[profile chained]\nrole_arn = arn:aws:iam::123456789012:role/app\nsource_profile = keys\n"
            "[profile keys]\naws_access_key_id = AKID\naws_secret_access_key = secret\n"
        )
        for name, value in {
            "AWS_CONFIG_FILE": str(config),
            "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(aws, "_FOR_CREDENTIALS", aws._FOR_CREDENTIALS.merge(Config(read_timeout=0.1)))
        with pytest.raises(TryAgain, match="timeout"):
            aws.Aws("chained", "eu-west-1").credentials()
