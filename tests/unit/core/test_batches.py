"""Batches of values."""

import itertools

import pytest

from rdsiam.core.batches import batched


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_batches_are_those_of_itertools(number, size):
    assert list(batched(iter(range(number)), size)) == list(itertools.batched(range(number), size, strict=False))
