"""Evaluates queries of CloudWatch Logs Insights on lines of JSON: as much of the language as the documentation uses.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html. A command that isn't here is refused.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Line = Mapping[str, Any]
Condition = Callable[[Line], bool]
#: `/…/` is a regular expression, and `"…"` a text.
_TOKENS = re.compile(
    r"""\s*(?:(?P<regex>/(?:\\.|[^/\\])+/)|(?P<text>"[^"]*"|'[^']*')|(?P<word>[@\w.]+)|(?P<sign>!=|=|[()*,]))"""
)
_NOT_READ = ("fields", "sort", "limit", "display", "stats")


class UnknownQuery(Exception):
    """The query has something that isn't read here."""


def found(query: str, lines: Iterable[Line]) -> list[Line]:
    """Return the lines that all `filter` commands of a query let pass."""
    conditions = [_filter(command) for command in _commands(query)]
    return [line for line in lines if all(condition(line) for condition in conditions)]


def names(query: str) -> set[str]:
    """Return the names of the fields that a query mentions, but for Insights' own."""
    bare = re.sub(r"/(\\.|[^/\\])+/|\"[^\"]*\"|'[^']*'", "", query)
    words = set(re.findall(r"[@\w.]+", bare))
    keywords = {*_NOT_READ, "filter", "like", "and", "or", "not", "in", "by", "desc", "asc", "count"}
    return {word for word in words - keywords if not word.isdigit() and not word.startswith("@")}


def _commands(query: str) -> list[str]:
    """Return the commands of a query; a `|` in a text or a regular expression separates none."""
    return re.findall(r"""(?:/(?:\\.|[^/\\])+/|"[^"]*"|'[^']*'|[^|"'/])+""", query)


def _filter(command: str) -> Condition:
    name, _, rest = command.strip().partition(" ")
    if name in _NOT_READ:
        return lambda _: True
    if name != "filter":
        raise UnknownQuery(command)
    tokens = list(_tokens(rest.strip()))
    condition = _any(tokens)
    if tokens:
        raise UnknownQuery(f"{command}: {tokens}")
    return condition


def _tokens(text: str) -> Iterable[tuple[str, str]]:
    position = 0
    while position < len(text):
        match = _TOKENS.match(text, position)
        if match is None:
            raise UnknownQuery(text[position:])
        assert match.lastgroup is not None
        yield match.lastgroup, match[match.lastgroup]
        position = match.end()


def _any(tokens: list[tuple[str, str]]) -> Condition:
    conditions = [_all(tokens)]
    while tokens and tokens[0] == ("word", "or"):
        del tokens[0]
        conditions.append(_all(tokens))
    return lambda line: any(condition(line) for condition in conditions)


def _all(tokens: list[tuple[str, str]]) -> Condition:
    conditions = [_one(tokens)]
    while tokens and tokens[0] == ("word", "and"):
        del tokens[0]
        conditions.append(_one(tokens))
    return lambda line: all(condition(line) for condition in conditions)


def _one(tokens: list[tuple[str, str]]) -> Condition:
    try:
        (kind, field), (_, operator), (value_kind, value) = tokens[:3]
    except ValueError:
        raise UnknownQuery(f"{tokens}") from None
    del tokens[:3]
    text = value[1:-1]
    if kind != "word" or (operator, value_kind) not in {("like", "regex"), ("like", "text"), ("=", "text")}:
        raise UnknownQuery(f"{field} {operator} {value}")
    if value_kind == "regex":
        return lambda line: field in line and re.search(text, str(line[field])) is not None
    if operator == "like":
        return lambda line: field in line and text in str(line[field])
    return lambda line: line.get(field) == text
