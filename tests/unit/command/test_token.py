"""`rdsiam token` signed offline: the same token by the fast way and by botocore's, and nothing else on stdout."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner

from rdsiam import command
from rdsiam.command import fast_token
from rdsiam.command.app import app
from rdsiam.signer import Credentials, TokenSigner
from rdsiam.tokens.endpoints import follow, is_rds, region_of

HOST = "orders.c9akciq32.eu-central-1.rds.amazonaws.com"
ARGUMENTS = ["--host", HOST, "--port", "5432", "--user", "app"]
LAYER = Path(__file__).parents[3] / "layers" / "rdsiam"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a home without AWS configuration, and an environment without credentials."""
    for name in (
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE"),
        *("AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CREDENTIAL_EXPIRATION"),
        *("AWS_REGION", "AWS_DEFAULT_REGION"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for variable, name in (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")):
        monkeypatch.setenv(variable, str(tmp_path / name))
    return tmp_path


KEYS = "aws_access_key_id = AKID\naws_secret_access_key = secret%value\n"


def botocore_finds(profile):
    found = boto3.Session(profile_name=profile).get_credentials()
    return (found.access_key, found.secret_key, found.token) if found else None


@pytest.mark.parametrize(
    ("credentials", "config", "profile", "environment"),
    [
        (f"[default]\n{KEYS}", "", None, {}),
        (f"[default]\n{KEYS}aws_session_token = st\n", "", None, {}),
        (f"[work]\n{KEYS}", "", "work", {}),
        (f"[work]\n{KEYS}", "", None, {"AWS_PROFILE": "work"}),
        ("", f"[profile work]\n{KEYS}", "work", {}),
        ("", f"[default]\n{KEYS}", None, {}),
        (f"[work]\n{KEYS}", "[profile work]\nregion = eu-west-1\ns3 =\n  a = b\n", "work", {}),
        (f"[work]\n{KEYS}", "", "work", {"AWS_ACCESS_KEY_ID": "other", "AWS_SECRET_ACCESS_KEY": "o"}),
        (f"[default]\n{KEYS}", "", None, {"AWS_ACCESS_KEY_ID": "e", "AWS_SECRET_ACCESS_KEY": "s"}),
        ("", "", None, {"AWS_ACCESS_KEY_ID": "e", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}),
        ("", "", None, {"AWS_ACCESS_KEY_ID": "e", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SECURITY_TOKEN": "t"}),
    ],
)
def test_plain_credentials_are_those_of_botocore(home, monkeypatch, credentials, config, profile, environment):
    (home / "credentials").write_text(credentials)
    (home / "config").write_text(config)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    import os

    found = fast_token.plain_credentials(profile, os.environ)
    assert found is not None
    assert (found.access_key, found.secret_key, found.session_token) == botocore_finds(profile)


@pytest.mark.parametrize(
    ("credentials", "config", "environment"),
    [
        ("", "", {}),
        (f"[default]\n{KEYS}", "[default]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = x\n", {}),
        (f"[default]\n{KEYS}", "[default]\nsso_session = mine\n", {}),
        (f"[default]\n{KEYS}credential_process = /bin/true\n", "", {}),
        (f"[default]\n{KEYS}", "", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/x", "AWS_ROLE_ARN": "arn"}),
        (f"[default]\n{KEYS}", "", {"AWS_PROFILE": "missing"}),
        ("[default]\naws_access_key_id = only\n", "", {}),
        ("not a file of sections", "", {}),
        ("", "", {"AWS_ACCESS_KEY_ID": "only"}),
    ],
)
def test_everything_else_is_left_to_botocore(home, monkeypatch, credentials, config, environment):
    (home / "credentials").write_text(credentials)
    (home / "config").write_text(config)
    assert fast_token.plain_credentials(None, environment | dict.fromkeys(()) | _files(home)) is None


def _files(home):
    return {"AWS_SHARED_CREDENTIALS_FILE": str(home / "credentials"), "AWS_CONFIG_FILE": str(home / "config")}


@pytest.mark.parametrize(("minutes", "plain"), [(16, True), (14, False), (-1, False)])
def test_credentials_that_expire_before_the_token_are_left_to_botocore(minutes, plain):
    end = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_CREDENTIAL_EXPIRATION": end}
    assert (fast_token.plain_credentials(None, keys) is not None) is plain


def run(*arguments, **environment):
    code = "import sys; from rdsiam.command import main; main(); sys.stderr.write(' '.join(sys.modules))"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": str(LAYER), "HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_fast_path_prints_the_token_and_loads_few_modules():
    done = run("token", *ARGUMENTS, AWS_ACCESS_KEY_ID="AK", AWS_SECRET_ACCESS_KEY="sk", AWS_SESSION_TOKEN="st")
    assert done.returncode == 0
    line, rest = done.stdout.split("\n", 1)
    assert rest == ""
    moment = datetime.strptime(line.split("X-Amz-Date=")[1][:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert line == TokenSigner(Credentials("AK", "sk", "st"), "eu-central-1").token(HOST, 5432, "app", moment)
    loaded = set(done.stderr.split())
    assert not loaded & {"click", "botocore", "boto3", "argparse", "pydantic", "psycopg", "pymysql", "socket", "ssl"}


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        (["--user", ""], 2, "user"),
        (["--user", "a*"], 2, "wildcards"),
        (["--port", "0"], 2, "--port"),
        (["--port", "x"], 2, "--port"),
        (["--host", "localhost"], 2, "region"),
        (["--host", "no-such-name.invalid"], 5, "does not resolve"),
        (["--region", "not_a_region"], 2, "region"),
    ],
)
def test_mistakes_are_explained_and_give_no_token(home, monkeypatch, capsys, changes, code, says):
    options = dict(zip(ARGUMENTS[::2], ARGUMENTS[1::2], strict=True)) | dict([changes])
    monkeypatch.setattr(sys, "argv", ["rdsiam", "token", *(part for pair in options.items() for part in pair)])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    with pytest.raises(SystemExit) as end:
        command._main()
    shown = capsys.readouterr()
    assert (end.value.code, shown.out) == (code, ""), shown.err
    assert says in shown.err


def test_without_credentials_it_is_denied():
    done = run("token", *ARGUMENTS)
    assert (done.returncode, done.stdout) == (4, "")
    assert "no AWS credentials" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["orders", "--host", HOST], ["--host", HOST], ["orders", "--port", "1"]])
def test_either_a_database_or_a_host(arguments):
    assert CliRunner().invoke(app, ["token", *arguments]).exit_code == 2


def test_a_token_on_a_terminal_comes_with_a_warning(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    fast_token.show("the-token")
    out, err = capsys.readouterr()
    assert out == "the-token\n"
    assert "15 minutes" in err
    assert "the-token" not in err


def test_a_region_other_than_the_hosts_comes_with_a_warning():
    done = run("token", *ARGUMENTS, "--region=eu-west-1", AWS_ACCESS_KEY_ID="AK", AWS_SECRET_ACCESS_KEY="sk")
    assert "eu-west-1%2Frds-db" in done.stdout
    assert "is in eu-central-1" in done.stderr


# --- names ---


@pytest.mark.parametrize(
    ("host", "region"),
    [
        (HOST, "eu-central-1"),
        (HOST.upper(), "eu-central-1"),
        ("shop.cluster-c9akciq32.us-gov-west-1.rds.amazonaws.com", "us-gov-west-1"),
        ("shop.cluster-ro-c9akciq32.ap-southeast-2.rds.amazonaws.com", "ap-southeast-2"),
        ("p.proxy-c9akciq32.eu-west-3.rds.amazonaws.com", "eu-west-3"),
        ("db.c9akciq32.rds.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("db.c9akciq32.cn-northwest-1.rds.amazonaws.com.cn", "cn-northwest-1"),
        ("db.c9akciq32.eusc-de-east-1.rds.amazonaws.eu", "eusc-de-east-1"),
        ("shop.cluster-ro-c9akciq32.eusc-de-east-1.rds.amazonaws.eu", "eusc-de-east-1"),
        ("db.c9akciq32.us-iso-east-1.rds.c2s.ic.gov", "us-iso-east-1"),
        ("db.c9akciq32.us-isob-east-1.rds.sc2s.sgov.gov", "us-isob-east-1"),
        ("db.c9akciq32.eu-isoe-west-1.rds.cloud.adc-e.uk", "eu-isoe-west-1"),
        ("db.c9akciq32.us-isof-south-1.rds.csp.hci.ic.gov", "us-isof-south-1"),
        ("db.c9akciq32.eusc-de-east-1.rds.amazonaws.eu.example.com", None),
        ("db.c9akciq32.eusc-de-east-1.rds.notamazonaws.eu", None),
        ("db.c9akciq32.eu-west-1.rds.example.com", None),
        ("localhost", None),
        ("db.example.com", None),
        (f"{HOST}.evil.example", None),
        ("rds.amazonaws.com", None),
        ("ec2-1-2-3-4.eu-central-1.compute.amazonaws.com", None),
    ],
)
def test_the_region_is_in_the_endpoints_name(host, region):
    assert region_of(host) == region
    assert is_rds(host) is (region is not None)


def test_a_cname_is_followed_to_the_endpoint_and_no_further():
    names = ["db.example.com", "alias.example.net", f"{HOST}.", "ec2-1-2-3-4.eu-central-1.compute.amazonaws.com"]
    assert follow("db.example.com", lambda _: names) == HOST
    assert follow(HOST.upper(), lambda _: pytest.fail("an endpoint needs no look-up")) == HOST
    assert follow("db.example.com", lambda _: ["db.example.com", "other.example"]) == "db.example.com"
