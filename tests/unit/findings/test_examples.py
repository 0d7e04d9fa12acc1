"""Every kind of finding has an example that gives it and no other, and docs/findings.md shows the examples."""

import json
from pathlib import Path

import pytest
import yaml

from rdsiam.access.model import parse
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import SEVERITIES, Finding
from tests.audited_fleet import MARIADB, MYSQL, evaluate, evaluate_role
from tests.examples_of_findings import EXAMPLES
from tests.findings_page import as_markdown

ROOT = Path(__file__).parents[3]
#: What the contract of the report names.
PROMISED = {
    "iam-authentication-off", "user-without-iam", "user-with-second-password", "anonymous-user", "tls-not-enforced",
    "undeclared-user", "missing-user", "privileges-differ", "group-with-rds-iam", "administrator-locked-out",
    "wildcard-connect-policy", "condition-on-connect-policy", "stale-resource-id", "secret-of-iam-user",
    "rotation-stuck", "database-unreachable",
}  # fmt: skip
FINDINGS = {kind: next(f for f in example.findings() if f.kind == kind) for kind, example in EXAMPLES.items()}


def test_every_kind_has_an_example_and_promised_kinds_exist():
    assert set(EXAMPLES) == set(KINDS)
    assert set(KINDS) >= PROMISED


@pytest.mark.parametrize("database", [None, MYSQL, MARIADB], ids=["postgres", "mysql", "mariadb"])
def test_a_database_that_is_in_order_has_no_findings(database):
    assert (evaluate(database) if database else evaluate()) == ()


def test_holders_that_are_in_order_have_no_findings():
    assert evaluate_role() == ()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_change_of_an_example_gives_its_findings_and_no_others(kind):
    example = EXAMPLES[kind]
    assert sorted(one.kind for one in example.findings()) == sorted([kind, *example.also])


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_finding_is_complete_and_survives_json(kind):
    finding = FINDINGS[kind]
    assert finding.severity in SEVERITIES
    assert set(finding.evidence) == set(KINDS[kind].evidence)
    assert finding.remediation
    assert Finding.from_json(json.loads(json.dumps(finding.to_json()))) == finding


@pytest.mark.parametrize("kind", EXAMPLES)
def test_ways_are_numbered_from_one_and_not_mixed(kind):
    ways = [one.way for one in FINDINGS[kind].remediation]
    assert ways == sorted(ways)
    assert set(ways) == set(range(1, len(set(ways)) + 1))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_lines_for_access_yaml_are_valid_entries(kind):
    for step in FINDINGS[kind].remediation:
        if step.language == "access" and not step.text.startswith("#"):
            parse("version: 1\ndatabases:\n" + step.text + "\n")
            assert len(yaml.safe_load(step.text)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_have_texts_and_references_are_addresses(kind):
    of = KINDS[kind]
    assert all((of.title, of.severity_rule, of.risk, of.why, of.references))
    assert all(one.startswith("https://") for one in of.references)


def test_the_page_is_current():
    assert (ROOT / "docs" / "findings.md").read_text() == as_markdown(), "run `make findings`"
