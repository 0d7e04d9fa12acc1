"""Statements of IAM policies about `rds-db:connect`."""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CONNECT = "rds-db:connect"
#: An action that doesn't exist, and that people write for the one that does.
MISTAKEN = "rds:connect"


def glob(pattern: str, text: str) -> bool:
    """Tell whether an IAM pattern, with `*` and `?` and nothing else special, matches."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def statements(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return a policy's statements, of which there may be one without a list."""
    found = document.get("Statement", [])
    return [found] if isinstance(found, Mapping) else list(found)


def texts(statement: Mapping[str, Any], key: str) -> list[str]:
    """Return `Action`, `NotAction`, `Resource` or `NotResource` as a list; empty if it is missing."""
    found = statement.get(key, [])
    return [found] if isinstance(found, str) else [str(one) for one in found]


def is_connect(action: str) -> bool:
    """Tell whether an action, or pattern of actions, covers `rds-db:connect`. IAM's actions know no case."""
    return glob(action.lower(), CONNECT)


def covers_connect(statement: Mapping[str, Any]) -> bool:
    """Tell whether its actions cover `rds-db:connect`, whatever its effect and resources."""
    if "NotAction" in statement:
        return not any(is_connect(action) for action in texts(statement, "NotAction"))
    return any(is_connect(action) for action in texts(statement, "Action"))


def is_explicit(statement: Mapping[str, Any]) -> bool:
    """Tell whether it speaks of logins to databases by name, and not only as a part of more."""
    return any(action.lower().startswith("rds-db:") or is_mistaken(action) for action in texts(statement, "Action"))


def is_mistaken(action: str) -> bool:
    """Tell whether an action is `rds:connect`, which doesn't exist."""
    return action.lower() == MISTAKEN


def allows(statement: Mapping[str, Any]) -> bool:
    """Tell whether it allows `rds-db:connect` on something, or is meant to."""
    mistaken = any(is_mistaken(action) for action in texts(statement, "Action"))
    return statement.get("Effect") == "Allow" and (covers_connect(statement) or mistaken)


def denies(statement: Mapping[str, Any]) -> bool:
    """Tell whether it denies `rds-db:connect` on something, whatever the circumstances."""
    return statement.get("Effect") == "Deny" and covers_connect(statement) and not statement.get("Condition")


def keys(condition: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys that a condition looks at."""
    for operands in condition.values():
        yield from operands
