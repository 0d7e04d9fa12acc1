"""The packages and their order: which package may import which, read from the source."""

import ast
import graphlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYER = ROOT / "layers" / "rdsiam" / "rdsiam"
MODULES = sorted(path.relative_to(LAYER).with_suffix("").as_posix() for path in LAYER.rglob("*.py"))
#: From the edge to the foundation. A package imports only packages of later lines, and none of its own line.
LAYERS = (
    {"command"},
    {"api"},
    {"migration"},
    {"proxy"},
    {"onboarding", "policies", "vending", "audit", "rotation", "doctor"},
    {"report"},
    {"findings"},
    {"engines"},
    {"state"},
    {"access"},
    {"aws"},
    {"django"},
    {"pool"},
    {"tokens", "core"},
    {"events"},
    {"signer"},
    {"errors"},
)
#: What the token path of applications and of the command may not load: it costs their users time or a dependency.
HEAVY = {"pydantic", "boto3", "botocore", "aws_lambda_powertools", "click", "yaml"}
DRIVERS = {"aiomysql", "asyncmy", "asyncpg", "mysql", "MySQLdb", "psycopg", "psycopg2", "psycopg_pool", "pymysql"}


@cache
def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, dotted."""
    result: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            result |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return result


def of_the_layer(path: Path) -> set[str]:
    """Return the modules of the layer that a file imports."""
    names = {name.removeprefix("rdsiam.").replace(".", "/") for name in imports(path) if name.startswith("rdsiam.")}
    return {name for name in names if name in MODULES}


def package(module: str) -> str:
    """Return the top-level package, or the module at the top level."""
    return module.split("/")[0]


@cache
def graph() -> dict[str, set[str]]:
    """Return the modules that each module of the layer imports."""
    return {module: of_the_layer(LAYER / f"{module}.py") - {module} for module in MODULES}


LINE = {name: number for number, names in enumerate(LAYERS) for name in names}


def test_every_package_has_its_place():
    assert {package(module) for module in MODULES} - {"__init__"} == set(LINE)


def test_no_module_imports_in_a_circle():
    graphlib.TopologicalSorter(graph()).prepare()  # raises CycleError with the circle


def test_packages_import_only_packages_below_them():
    upward = {
        (module, name)
        for module in set(MODULES) - {"__init__"}
        for name in graph()[module]
        if package(name) != package(module) and LINE[package(name)] <= LINE[package(module)]
    }
    assert upward == set()


def test_packages_have_no_code_of_their_own():
    for path in [path for path in LAYER.rglob("__init__.py") if path.parent.name != "command"]:
        body = ast.parse(path.read_text()).body
        assert [type(node).__name__ for node in body] == ["Expr"], path  # the docstring


def test_no_production_module_knows_localcloud_or_tests():
    for path in [*LAYER.rglob("*.py"), *(ROOT / "functions").rglob("*.py")]:
        assert not {name for name in imports(path) if name.split(".")[0] in {"localcloud", "tests", "moto"}}, path


def test_only_engines_and_the_pool_know_a_driver():
    knowing = {m for m in MODULES if {n.split(".")[0] for n in imports(LAYER / f"{m}.py")} & DRIVERS}
    assert {package(module) for module in knowing} == {"engines", "pool"}


def test_the_signer_needs_the_standard_library_only():
    assert all(
        n.split(".")[0] in sys.stdlib_module_names or n.startswith("rdsiam.errors")
        for n in imports(LAYER / "signer.py")
    )


@pytest.mark.parametrize("module", ["rdsiam.signer", "rdsiam.pool", "rdsiam.django", "rdsiam.command.fast_token"])
def test_the_token_path_loads_no_dependency(module):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        env={"PYTHONPATH": str(LAYER.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & (HEAVY | DRIVERS) == set()


def test_vending_loads_no_database_driver():
    reached: set[str] = set()
    waiting = of_the_layer(ROOT / "functions" / "vend" / "app.py")
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting |= of_the_layer(LAYER / f"{module}.py")
    assert not reached & {"engines/connection", "engines/mysql/connection", "engines/postgres/connection"}


def test_localcloud_does_not_use_what_it_judges():
    for path in (ROOT / "localcloud").rglob("*.py"):
        assert not {name for name in imports(path) if name.split(".")[0] in {"rdsiam", "demo", "tests"}}, path


#: localcloud's packages and top-level modules from top to bottom: each imports only what stands below it.
LOCALCLOUD_LAYERS = [
    "__main__",
    "client",
    "cloud",
    "first_databases",
    "moto_patches",
    "aws",
    "lambda_",
    "databases",
    "iam",
    "core",
    "logs",
    "settings",
    "start_failures",
]
LOCALCLOUD = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for path in sorted((ROOT / "localcloud").rglob("*.py"))
}


def test_a_module_of_localcloud_imports_only_packages_below_its_own():
    for module in set(LOCALCLOUD) - {"localcloud"}:
        own = LOCALCLOUD_LAYERS.index(module.split(".")[1])
        imported = {name.split(".")[1] for name in imports(LOCALCLOUD[module]) if name.startswith("localcloud.")}
        assert {name for name in imported if LOCALCLOUD_LAYERS.index(name) < own} == set(), module


def test_modules_of_localcloud_import_each_other_one_way():
    graph = {module: (imports(path) & set(LOCALCLOUD)) - {module, "localcloud"} for module, path in LOCALCLOUD.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the circle
