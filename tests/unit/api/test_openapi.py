"""docs/openapi.json says what the template routes, and what the code checks requests by."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from localcloud.aws.expand import read
from rdsiam.api import http
from rdsiam.errors import InvalidRequest
from tests.openapi import PLACE, as_text, document

ROOT = Path(__file__).parents[3]


def test_the_document_is_current():
    assert PLACE.read_text() == as_text(), "run `make openapi`"
    assert (ROOT / "docs" / "openapi.json").resolve() == PLACE


def test_its_routes_are_those_of_the_template():
    resources = read(ROOT / "template.yaml")["Resources"]
    routed = {
        (event["Properties"]["Path"], event["Properties"]["Method"].lower())
        for each in resources.values()
        for event in each.get("Properties", {}).get("Events", {}).values()
        if event["Type"] == "HttpApi"
    }
    with_jwt = resources["Api"]["Properties"]["DefinitionBody"]["paths"]
    routed |= {(path, method) for path, item in with_jwt.items() for method in item["Fn::If"][1]}
    assert {(path, method) for path, item in document()["paths"].items() for method in item} == routed


def test_the_routes_with_a_jwt_ask_for_one_and_the_others_for_a_signature():
    for path, item in document()["paths"].items():
        for operation in item.values():
            assert operation.get("security", [{"iam": []}]) == [{"oidc" if path.startswith("/oidc/") else "iam": []}]


def test_every_pattern_is_anchored_at_both_ends():
    text = json.dumps(document())
    for pattern in re.findall(r'"pattern": "((?:[^"\\\\]|\\\\.)*)"', text):
        assert pattern.startswith("^"), pattern
        assert pattern.endswith("$"), pattern
        assert "|" not in re.sub(r"\([^()]*\)|\[[^]]*\]", "", pattern), pattern


@pytest.mark.parametrize(
    "body",
    [
        {"database": "d", "user": "u"},
        {"database": "d", "user": "u", "reason": ""},
        {"database": "d", "user": "u", "reason": "Größe, 日本, «x»"},
        {"database": "d", "user": "u", "reason": "x" * 500},
        {"database": "d", "user": "u", "reason": "x" * 501},
        {"database": "d", "user": "u", "reason": "a\u202eb"},
        {"database": "d", "user": "u", "reason": "a\nb"},
        {"database": "d", "user": "u", "reason": None},
        {"database": "d d", "user": "u"},
        {"database": "d" * 256, "user": "u"},
        {"database": "d"},
        {"database": "d", "user": "u", "more": 1},
    ],
    ids=str,
)
def test_the_schema_and_the_code_accept_the_same_bodies(body):
    schema = document()["components"]["schemas"]["TokenRequest"]
    valid = jsonschema.Draft202012Validator(schema).is_valid(body)
    try:
        http.token_request({"body": json.dumps(body)})
    except InvalidRequest:
        assert not valid
    else:
        assert valid
