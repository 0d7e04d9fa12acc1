"""Pages of RDS's answers that moto doesn't make: its own need an attribute that is unique."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moto.core.responses import ActionResult
from moto.rds.exceptions import RDSClientError

_SMALLEST, _LARGEST = 20, 100


def page(asked: Mapping[str, Any], key: str, items: Sequence[Mapping[str, Any]]) -> ActionResult:
    """Return a page; the marker is the number of the next item.

    :raises RDSClientError: the marker is no such number, or the page's size is none of RDS's.
    """
    marker, size = str(asked.get("Marker") or 0), int(asked.get("MaxRecords") or _LARGEST)
    if not marker.isascii() or not marker.isdigit() or not _SMALLEST <= size <= _LARGEST:
        raise RDSClientError("InvalidParameterValue", f"Marker or MaxRecords is not valid: {marker}, {size}")
    end = int(marker) + size
    more = {"Marker": str(end)} if end < len(items) else {}
    return ActionResult({key: items[int(marker) : end], **more})
