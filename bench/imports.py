"""The time that an application waits for `import rdsiam.signer, rdsiam.pool`, beside that of `import boto3`."""

import os
import statistics
import sys
from pathlib import Path

from bench.result import Result

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 15
#: Milliseconds that an application may wait at most.
LIMIT = 100.0


def run() -> list[Result]:
    """Start Python with nothing, with the library and with boto3 in turns; compare the medians, without the start.

    Each has been run once before, so that what it imports is compiled and in the page cache.
    """
    codes = ("pass", "import rdsiam.signer, rdsiam.pool", "import boto3")
    times: list[list[float]] = [[], [], []]
    for number in range(ROUNDS + 1):
        for code, results in zip(codes, times, strict=True):
            taken = _seconds(code)
            if number:
                results.append(taken * 1000)
    start, library, usual = (statistics.median(results) for results in times)
    library, usual = library - start, usual - start
    return [
        Result("import-library", library, "ms", "the most that is promised", LIMIT, library / LIMIT, at_most=1),
        Result("import-beside-boto3", library, "ms", "import boto3", usual, usual / library, at_least=2),
    ]


def _seconds(code: str) -> float:
    """Run code in a Python of its own, and return its CPU time: an import waits for nothing else."""
    environment = {"PYTHONPATH": str(ROOT / "layers" / "rdsiam")}
    process = os.posix_spawn(sys.executable, [sys.executable, "-c", code], environment)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{code} failed")
    return usage.ru_utime + usage.ru_stime
