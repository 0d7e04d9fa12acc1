"""docs/threat-model.md names tests that exist, and every function of the template."""

import re
from pathlib import Path

import pytest

from localcloud.aws.expand import read

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
FUNCTIONS = sorted(
    name
    for name, resource in read(ROOT / "template.yaml")["Resources"].items()
    if resource["Type"] == "AWS::Serverless::Function"
)


def existing_tests() -> set[str]:
    """Return the names of all test functions and test files that run with `make test`."""
    names: set[str] = set()
    for folder in ("unit", "integration"):
        for path in (ROOT / "tests" / folder).rglob("test_*.py"):
            names.add(path.name)
            names.update(re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE))
    return names


def rows(text: str) -> list[tuple[str, str, str]]:
    """Return attempt, outcome and tests of each row of the tables with these three columns."""
    found = [
        tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return [row for row in found if len(row) == 3 and row[1] != "outcome"]


ROWS = rows(TEXT)


def test_every_test_that_is_named_exists():
    named = set(re.findall(r"`(test_\w+(?:\.py)?)`", TEXT))
    assert len(named) > 100
    assert named - existing_tests() == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_a_row_has_an_outcome_and_whatever_is_stopped_has_its_test(row):
    _attempt, outcome, tests = row
    verdict = re.match(r"\*\*(Stopped|Limited|Possible)\b", outcome)
    assert verdict
    assert tests == "none" or re.fullmatch(r"`test_\w+(\.py)?`(, `test_\w+(\.py)?`)*", tests)
    assert verdict[1] == "Possible" or tests != "none"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_has_its_part(function):
    part = TEXT.partition(f"\n### {function}\n")[2].partition("\n#")[0]
    assert any(outcome.startswith("**Possible") for _, outcome, _ in rows(part))
    assert any(outcome.startswith("**Stopped") for _, outcome, _ in rows(part))


def test_no_part_is_about_a_function_that_does_not_exist():
    assert sorted(re.findall(r"^### (\w+Function)$", TEXT, re.MULTILINE)) == FUNCTIONS


def test_a_claim_without_a_test_would_be_found():
    text = "| attempt | outcome | test |\n|---|---|---|\n| log in | **Stopped.** | none |\n"
    with pytest.raises(AssertionError):
        test_a_row_has_an_outcome_and_whatever_is_stopped_has_its_test(*rows(text))
