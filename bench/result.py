"""One measured number, what it is compared with, and the promise about it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """A line of bench/results.json.

    :ivar ratio: how the two relate, the way the promise counts it.
    :ivar at_least: the promise: the ratio is at least this; None if there is no such promise.
    :ivar at_most: the promise: the ratio is at most this; None if there is no such promise.
    """

    name: str
    value: float
    unit: str
    baseline: str
    baseline_value: float
    ratio: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def promise(self) -> str:
        """The promise in words; empty if there is none."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""

    @property
    def holds(self) -> bool:
        """Whether the promise holds; true if there is none."""
        return (self.at_least is None or self.ratio >= self.at_least) and (
            self.at_most is None or self.ratio <= self.at_most
        )

    def as_json(self) -> dict[str, str | float]:
        """Return the shape of bench/results.json, rounded to four significant digits."""
        return {
            "name": self.name,
            "value": float(f"{self.value:.4g}"),
            "unit": self.unit,
            "baseline": self.baseline,
            "baseline_value": float(f"{self.baseline_value:.4g}"),
            "ratio": float(f"{self.ratio:.4g}"),
        }


def show(results: Sequence[Result]) -> int:
    """Print a table; return the exit code: 1 if a promise is broken."""
    print(f"{'name':<40} {'value':>14} {'baseline':>14} {'ratio':>8} {'promise':>8}  holds")
    for result in results:
        value, baseline = (f"{number:.2f} {result.unit}" for number in (result.value, result.baseline_value))
        print(
            f"{result.name:<40} {value:>14} {baseline:>14} {result.ratio:>8.2f} {result.promise:>8}"
            f"  {'yes' if result.holds else 'NO'}    ({result.baseline})"
        )
    return 0 if all(result.holds for result in results) else 1
