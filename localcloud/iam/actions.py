"""The table of API calls and the permissions that they need, read from `actions.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("actions.toml")
_TABLE: Mapping[str, Any] = tomllib.loads(FILE.read_text())


class ActionsWrong(Exception):
    """`actions.toml` has an entry that can't be used."""


def rules[R](service: str, makers: Mapping[str, Callable[..., R]], table: Mapping[str, Any] = _TABLE) -> dict[str, R]:
    """Return the rule of each call of a service.

    :param makers: make a rule of each kind from the other keys of its entry.
    :raises ActionsWrong: a rule is unknown or lacks an argument, or a call is listed twice.
    """
    result: dict[str, R] = {}
    for entry in table[service]:
        arguments = {name: value for name, value in entry.items() if name not in ("rule", "calls")}
        if entry["rule"] not in makers:
            raise ActionsWrong(f"{FILE.name}: {service} has an unknown rule {entry['rule']}; known: {sorted(makers)}")
        try:
            rule = makers[entry["rule"]](**arguments)
        except TypeError as error:
            raise ActionsWrong(f"{FILE.name}: arguments of {service}'s rule {entry['rule']}: {error}") from None
        for call in entry["calls"]:
            if call in result:
                raise ActionsWrong(f"{FILE.name}: {service} lists {call} twice")
            result[call] = rule
    return result


def paths(service: str, kind: str) -> dict[tuple[str, str | None], str]:
    """Return the actions of a service's calls by method and the part of the path or query that chooses the call."""
    return {
        (method, part or None): action
        for (method, _, part), action in ((key.partition(" "), value) for key, value in _TABLE[service][kind].items())
    }


def calls(service: str) -> set[str]:
    """Return the calls of a service whose action has the name of the call and no resource."""
    return set(_TABLE[service]["calls"])
