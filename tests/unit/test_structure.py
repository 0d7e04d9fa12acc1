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
<<<<<<< HEAD
    {"audit/run"},
    {"audit/batch"},
    {"audit/collecting", "audit/iam_policies", "audit/judging"},
    {"audit/kinds"},
    {"audit/kinds_accounts", "audit/kinds_databases", "audit/kinds_policies"},
    {"audit/mending", "audit/suppressions", "sweeping"},
    {"engines/remedies", "onboarding"},
    {"audit/reading", "engines/mysql_remedies", "users"},
    {"engines/mysql", "engines/postgres_remedies"},
    {"engines/mysql_audit", "engines/postgres"},
    {"engines/mysql_auditor", "engines/postgres_audit"},
    {"audit/reports", "command/__init__", "engines/__init__", "policy_writing", "services", "vending"},
    {"access_store", "audit/kind", "command/app", "connection", "fingerprint", "http", "policies"},
    {"access", "command/audit", "logins", "report/__init__"},
    {"access_fields", "audit/account", "audit/store", "command/executions", "inventory", "report/page", "scoping"},
    {
        "clients",
        "command/aws",
        "command/settings",
        "databases",
        "engines/postgres_catalog",
        "report/charts",
        "report/document",
        "report/ocsf",
        "report/table",
    },
    {
        "access_file",
        "audit/history",
        "audit/iam_reading",
        "audit/secrets_reading",
        "audit/telling",
        "braking",
        "command/errors",
        "described",
        "engines/postgres_lockout",
        "report/figures",
        "report/markup",
        "report/security_hub",
        "requests",
        "signer",
    },
    {
        "__init__",
        "audit/__init__",
        "audit/facts",
        "audit/findings",
        "audit/iam_statements",
        "changes",
        "command/output",
        "decisions",
        "engines/mysql_catalog",
        "engines/postgres_privileges",
        "errors",
        "observability",
        "report/text",
    },
=======
    {"command/__main__"},
    {"command/__init__"},
    {"command/app"},
    {"command/access", "command/audit", "command/completion", "command/config", "command/connect", "command/doctor"},
    {"command/ls", "command/onboard", "command/token"},
    {"command/programs", "command/shells"},
    {"command/targets"},
    {"command/api", "command/executions", "command/settings", "command/output"},
    {"command/aws"},
    {"command/quick"},
    {"command/errors"},
    {"doctor"},
    {"onboarding", "policy_writing", "vending"},
    {"engines/postgres", "engines/mysql"},
    {"engines/postgres_privileges", "engines/postgres_lockout", "engines/__init__"},
    {"connection", "policies", "access_store", "http", "requests"},
    {"logins", "inventory", "decisions"},
    {"scoping", "clients", "access", "changes", "observability"},
    {"django/postgresql/base"},
    {"pool"},
    {"access_fields", "access_file", "databases", "signer"},
    {"ca", "endpoints", "token_reading", "troubles"},
    {"errors", "__init__", "audit/__init__", "audit/facts", "audit/findings"},
    {"django/__init__", "django/postgresql/__init__"},
>>>>>>> client
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
<<<<<<< HEAD
    assert "connection" in knowing
    assert all(name.startswith("engines/") for name in knowing - {"connection"})
=======
    assert knowing == {"connection", "engines/postgres", "engines/postgres_privileges", "engines/mysql", "pool"}
>>>>>>> client


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
