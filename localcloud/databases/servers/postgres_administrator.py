"""The server module that gives PostgreSQL an administrator like RDS's: compiled once, where a compiler is."""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
from pathlib import Path

from localcloud.databases.servers import postgres_programs

logger = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_name("rds_superuser.c")
_compiling = threading.Lock()
_failed: set[Path] = set()


def module(root: Path) -> Path | None:
    """Return the compiled module below `root`, which fits the newest version only, or None if it can't be compiled.

    A line of the log says why, once.
    """
    compiled = root / "postgres.modules" / "rds_superuser.so"
    with _compiling:
        if compiled.exists() or root in _failed:
            return compiled if compiled.exists() else None
        problem = _compile(compiled)
        if problem is None:
            return compiled
        _failed.add(root)
    logger.warning("PostgreSQL runs with its own administrator (vanilla), not one like RDS's: %s", problem)
    return None


def _compile(compiled: Path) -> str | None:
    """Compile the module; return the reason if that is impossible."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    headers = postgres_programs.headers()
    if compiler is None:
        return "a C compiler is missing: apt-get install gcc libc6-dev"
    if not (headers / "postgres.h").exists():
        return f"PostgreSQL's headers are missing in {headers}"
    compiled.parent.mkdir(parents=True, exist_ok=True)
    compiled.parent.chmod(0o755)  # the servers run as nobody
    unfinished = compiled.with_suffix(".unfinished")
    done = subprocess.run(
        [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{headers}", "-o", unfinished, _SOURCE],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return f"{_SOURCE.name} does not compile: {' '.join((done.stderr or done.stdout).split())[:300]}"
    unfinished.chmod(0o755)
    unfinished.rename(compiled)
    return None
