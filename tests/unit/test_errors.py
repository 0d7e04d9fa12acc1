"""Every error and every refusal has a code, and docs/errors.md lists them all."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from rdsiam.core.changes import Refusal
from rdsiam.errors import REFUSALS, RdsiamError, Refused
from tests.errors_page import as_markdown, classes

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "layers").rglob("*.py"), *(ROOT / "functions").rglob("*.py")]
KEBAB = r"[a-z0-9]+(-[a-z0-9]+)*"
#: Calls that make a refusal, as an error or as a result.
REFUSING = {kind.__name__ for kind in classes() if issubclass(kind, Refused)} | {Refusal.__name__}


def test_the_page_is_current():
    assert (ROOT / "docs" / "errors.md").read_text() == as_markdown(), "run `make errors`"


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_class_has_its_own_code(kind):
    assert re.fullmatch(KEBAB, kind.code)
    assert issubclass(kind, Refused) or "code" in vars(kind), "inherited"


def test_an_error_has_its_problem_and_its_remedy():
    error = RdsiamError("orders: no such database", "name another")
    assert str(error) == "orders: no such database; name another"
    assert (error.problem, error.remedy) == ("orders: no such database", "name another")
    assert str(RdsiamError("orders: no such database")) == "orders: no such database"


@cache
def codes(path: Path) -> frozenset[str]:
    """Return the literal codes of the refusals that a file makes."""
    return frozenset(_codes(path))


def _codes(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    supers = {
        call
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & REFUSING
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (ast.unparse(node.func).rpartition(".")[2] in REFUSING or node in supers):
            for part in [*node.args[2:3], *(word.value for word in node.keywords if word.arg == "code")]:
                yield from (x.value for x in ast.walk(part) if isinstance(x, ast.Constant) and isinstance(x.value, str))


def test_every_code_of_a_refusal_has_a_meaning():
    assert {path: codes(path) - set(REFUSALS) for path in SOURCES if not codes(path) <= set(REFUSALS)} == {}


def test_every_meaning_belongs_to_a_refusal():
    assert {code for path in SOURCES for code in codes(path)} | {Refused.code} == set(REFUSALS)


def test_codes_are_in_kebab_case_and_meanings_are_sentences():
    for code, meaning in REFUSALS.items():
        assert re.fullmatch(KEBAB, code)
        assert meaning.endswith(".")
