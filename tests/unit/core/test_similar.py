"""Suggestions for names that don't exist."""

import pytest

from rdsiam.core.similar import closest, did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("prot", ["host", "port", "socket"], ["port"]),
        ("PORT", ["host", "port"], ["port"]),
        ("oders", ["Orders", "billing"], ["Orders"]),
        ("xyz", ["host", "port"], []),
        ("", ["host"], []),
        ("name", [], []),
        ("orders" + "x" * 100_000, ["orders"], []),
    ],
)
def test_the_closest_name_is_found_whatever_its_case(name, known, expected):
    assert closest(name, known) == expected


def test_several_names_may_be_suggested():
    assert did_you_mean("order", ["orders-12", "orders", "billing"], 2) == "did you mean orders or orders-12?"
    assert did_you_mean("xyz", ["orders"]) == ""
