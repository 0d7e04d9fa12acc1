"""The arrows go one way: who may import whom, read from the source."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYER = ROOT / "layers" / "rdsiam" / "rdsiam"
MODULES = sorted(path.relative_to(LAYER).with_suffix("").as_posix() for path in LAYER.rglob("*.py"))
#: What people start from, from the top down: a module imports from lower rows only, or from its own.
ROWS = [
    {"onboarding", "policy_writing", "rotation", "vending"},
    {"engines/postgres", "engines/mysql", "engines/postgres_rotation", "engines/mysql_rotation"},
    {"engines/postgres_privileges", "engines/postgres_lockout", "engines/rotating", "engines/__init__"},
    {"connection", "policies", "access_store", "http", "requests"},
    {"logins", "inventory", "decisions", "secret_store"},
    {"scoping", "clients", "access", "changes", "observability", "passwords", "targets"},
    {"access_fields", "access_file", "databases", "secret", "signer"},
    {"errors", "__init__", "audit/__init__", "audit/facts", "audit/findings"},
]


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


def row(module: str) -> int:
    return next(number for number, names in enumerate(ROWS) if module in names)


def test_every_module_has_its_row():
    assert set().union(*ROWS) == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    upward = {name for name in of_the_layer(LAYER / f"{module}.py") if row(name) < row(module)}
    assert not upward


@pytest.mark.parametrize("path", [*LAYER.rglob("*.py"), *(ROOT / "functions").rglob("*.py")], ids=lambda p: p.stem)
def test_no_production_module_knows_localcloud_or_tests(path):
    assert not {name for name in imports(path) if name.split(".")[0] in {"localcloud", "tests", "moto"}}


def test_only_engines_and_connection_know_a_driver():
    knowing = {m for m in MODULES if {n.split(".")[0] for n in imports(LAYER / f"{m}.py")} & {"psycopg", "pymysql"}}
    engines = {"postgres", "postgres_privileges", "postgres_rotation", "mysql", "mysql_rotation"}
    assert knowing == {"connection", *(f"engines/{name}" for name in engines)}


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
