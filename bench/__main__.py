"""Runs every benchmark, prints a table and writes bench/results.json; exits with 1 where a promise is broken."""

import json
import sys
from pathlib import Path

from bench import auditing, command, fleet, imports, report, rotating, signing, vending

BENCHMARKS = [signing.run, imports.run, command.run, vending.run, auditing.run, report.run, rotating.run, fleet.run]


def main() -> int:
    results = [result for run in BENCHMARKS for result in run()]
    Path(__file__).with_name("results.json").write_text(
        json.dumps([result.as_json() for result in results], indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(f"{'name':<27} {'value':>12} {'baseline':>12} {'ratio':>8} {'promise':>8}  holds")
    for result in results:
        value, baseline = (f"{number:.2f} {result.unit}" for number in (result.value, result.baseline_value))
        print(
            f"{result.name:<27} {value:>12} {baseline:>12} {result.ratio:>8.2f} {result.promise:>8}"
            f"  {'yes' if result.holds else 'NO'}    ({result.baseline})"
        )
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
