"""Builds by `sam build`, for both processors, with ordinary pip and its package sources."""

import os
import platform
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAM = ROOT / ".venv" / "sam" / "bin" / "sam"
ARCHITECTURES = ("x86_64", "arm64")
#: What this machine's containers run.
HOST = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
#: All builds share .aws-sam/deps, from which each removes what it does not need itself.
_ONE_AT_A_TIME = threading.Lock()


def environment(**more: str) -> dict[str, str]:
    """Return what `sam` is run with: Python 3.13 first on the path, and no credentials but those in `more`."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{ours['PATH']}"
    return ours | {"PATH": path, "SAM_CLI_TELEMETRY": "0"} | more


def build(architecture: str) -> Path:
    """Build for that processor and return the directory; what hasn't changed since the last time is kept."""
    directory = ROOT / ".aws-sam" / architecture / "build"
    with _ONE_AT_A_TIME:
        done = subprocess.run(
            [
                SAM, "build", "--parameter-overrides", f"Architecture={architecture}",
                "--build-dir", directory, "--cache-dir", directory.with_name("cache"),
            ],
            cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return directory
