"""Pages of the answers that localcloud makes itself."""

from typing import Any

import pytest
from moto.rds.exceptions import RDSClientError

from localcloud.moto_patches.rds.pages import page

ITEMS = [{"Name": str(number)} for number in range(45)]


def test_all_items_come_once_and_the_last_page_has_no_marker():
    found: list[Any] = []
    asked: dict[str, Any] = {"MaxRecords": 20}
    sizes = []
    while True:
        answer: Any = page(asked, "Items", ITEMS).result
        found += answer["Items"]
        sizes.append(len(answer["Items"]))
        if "Marker" not in answer:
            break
        asked["Marker"] = answer["Marker"]
    assert (found, sizes) == (ITEMS, [20, 20, 5])


@pytest.mark.parametrize(
    "asked", [{"Marker": "bad"}, {"Marker": "-1"}, {"Marker": "²"}, {"MaxRecords": 19}, {"MaxRecords": 101}], ids=str
)
def test_a_marker_or_size_that_rds_does_not_take_is_refused_and_is_no_error_of_the_server(asked):
    with pytest.raises(RDSClientError, match="Marker or MaxRecords is not valid"):
        page(asked, "Items", ITEMS)
