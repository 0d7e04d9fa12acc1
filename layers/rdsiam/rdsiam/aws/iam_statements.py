"""Statements of IAM policies, and whether they allow or deny `rds-db:connect`, the action of a login by token."""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CONNECT = "rds-db:connect"
#: An action that doesn't exist. People write it by mistake for `rds-db:connect`.
MISTAKEN = "rds:connect"


def glob(pattern: str, text: str) -> bool:
    """Tell whether an IAM pattern matches a text; `*` and `?` are its only special characters."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def statements(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return a policy's statements. A policy may have a single statement in place of a list."""
    values = document.get("Statement", [])
    return [values] if isinstance(values, Mapping) else list(values)


def texts(statement: Mapping[str, Any], key: str) -> list[str]:
    """Return `Action`, `NotAction`, `Resource` or `NotResource` as a list; empty if it is missing."""
    values = statement.get(key, [])
    return [values] if isinstance(values, str) else [str(value) for value in values]


def is_connect(action: str) -> bool:
    """Tell whether an action, or a pattern of actions, covers `rds-db:connect`. IAM ignores the case of actions."""
    return glob(action.lower(), CONNECT)


def covers_connect(statement: Mapping[str, Any]) -> bool:
    """Tell whether a statement's actions cover `rds-db:connect`, whatever the statement's effect and resources."""
    if "NotAction" in statement:
        return not any(is_connect(action) for action in texts(statement, "NotAction"))
    return any(is_connect(action) for action in texts(statement, "Action"))


def is_explicit(statement: Mapping[str, Any]) -> bool:
    """Tell whether a statement names an action of `rds-db`, or the misspelling `rds:connect`.

    A statement that covers logins only as part of a wider pattern, such as `*` or NotAction, isn't explicit.
    """
    return any(action.lower().startswith("rds-db:") or is_mistaken(action) for action in texts(statement, "Action"))


def is_mistaken(action: str) -> bool:
    """Tell whether an action is `rds:connect`, which doesn't exist."""
    return action.lower() == MISTAKEN


def allows(statement: Mapping[str, Any]) -> bool:
    """Tell whether a statement allows `rds-db:connect` on some resource, or would if its action were spelled right."""
    mistaken = any(is_mistaken(action) for action in texts(statement, "Action"))
    return statement.get("Effect") == "Allow" and (covers_connect(statement) or mistaken)


def denies(statement: Mapping[str, Any]) -> bool:
    """Tell whether a statement denies `rds-db:connect` on some resource, under no condition."""
    return statement.get("Effect") == "Deny" and covers_connect(statement) and not statement.get("Condition")


def keys(condition: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of a condition, such as `aws:SourceIp`."""
    for operands in condition.values():
        yield from operands
