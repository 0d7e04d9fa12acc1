"""Answers of functions within the limits of Lambda: lists that are too long are cut, and stored in full.

A list of an answer holds at most `LARGEST_LIST` bytes of JSON. If it has more, `<list>_total` is the number of its
elements and `<list>_at` the address of all of them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

#: Bytes of JSON of one list of an answer. A chained invocation accepts 1 MiB in all.
LARGEST_LIST = 100_000
#: Characters of a text of an answer that joins the reasons of many parts.
_LONGEST_TEXT = 4_000
_LISTS = ("changes", "incomplete", "migrations", "onboardings", "proofs", "remediated", "schemas", "secrets", "started")
_TEXTS = ("reason", "remedy")


class LargeResults(Protocol):
    """A store of results that neither a checkpoint nor an answer can hold."""

    def put(self, name: str, text: str) -> str:
        """Store a text, and return its address; the same text has the same address."""

    def get(self, address: str) -> str:
        """Return the text that `put` stored."""


def long_lists(answer: Mapping[str, Any], limit: int = LARGEST_LIST) -> list[str]:
    """Return the names of the lists that have no room in an answer.

    :param limit: bytes of JSON of one list.
    """
    return [name for name in _LISTS if name in answer and len(_fitting(answer[name], limit)) < len(answer[name])]


def store_long_lists(answer: Mapping[str, Any], results: LargeResults, limit: int = LARGEST_LIST) -> dict[str, str]:
    """Store the lists that have no room in an answer, and return their addresses by name. Idempotent."""
    return {name: results.put(name, json.dumps(answer[name])) for name in long_lists(answer, limit)}


def cut(answer: Mapping[str, Any], addresses: Mapping[str, str], limit: int = LARGEST_LIST) -> dict[str, Any]:
    """Return an answer with the elements that have room, and totals and addresses of the lists that were stored."""
    result = {name: _shortened(value) if name in _TEXTS else value for name, value in answer.items()}
    for name, address in addresses.items():
        result[name] = list(_fitting(answer[name], limit))
        result |= {f"{name}_total": len(answer[name]), f"{name}_at": address}
    return result


def bounded(answer: Mapping[str, Any], results: LargeResults) -> dict[str, Any]:
    """Return an answer within the limits, for a function that keeps no checkpoints."""
    return cut(answer, store_long_lists(answer, results))


def whole(answer: Mapping[str, Any], name: str, results: LargeResults) -> list[Any]:
    """Return all elements of a list of another function's answer."""
    address = answer.get(f"{name}_at")
    elements: list[Any] = answer[name] if address is None else json.loads(results.get(address))
    return elements


def _fitting(elements: Sequence[Any], limit: int) -> Sequence[Any]:
    """Return the first elements, as many as have room."""
    size = 2
    for number, element in enumerate(elements):
        size += len(json.dumps(element)) + 2
        if size > limit:
            return elements[:number]
    return elements


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} … (cut: each part has its own)"
