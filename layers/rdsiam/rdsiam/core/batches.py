"""Batches of values: `itertools.batched`, which Python has from 3.12 on."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Value = TypeVar("Value")


def batched(values: Iterable[Value], size: int) -> Iterator[tuple[Value, ...]]:
    """Yield the values in tuples of `size`; the last one may be shorter."""
    rest = iter(values)
    while batch := tuple(islice(rest, size)):
        yield batch
