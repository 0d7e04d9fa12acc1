"""GET /audits: who may see reports, and what the hostile part of the path can do: nothing."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.access.model import parse
from rdsiam.access.store import Versioned
from rdsiam.api.audits import Reports
from rdsiam.api.identity import Oidc
from rdsiam.audit.store import AuditStore, RunSummary
from rdsiam.errors import AccessFileUnavailable
from tests.unit.bucket import Bucket

ROLE = "arn:aws:iam::123456789012:role/security"
ACCESS = f"""
version: 1
auditors: [{{role: {ROLE}}}]
databases: [{{match: {{identifier: none}}, users: [{{name: app, privileges: readonly, on: [shop]}}]}}]
"""
IDS = [f"2025112{day}T040000Z-0000000{day}" for day in range(1, 6)]


class Linked(Bucket):
    """A bucket that signs links."""

    def generate_presigned_url(self, call: str, **asked: Any) -> str:
        return f"https://{asked['Params']['Bucket']}/{asked['Params']['Key']}?{call}&{asked['ExpiresIn']}"


@pytest.fixture(scope="module")
def app() -> ModuleType:
    path = Path(__file__).parents[3] / "functions" / "reports" / "app.py"
    spec = importlib.util.spec_from_file_location("reports_app", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    store = AuditStore(Linked(), "reports")
    for audit in IDS:
        store.finish(audit, "all", cast("RunSummary", {"id": audit}))
    access: Any = SimpleNamespace(current=lambda: Versioned(parse(ACCESS), "v1"))
    made = Reports(access, store)
    module._reports = lambda: made  # type: ignore[attr-defined]
    module._oidc = lambda: Oidc("", "", "")  # type: ignore[attr-defined]
    return module


def ask(app: ModuleType, audit: str | None = None, role: str | None = "security", **query: str) -> tuple[int, Any]:
    arn = f"arn:aws:sts::123456789012:assumed-role/{role}/session"
    route = "GET /audits" if audit is None else "GET /audits/{id}"
    authorizer = {"authorizer": {"iam": {"userArn": arn}}} if role else {}
    event: dict[str, Any] = {"version": "2.0", "routeKey": route, "requestContext": {"routeKey": route} | authorizer}
    if audit is not None:
        event["pathParameters"] = {"id": audit}
    if query:
        event["queryStringParameters"] = query
    context = SimpleNamespace(
        aws_request_id="request-1", function_name="f", memory_limit_in_mb=1, invoked_function_arn="arn"
    )
    answer = app.handler(event, context)
    assert answer["headers"]["cache-control"] == "no-store"
    return answer["statusCode"], json.loads(answer["body"])


def test_auditors_see_audits_newest_first_and_page_by_page(app):
    status, body = ask(app, limit="2")
    assert status == 200
    assert [one["id"] for one in body["audits"]] == [IDS[4], IDS[3]]
    seen = [one["id"] for one in body["audits"]]
    while body["next"]:
        body = ask(app, limit="2", before=body["next"])[1]
        seen += [one["id"] for one in body["audits"]]
    assert seen == IDS[::-1]


def test_an_audit_has_a_link_for_each_report_and_their_expiry(app):
    status, body = ask(app, IDS[2])
    assert status == 200
    assert body["links"]["html"] == f"https://reports/audits/{IDS[2]}/report.html?get_object&300"
    assert len(set(body["links"].values())) == 5
    assert body["links_end"].endswith("Z")


@pytest.mark.parametrize("role", ["stranger", "Security", "security2", None])
@pytest.mark.parametrize("audit", [None, IDS[0], "20260101T000000Z-00000000", "index"])
def test_other_callers_get_the_same_answer_for_existing_and_missing_audits(app, role, audit):
    status, body = ask(app, audit, role)
    assert (status, body["code"]) == (403, "not-allowed")


def test_other_callers_do_not_learn_whether_a_query_is_valid(app):
    assert ask(app, role="stranger", limit="x")[0] == 403


@given(
    st.text() | st.sampled_from(["../access.yaml", "index", f"{IDS[0]}/../{IDS[1]}", f"{IDS[0]}.all", f"{IDS[0]}\n"])
)
def test_any_other_path_is_not_found(app, name):
    status, body = ask(app, name)
    assert (status, body["code"]) == (404, "not-found")
    assert len(name) < 5 or name not in json.dumps(body)


@pytest.mark.parametrize(
    "query",
    [{"limit": "0"}, {"limit": "101"}, {"limit": "-1"}, {"limit": "1e1"}, {"limit": "٣"}, {"before": "x"}, {"a": "1"}],
    ids=str,
)
def test_an_invalid_query_is_refused(app, query):
    status, body = ask(app, **query)
    assert (status, body["code"]) == (400, "malformed")


def test_without_a_readable_access_yaml_nobody_is_an_auditor(app, monkeypatch):
    def unavailable() -> Any:
        raise AccessFileUnavailable("no")

    monkeypatch.setattr(app._reports(), "_access", SimpleNamespace(current=unavailable))
    status, body = ask(app, IDS[0])
    assert (status, body["code"]) == (503, "unavailable")
