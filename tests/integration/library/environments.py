"""Clean environments in which the library's wheel is installed, without a network.

Each has the wheel and the packages of some extras, and nothing else. Packages come from environments that `make setup`
made of locked requirement files: their folders are linked, which takes no time.
"""

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
LAYER = ROOT / "layers" / "rdsiam"
#: Environments of `make setup`, by the version of their Python.
OLDEST, OURS = "3.11", f"{sys.version_info.major}.{sys.version_info.minor}"
HAVING_ALL = {OURS: ROOT / ".venv", OLDEST: ROOT / ".venv" / "python3.11"}


@dataclass(frozen=True)
class Environment:
    """An environment with the installed wheel.

    :ivar packages: names of its packages.
    """

    folder: Path
    packages: frozenset[str]

    def run(self, program: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, without credentials and files of AWS."""
        nowhere = {"AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "HOME": str(self.folder)}
        return subprocess.run(
            [self.folder / "bin" / program, *words],
            env={
                "PATH": "/usr/bin:/bin",
                "AWS_EC2_METADATA_DISABLED": "true",
                **nowhere,
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def python(self, code: str, **variables: str) -> str:
        """Return the output of code that must succeed."""
        done = self.run("python", "-c", code, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def build(folder: Path) -> Path:
    """Build the source distribution, and the wheel from it as an installer would; return the wheel."""
    backend = "import sys; from flit_core import buildapi; print(getattr(buildapi, sys.argv[1])(sys.argv[2]))"

    def built(hook: str, source: Path) -> Path:
        command = [sys.executable, "-c", backend, hook, str(folder)]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
        return folder / done.stdout.strip()

    archive = built("build_sdist", LAYER)
    with tarfile.open(archive) as sources:
        sources.extractall(folder, filter="data")
    return built("build_wheel", folder / archive.name.removesuffix(".tar.gz"))


def install(
    wheel: Path, folder: Path, version: str, extras: tuple[str, ...], more: tuple[str, ...] = ()
) -> Environment:
    """Make an environment of this version of Python with the wheel, these extras, and more packages."""
    source = HAVING_ALL[version]
    if not (source / "bin" / "python").exists():
        pytest.skip(f"Python {version} is not installed, or `make setup` was not run since")
    subprocess.run([source / "bin" / "python", "-m", "venv", "--without-pip", folder], check=True)
    site = folder / "lib" / f"python{version}" / "site-packages"
    roots = [Requirement(f"rdsiam[{','.join(extras)}]"), *map(Requirement, more)]
    packages = dict(_closure(source, version, roots, wheel))
    for distribution in packages.values():
        for top in {Path(file).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"),
            *("install", "--quiet", "--no-index", f"{wheel}[{','.join(extras)}]" if extras else wheel),
        ],
        check=True,
    )
    return Environment(folder, frozenset({*packages, "rdsiam"}))


def _closure(source: Path, version: str, roots: list[Requirement], wheel: Path) -> Iterator[tuple[str, Distribution]]:
    """Yield the packages that requirements need, directly or not."""
    known = _installed(source, version) | {"rdsiam": next(iter(distributions(path=[str(wheel)])))}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(roots)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        for text in known[name].requires or ():
            needed = Requirement(text)
            wanted = ({"extra": extra, "python_version": version} for extra in ["", *requirement.extras])
            if needed.marker is None or any(needed.marker.evaluate(environment) for environment in wanted):
                waiting.append(needed)
        if name != "rdsiam":
            yield name, known[name]


@cache
def _installed(source: Path, version: str) -> dict[str, Distribution]:
    site = source / "lib" / f"python{version}" / "site-packages"
    return {canonicalize_name(found.metadata["Name"]): found for found in distributions(path=[str(site)])}
