"""Comparisons of ways to a database that take turns, round by round: a busy moment of the machine slows them alike."""

import statistics
from collections.abc import Callable, Sequence

from bench.result import Result


def rounds[Way](ways: Sequence[Way], count: int, measure: Callable[[Way], float]) -> list[list[float]]:
    """Return the numbers of each way, which take turns."""
    results: list[list[float]] = [[] for _ in ways]
    for _ in range(count):
        for way, numbers in zip(ways, results, strict=True):
            numbers.append(measure(way))
    return results


def share(name: str, unit: str, numbers: list[float], direct: list[float], at_least: float | None = None) -> Result:
    """Return a result whose ratio is the median of that of each round."""
    ratio = statistics.median(number / baseline for number, baseline in zip(numbers, direct, strict=True))
    baseline = statistics.median(direct)
    return Result(name, ratio * baseline, unit, "direct", baseline, ratio, at_least=at_least)


def added(name: str, times: list[float], direct: list[float], at_most: float | None = None) -> Result:
    """Return a result whose ratio is the difference: the median of that of each round."""
    difference = statistics.median(time - baseline for time, baseline in zip(times, direct, strict=True))
    baseline = statistics.median(direct)
    return Result(name, baseline + difference, "ms", "direct; ratio: ms added", baseline, difference, at_most=at_most)
