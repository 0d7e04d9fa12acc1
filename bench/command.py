"""The time of `rdsiam token` as a process, beside `aws rds generate-db-auth-token`."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.result import Result
from bench.signing import HOST, REGION, SESSION_TOKEN

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 15
_OURS = "from rdsiam.command import main; main()"


def run() -> list[Result]:
    """Start both in turns, with the same credentials in the environment, and compare the medians of wall time.

    The AWS CLI is version 1, the one on PyPI, on the same Python; version 2 brings a Python of its own. Both have been
    run once before, so that what they import is compiled and in the page cache.
    """
    aws = str(ROOT / ".venv" / "bin" / "aws")
    own = [sys.executable, "-c", _OURS, "token", "--host", HOST, "--port", "5432", "--user", "app_service"]
    theirs = [
        *(aws, "rds", "generate-db-auth-token", "--hostname", HOST, "--port", "5432"),
        *("--username", "app_service", "--region", REGION),
    ]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "AWS_ACCESS_KEY_ID": "ASIAEXAMPLEEXAMPLE00",
        "AWS_SECRET_ACCESS_KEY": "not-a-real-secret-key-0123456789abcdefgh",
        "AWS_SESSION_TOKEN": SESSION_TOKEN,
        "PYTHONPATH": str(ROOT / "layers" / "rdsiam"),
    }
    times: list[list[float]] = [[], []]
    for number in range(ROUNDS + 1):
        for command, results in zip((own, theirs), times, strict=True):
            taken = _seconds(command, environment)
            if number:
                results.append(taken * 1000)
    token, baseline = (statistics.median(results) for results in times)
    return [
        Result("rdsiam-token", token, "ms", "aws rds generate-db-auth-token", baseline, baseline / token, at_least=8)
    ]


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    """Run a command that prints a token, and return how long it took."""
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    taken = time.perf_counter() - started
    if "X-Amz-Signature=" not in done.stdout:
        raise RuntimeError(f"{command[0]} printed no token")
    return taken
