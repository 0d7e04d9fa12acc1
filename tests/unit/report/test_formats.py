"""The report as JSON, CSV, ASFF and OCSF: complete, valid by the format's rules, and safe to open."""

import copy
import csv
import io
import json
import random
import re
from collections import Counter
from functools import cache
from pathlib import Path

import botocore.session
import jsonschema
import pytest
from botocore.validate import ParamValidator
from hypothesis import given, settings
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from bench.sample_report import sample
from rdsiam.report.csv import COLUMNS, csv_report, neutral
from rdsiam.report.document import json_report, json_schema
from rdsiam.report.formatting import hidden
from rdsiam.report.ocsf import ocsf, ocsf_lines
from rdsiam.report.security_hub import BATCH_BYTES, FINDING_BYTES, asff, batches, suppressions
from tests.examples import at_most
from tests.reports import ACCOUNT, BEFORE, FINISHED, HOSTILE, REGION, STARTED, names, report_with

DOCS = Path(__file__).parents[3] / "docs"

# --- JSON -------------------------------------------------------------------------------------------------------------


def test_the_schema_in_docs_is_current():
    assert json.loads((DOCS / "audit-report.schema.json").read_text(encoding="utf-8")) == json_schema()


def test_a_report_is_valid_by_the_schema():
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(json.loads(json_report(sample(60, 300))), json_schema())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda report: report.pop("summary"),
        lambda report: report.update(schema_version=2),
        lambda report: report.update(finished="yesterday"),
        lambda report: report.update(more=1),
        lambda report: report["findings"][0].update(severity="fatal"),
        lambda report: report["databases"][0].update(read="fine"),
    ],
)
def test_the_schema_refuses_a_spoiled_report(spoil):
    report = copy.deepcopy(report_with("x"))
    spoil(report)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, json_schema())


@settings(max_examples=at_most(40))
@given(names)
def test_the_json_report_keeps_all_names_and_is_ascii(text):
    written = json_report(report_with(text))
    assert written.isascii()
    report = json.loads(written)
    assert report["findings"][0]["user"] == text
    assert report["databases"][0]["tags"][text] == text
    jsonschema.validate(report, json_schema())


def test_the_json_report_does_not_depend_on_the_order_of_its_parts():
    report = sample(60, 300)
    shuffled = {key: report[key] for key in reversed(report)}
    for key in ("databases", "findings", "resolved", "trend"):
        shuffled[key] = random.Random(3).sample(report[key], len(report[key]))  # noqa: S311
    for finding in shuffled["findings"]:
        finding["evidence"] = dict(reversed(finding["evidence"].items()))
    assert json_report(shuffled) == json_report(report)
    assert next(iter(json.loads(json_report(shuffled)))) == "schema_version"


# --- CSV --------------------------------------------------------------------------------------------------------------


def rows(text):
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_csv_has_a_record_for_each_finding_suppressed_findings_included():
    report = sample(60, 300)
    records = rows(csv_report(report))
    assert [record["id"] for record in records] == [finding["id"] for finding in report["findings"]]
    assert sum(bool(record["suppressed_reason"]) for record in records) == report["summary"]["suppressed"]
    assert (
        sum(record["new"] == "yes" and not record["suppressed_reason"] for record in records)
        == report["summary"]["new"]
    )


def test_csv_has_the_owner_of_the_database_and_the_remediation():
    record = rows(csv_report(report_with("name")))[0]
    assert tuple(record) == COLUMNS
    assert {record[key] for key in ("identifier", "environment", "owner", "user", "sql", "cli", "access")} == {"name"}
    assert record["account"] == ACCOUNT


@settings(max_examples=at_most(200))
@given(names)
def test_no_csv_cell_is_a_formula_and_removing_the_quote_restores_the_name(text):
    for record in rows(csv_report(report_with(text))):
        for cell in record.values():
            assert cell[:1] not in set("=+-@\t\r\n＝＋－＠")
            assert cell.lstrip(" \u00a0\u200b\ufeff\x00")[:1] not in set("=+-@\t\r\n")
        written = record["title"]
        assert (written[1:] if written.startswith("'") else written) == text.encode(
            "utf-8", "backslashreplace"
        ).decode()


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", "\n=1", " =1", "\ufeff=1", "\u200b@x", "＝1", "'x"]
)
def test_csv_cells_that_a_spreadsheet_would_calculate_are_text(cell):
    assert neutral(cell) == "'" + cell


@pytest.mark.parametrize(
    ("cell", "written"), [("app", "app"), ("a=1", "a=1"), (None, ""), ("", ""), (3, "3"), ("\ud800", "\\ud800")]
)
def test_other_csv_cells_are_unchanged(cell, written):
    assert neutral(cell) == written


def test_csv_quotes_as_the_rfc_says():
    text = csv_report(report_with('a "b",\nc'))
    assert '"a ""b"",\nc"' in text
    assert text.endswith("\r\n")


# --- Security Hub -----------------------------------------------------------------------------------------------------


@cache
def batch_import_findings():
    model = botocore.session.get_session().get_service_model("securityhub")
    return model.operation_model("BatchImportFindings").input_shape


#: Longest in characters; from the API reference of AwsSecurityFinding.
LIMITS = {"Id": 512, "ProductArn": 2048, "GeneratorId": 512, "Title": 256, "Description": 1024}


def texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


def check_asff(finding):
    """Check what the API documents of a finding; botocore's model gives names, types and what is required."""
    assert not ParamValidator().validate({"Findings": [finding]}, batch_import_findings()).generate_report()
    for key, limit in LIMITS.items():
        assert 1 <= len(finding[key]) <= limit, key
    for text in texts(finding):
        assert re.fullmatch(r".*\S.*", text), repr(text)  # NonEmptyString
        assert not {character for character in text if hidden(character)}
    assert len(finding["Types"]) <= 50
    assert all(kind.count("/") <= 2 for kind in finding["Types"])
    assert len(finding["Remediation"]["Recommendation"]["Text"]) <= 512
    assert len(finding["ProductFields"]) <= 50
    assert all(len(key) <= 128 and len(value) <= 2048 for key, value in finding["ProductFields"].items())
    assert not any(key.startswith("aws/") for key in finding["ProductFields"])
    assert 1 <= len(finding["Resources"]) <= 32
    for resource in finding["Resources"]:
        other = resource.get("Details", {}).get("Other", {})
        assert len(other) <= 50
        assert all(len(key) <= 128 and len(value) <= 1024 for key, value in other.items())
        assert len(resource.get("Tags", {})) <= 50
        assert all(len(key) <= 128 and len(value) <= 256 for key, value in resource.get("Tags", {}).items())
    assert len(finding.get("Note", {"Text": "x"})["Text"]) <= 512
    for key in ("CreatedAt", "UpdatedAt", "FirstObservedAt", "LastObservedAt"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", finding[key])
    assert len(json.dumps(finding, ensure_ascii=False).encode()) <= FINDING_BYTES


def hub(report, **more):
    return list(asff(report, account=ACCOUNT, region=REGION, **more))


@settings(max_examples=at_most(60))
@given(names)
def test_security_hub_findings_are_valid_with_any_names(text):
    report = report_with(text)
    report["databases"][0]["tags"] |= {f"{number}{text}": text * 50 for number in range(80)}
    report["findings"][0]["evidence"] |= {f"{text}{number}": text * 100 for number in range(100)}
    report["findings"][0]["remediation"] *= 40
    for finding in hub(report):
        check_asff(finding)


@pytest.mark.parametrize("text", HOSTILE)
def test_security_hub_findings_are_valid_with_hostile_names(text):
    for finding in hub(report_with(text)):
        check_asff(finding)


def test_all_security_hub_findings_of_a_large_report_are_valid():
    report = sample(100, 600)
    found = hub(report)
    assert len(found) == len(report["findings"]) + len(report["resolved"])
    for finding in found:
        check_asff(finding)
    assert len({finding["Id"] for finding in found}) == len(found)


def test_security_hub_distinguishes_open_suppressed_and_resolved_findings():
    opened, of_iam, suppressed, resolved = hub(report_with("name"))
    assert (opened["RecordState"], opened["Workflow"]["Status"], opened["Compliance"]["Status"]) == (
        "ACTIVE",
        "NEW",
        "FAILED",
    )
    assert (suppressed["RecordState"], suppressed["Workflow"]["Status"]) == ("ACTIVE", "SUPPRESSED")
    assert suppressed["Note"]["Text"] == "Suppressed in access.yaml until 2027-01-01T00:00:00Z: name"
    assert (resolved["RecordState"], resolved["Workflow"]["Status"]) == ("ARCHIVED", "RESOLVED")
    assert resolved["Compliance"]["Status"] == "PASSED"
    assert [each["Type"] for each in of_iam["Resources"]] == ["AwsIamRole"]


def test_an_unreadable_database_is_not_available_in_security_hub():
    report = report_with("x")
    report["findings"][0]["kind"] = "database-unreachable"
    assert hub(report)[0]["Compliance"]["Status"] == "NOT_AVAILABLE"


def test_the_same_problem_has_the_same_id_and_time_of_creation_in_the_next_run():
    report = report_with("x")
    later = report | {"id": "later", "started": "2026-03-09T05:00:00Z", "finished": "2026-03-09T05:05:00Z"}
    for one, other in zip(hub(report), hub(later), strict=True):
        assert (one["Id"], one["CreatedAt"]) == (other["Id"], other["CreatedAt"])
    assert hub(later)[0]["UpdatedAt"] > hub(report)[0]["UpdatedAt"]


def test_a_remediation_is_shown_in_security_hub_completely_or_not_at_all():
    report = report_with("x")
    statement = "ALTER USER " + "x" * 600
    report["findings"][0]["remediation"] = [
        {"language": "sql", "text": statement, "database": None, "way": 1, "note": "", "user": "boss", "client": "psql"}
    ]
    finding = hub(report)[0]
    assert finding["Remediation"]["Recommendation"]["Text"].startswith("See the remediation in the audit's report")
    assert finding["ProductFields"]["rdsiam/remediation/1/sql"] == statement
    report["findings"][0]["remediation"] = [
        {
            "language": "sql",
            "text": statement * 9,
            "database": None,
            "way": 1,
            "note": "",
            "user": "boss",
            "client": "psql",
        }
    ]
    assert "rdsiam/remediation/1/sql" not in hub(report)[0]["ProductFields"]
    report["findings"][0]["remediation"] = [
        {
            "language": "sql",
            "text": "DROP USER a\u202eb",
            "database": None,
            "way": 1,
            "note": "",
            "user": "boss",
            "client": "psql",
        }
    ]
    assert "DROP" not in json.dumps(hub(report)[0])


def test_the_product_and_the_address_of_the_report_can_be_given():
    product = "arn:aws-cn:securityhub:cn-north-1:123456789012:product/123456789012/rdsiam"
    found = list(
        asff(
            report_with("x"),
            account=ACCOUNT,
            region="cn-north-1",
            partition="aws-cn",
            product_arn=product,
            report_url="https://x",
        )
    )
    assert {finding["ProductArn"] for finding in found} == {product}
    assert {finding["SourceUrl"] for finding in found} == {"https://x"}
    default = next(asff(report_with("x"), account=ACCOUNT, region="cn-north-1", partition="aws-cn"))
    assert default["ProductArn"] == f"arn:aws-cn:securityhub:cn-north-1:{ACCOUNT}:product/{ACCOUNT}/default"


def test_batches_respect_the_limits_of_the_api_and_lose_no_finding():
    found = hub(sample(50, 250))
    parts = list(batches(found))
    assert [len(part) for part in parts[:-1]] == [100] * (len(parts) - 1)
    assert [finding for part in parts for finding in part] == found
    large = [{"Id": str(number), "Text": "é" * 100_000} for number in range(100)]
    parts = list(batches(large))
    assert [each for part in parts for each in part] == large
    assert all(len(json.dumps({"Findings": part}, ensure_ascii=False).encode()) <= BATCH_BYTES for part in parts)
    assert list(batches([])) == []


def test_findings_that_were_open_before_are_suppressed_by_another_request():
    report = report_with("x")
    report["findings"] = [
        {
            **report["findings"][2],
            "id": str(number),
            "suppressed": {"reason": f"reason {number % 2}", "until": FINISHED},
        }
        for number in range(250)
    ] + report["findings"][:2]
    requests = list(suppressions(hub(report)))
    assert [len(request["FindingIdentifiers"]) for request in requests] == [100, 25, 100, 25]
    shape = (
        botocore.session.get_session()
        .get_service_model("securityhub")
        .operation_model("BatchUpdateFindings")
        .input_shape
    )
    assert shape is not None
    for request in requests:
        assert not ParamValidator().validate(request, shape).generate_report()
        assert request["Workflow"] == {"Status": "SUPPRESSED"}


# --- OCSF -------------------------------------------------------------------------------------------------------------


@cache
def compliance_finding():
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0")).get_class_schema("compliance_finding", ["cloud"])
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_of_ocsf_refuses_an_invalid_finding():
    event = next(ocsf(report_with("x")))
    assert not list(compliance_finding().iter_errors(event))
    assert list(compliance_finding().iter_errors({**event, "severity_id": "high"}))
    assert list(compliance_finding().iter_errors({key: value for key, value in event.items() if key != "compliance"}))


@settings(max_examples=at_most(30))
@given(names)
def test_ocsf_events_are_valid_with_any_names(text):
    for line in ocsf_lines(report_with(text)):
        assert line.isascii()
        assert line.count("\n") == 1
        event = json.loads(line)
        assert not [error.message for error in compliance_finding().iter_errors(event)]
        assert event["message"] == text


def test_each_finding_of_a_report_has_an_ocsf_event():
    report = sample(60, 200)
    events = list(ocsf(report))
    assert not [error.message for event in events for error in compliance_finding().iter_errors(event)]
    assert Counter(event["activity_name"] for event in events)["Close"] == len(report["resolved"])
    assert len(events) == len(report["findings"]) + len(report["resolved"])
    assert all(event["type_uid"] == event["class_uid"] * 100 + event["activity_id"] for event in events)


def test_ocsf_events_distinguish_new_old_suppressed_and_resolved_findings():
    new, old, suppressed, resolved = ocsf(report_with("x"))
    assert [(each["activity_name"], each["status"]) for each in (new, old, suppressed, resolved)] == [
        ("Create", "New"),
        ("Update", "In Progress"),
        ("Update", "Suppressed"),
        ("Close", "Resolved"),
    ]
    assert [each["severity_id"] for each in (new, old)] == [5, 2]
    assert resolved["compliance"]["status"] == "Pass"
    assert new["finding_info"]["first_seen_time"] == 1772428046000  # STARTED
    assert (STARTED, BEFORE) == ("2026-03-02T05:07:26Z", "2026-02-23T05:14:07Z")


def test_on_the_first_run_every_ocsf_event_is_a_creation():
    assert {event["activity_name"] for event in ocsf(report_with("x") | {"trend": []})} == {"Create", "Close"}


def test_an_unreadable_database_has_an_unknown_compliance_in_ocsf():
    report = report_with("x")
    report["findings"][0]["kind"] = "database-unreachable"
    assert next(ocsf(report))["compliance"]["status_id"] == 0
