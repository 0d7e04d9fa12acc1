"""The library's package: its Python versions, its dependencies and its extras."""

import ast
import re
import tomllib
from pathlib import Path

from rdsiam.core.extras import MODULES

ROOT = Path(__file__).parents[2]
LAYER = ROOT / "layers" / "rdsiam"
PROJECT = tomllib.loads((LAYER / "pyproject.toml").read_text())["project"]
#: Top-level module → its package, if their names differ.
PACKAGES = {"psycopg_pool": "psycopg-pool", "typing_extensions": "typing-extensions", "yaml": "pyyaml"}


def names(requirements: list[str]) -> set[str]:
    """Return the packages of requirements, with those of the extras of rdsiam that they name."""
    result: set[str] = set()
    for requirement in requirements:
        own = re.match(r"rdsiam\[(.*)\]", requirement)
        if own:
            for extra in own[1].split(","):
                result |= names(PROJECT["optional-dependencies"][extra])
        elif not requirement.startswith("#"):
            result.add(re.split(r"[\[<>=]", requirement)[0].lower())
    return result


def test_the_library_is_in_the_syntax_of_its_oldest_python():
    oldest = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert oldest
    for path in LAYER.rglob("*.py"):
        ast.parse(path.read_text(), path, feature_version=(3, int(oldest[1])))


def test_applications_get_two_packages():
    assert names(PROJECT["dependencies"]) == {"botocore", "click"}


def test_extras_are_known_by_their_modules():
    for extra, modules in MODULES.items():
        assert names(PROJECT["optional-dependencies"][extra]) == {PACKAGES.get(name, name) for name in modules}
    assert PROJECT["optional-dependencies"].keys() - MODULES.keys() == {"functions"}  # those need all of theirs


def test_the_layer_has_the_packages_of_the_functions():
    layer = names((LAYER / "requirements.in").read_text().splitlines())
    assert layer == names(PROJECT["optional-dependencies"]["functions"]) | {"botocore"}
