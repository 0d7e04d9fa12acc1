"""Pauses between two looks at a condition."""

from collections.abc import Iterator


def growing_pauses() -> Iterator[float]:
    """Yield seconds, from 0.05 to 0.4: each look asks the cloud, whose processor time the other tests need."""
    pause = 0.05
    while True:
        yield pause
        pause = min(0.4, 1.25 * pause)
