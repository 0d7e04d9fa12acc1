"""The arrows go one way: who may import whom, read from the source."""

import ast
import graphlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYER = ROOT / "layers" / "rdsiam" / "rdsiam"
MODULES = sorted(path.relative_to(LAYER).with_suffix("").as_posix() for path in LAYER.rglob("*.py"))
#: What functions and people start from; nothing else imports them.
FLOWS = {
    "allowed",
    "past_decisions",
    "revoking",
    "audit/remediating",
    "audit/batch",
    "audit/reports",
    "audit/run",
    "doctor",
    "migration/run",
    "onboarding",
    "policy_writing",
    "rotation/steps",
    "rotation/watch",
    "rotation/schedules",
    "sweeping",
    "vending",
}
#: What everything may import, and imports next to nothing itself.
GROUND = {"errors", "signer", "sigv4", "escalations", "audit/facts", "audit/findings"}


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, dotted."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def of_the_layer(path: Path) -> set[str]:
    names = {name.removeprefix("rdsiam.").replace(".", "/") for name in imports(path) if name.startswith("rdsiam.")}
    return {name for name in names if name in MODULES} | ({"engines/__init__"} if "engines" in names else set())


GRAPH = {module: of_the_layer(LAYER / f"{module}.py") - {module} for module in MODULES}


def test_imports_go_one_way():
    graphlib.TopologicalSorter(GRAPH).prepare()  # raises CycleError with the circle


def test_nothing_imports_what_people_and_functions_start_from():
    above = {module for module in MODULES if module in FLOWS or module.split("/")[0] == "command"}
    assert above >= FLOWS
    assert {module: GRAPH[module] & above for module in set(MODULES) - above if GRAPH[module] & above} == {}
    assert {module for module in FLOWS if any(name.startswith("command") for name in GRAPH[module])} == set()


@pytest.mark.parametrize("module", sorted(GROUND))
def test_the_ground_stands_on_nothing(module):
    assert GRAPH[module] <= GROUND


@pytest.mark.parametrize("path", [*LAYER.rglob("*.py"), *(ROOT / "functions").rglob("*.py")], ids=lambda p: p.stem)
def test_no_production_module_knows_localcloud_or_tests(path):
    assert not {name for name in imports(path) if name.split(".")[0] in {"localcloud", "tests", "moto"}}


def test_only_engines_and_connection_know_a_driver():
    knowing = {m for m in MODULES if {n.split(".")[0] for n in imports(LAYER / f"{m}.py")} & {"psycopg", "pymysql"}}
    assert "connection" in knowing
    assert all(name.startswith("engines/") for name in knowing - {"connection", "pool"})


def test_the_signer_needs_the_standard_library_only():
    assert all(
        n.split(".")[0] in sys.stdlib_module_names or n.startswith("rdsiam.errors")
        for n in imports(LAYER / "signer.py")
    )


def test_vending_loads_no_database_driver():
    seen: set[str] = set()
    waiting = of_the_layer(ROOT / "functions" / "vend" / "app.py")
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting |= of_the_layer(LAYER / f"{module}.py")
    assert "connection" not in seen


def test_localcloud_does_not_use_what_it_judges():
    for path in (ROOT / "localcloud").rglob("*.py"):
        if path.stem != "demo":
            assert not {name for name in imports(path) if name.split(".")[0] == "rdsiam"}, path
