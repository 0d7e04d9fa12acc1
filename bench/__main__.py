"""Runs every benchmark, prints a table and writes bench/results.json; exits with 1 where a promise is broken."""

import json
import sys
from pathlib import Path

from bench import auditing, command, fleet, imports, report, rotating, signing, vending
from bench.proxy import benchmark as proxy
from bench.result import show

BENCHMARKS = [
    signing.run,
    imports.run,
    command.run,
    vending.run,
    auditing.run,
    report.run,
    rotating.run,
    fleet.run,
    proxy.run,
]


def main() -> int:
    results = [result for run in BENCHMARKS for result in run()]
    Path(__file__).with_name("results.json").write_text(
        json.dumps([result.as_json() for result in results], indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return show(results)


if __name__ == "__main__":
    sys.exit(main())
