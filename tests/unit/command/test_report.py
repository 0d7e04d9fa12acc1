"""`rdsiam report`: by the API for auditors, from the bucket for others, and nothing for strangers."""

import json
import stat
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from moto import mock_aws

from rdsiam.audit.store import REPORTS
from rdsiam.command import report as module
from rdsiam.command.api import Api
from rdsiam.command.app import app
from rdsiam.command.errors import CommandError, Denied, ExecutionFailed, NotFound, TryAgain

OLD, NEW = "20261126T081326Z-d411b22c", "20261127T081326Z-0a1b2c3d"
BUCKET = "reports"


def summary(audit: str, scope: str = "all") -> dict[str, Any]:
    findings = {"critical": 0, "high": 2, "medium": 1, "low": 0}
    return {
        "id": audit,
        "scope": scope,
        "finished": "2026-11-27T08:13:49Z",
        "summary": {"databases": 3, "audited": 2, "findings": findings},
    }


class FakeApi:
    """Answers for two audits; or denies."""

    def __init__(self, denies: bool) -> None:
        self.denies = denies

    def _check(self) -> None:
        if self.denies:
            raise Denied("not an auditor")

    def audits(self, limit: int) -> list[dict[str, Any]]:
        self._check()
        return [summary(NEW), summary(OLD)][:limit]

    def audit(self, audit: str) -> dict[str, Any]:
        self._check()
        if audit not in (OLD, NEW):
            raise NotFound("no such audit")
        return {**summary(audit), "links": {form: f"https://link/{form}/{audit}" for form in module.OBJECTS}}

    def fetch(self, link: str) -> bytes:
        return f"by API {link}".encode()


@pytest.fixture
def rdsiam(monkeypatch):
    """Run the command: as an auditor, as a reader of the bucket, or as a stranger."""

    def run(*arguments: str, caller: str = "auditor", stored: bool = True) -> Any:
        with mock_aws():
            s3 = boto3.client("s3", region_name="us-east-1")
            if caller != "stranger":
                s3.create_bucket(Bucket=BUCKET)
            if caller == "reader" and stored:
                for audit in (OLD, NEW):
                    s3.put_object(Bucket=BUCKET, Key=f"audits/index/{audit}.all.json", Body=json.dumps(summary(audit)))
                    for name in module.OBJECTS.values():
                        s3.put_object(Bucket=BUCKET, Key=f"audits/{audit}/{name}", Body=f"from S3 {name} {audit}")
                s3.put_object(Bucket=BUCKET, Key="audits/index/zzz.json", Body=b"not an entry")

            def client(_: str) -> Any:
                if caller == "stranger":
                    raise Denied("s3 denies")
                return s3

            installation = SimpleNamespace(
                api=FakeApi(denies=caller != "auditor"),
                aws=SimpleNamespace(client=client),
                settings=SimpleNamespace(get=lambda _: SimpleNamespace(value=BUCKET)),
            )
            monkeypatch.setattr("rdsiam.command.options.Installation", lambda *_: installation)
            return CliRunner().invoke(app, ["report", *arguments])

    return run


def test_the_formats_are_those_of_the_audit():
    assert {form: name for form, (name, _) in REPORTS.items()} == dict(module.OBJECTS)


@pytest.mark.parametrize("caller", ["auditor", "reader"])
def test_the_newest_audit_is_summarized(rdsiam, caller):
    done = rdsiam(caller=caller)
    assert done.exit_code == 0
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["audit"] == NEW
    assert rows["databases"] == "2 of 3 were read"
    assert rows["high"] == "2"
    assert f"rdsiam report {NEW} --open" in done.stderr


@pytest.mark.parametrize("audit", ["../../home/me/x", "/etc/x", "", "None", f"{NEW}/../x"])
def test_an_id_of_the_api_names_no_other_folder(rdsiam, monkeypatch, audit):
    monkeypatch.setattr(FakeApi, "audits", lambda *_: [summary(audit)])
    done = rdsiam("--open")
    assert isinstance(done.exception, ExecutionFailed)
    assert "the API's answer has no id of an audit" in str(done.exception)


@pytest.mark.parametrize("form", module.OBJECTS)
def test_a_format_is_printed_alone(rdsiam, form):
    assert rdsiam(OLD, "--format", form).stdout == f"by API https://link/{form}/{OLD}"
    assert rdsiam(OLD, "--format", form, caller="reader").stdout == f"from S3 {module.OBJECTS[form]} {OLD}"


@pytest.mark.parametrize("opened", [True, False])
def test_the_page_is_opened_from_a_file_of_the_user(rdsiam, monkeypatch, tmp_path, opened):
    addresses: list[str] = []

    def browse(address: str) -> bool:
        addresses.append(address)
        return opened

    monkeypatch.setattr("webbrowser.open", browse)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = rdsiam("--open")
    (file,) = tmp_path.iterdir()
    assert addresses == [file.as_uri()]
    assert file.read_text() == f"by API https://link/html/{NEW}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert isinstance(done.exception, NotFound) == (not opened)
    assert str(file) in done.stderr


@pytest.mark.parametrize("caller", ["auditor", "reader"])
def test_an_unknown_audit_is_not_found(rdsiam, caller):
    assert isinstance(rdsiam("20200101T000000Z-00000000", caller=caller).exception, NotFound)


def test_the_closest_id_is_suggested_for_a_wrong_one(rdsiam):
    error = rdsiam(f"{NEW[:-1]}e").exception
    assert isinstance(error, NotFound)
    assert error.remedy == f"did you mean {NEW}?"


def test_no_audit_has_finished_yet(rdsiam):
    error = rdsiam(caller="reader", stored=False).exception
    assert "start one: rdsiam audit" in str(error)


def test_a_stranger_learns_what_to_ask_for(rdsiam):
    error = rdsiam(caller="stranger").exception
    assert isinstance(error, Denied)
    assert "auditors" in str(error)


@pytest.mark.parametrize("audit", ["x", "../index", "latest", f"{NEW}/..", "", f"{NEW}\n"])
def test_an_id_is_that_of_an_audit(rdsiam, audit):
    error = rdsiam(audit).exception
    assert isinstance(error, CommandError)
    assert "not the id of an audit" in str(error)


def test_open_and_format_exclude_each_other(rdsiam):
    assert rdsiam("--open", "--format", "csv").exit_code == 2
    assert rdsiam("--format", "pdf").exit_code == 2


class Answer:
    def __init__(self, status: int) -> None:
        self.status_code, self.content = status, b"page"


@pytest.mark.parametrize(
    ("link", "status", "error"),
    [
        ("https://bucket.s3.eu-central-1.amazonaws.com/report.html?X", 200, None),
        ("https://bucket.s3.eu-central-1.amazonaws.com/report.html?X", 403, TryAgain),
        ("http://localhost:1/report.html", 200, None),
        ("http://example.com/report.html", 200, ExecutionFailed),
        ("file:///etc/passwd", 200, ExecutionFailed),
        ("None", 200, ExecutionFailed),
        ("", 200, ExecutionFailed),
    ],
)
def test_a_link_is_followed_over_verified_tls_only(monkeypatch, link, status, error):
    monkeypatch.setattr(Api, "_send", lambda *_: Answer(status))
    api = Api("https://api.example.com", SimpleNamespace(region="eu-central-1"))  # type: ignore[arg-type]
    if error is None:
        assert api.fetch(link) == b"page"
    else:
        with pytest.raises(error):
            api.fetch(link)


@pytest.mark.parametrize("answer", [{}, {"id": OLD, "links": {}}, {"id": NEW}, {"id": NEW, "links": []}])
def test_an_answer_about_another_audit_is_refused(monkeypatch, answer):
    monkeypatch.setattr(Api, "_ask", lambda *_, **__: answer)
    api = Api("https://api.example.com", SimpleNamespace(region="eu-central-1"))  # type: ignore[arg-type]
    with pytest.raises(ExecutionFailed):
        api.audit(NEW)
