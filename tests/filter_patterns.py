"""Evaluates filter patterns of CloudWatch Logs on lines of JSON: equality with a text, `*` for any characters, `&&`.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
"""

import re
from collections.abc import Mapping
from typing import Any

_TERM = re.compile(r'\s*\$\.(?P<key>\w+)\s*=\s*"(?P<text>[^"]*)"\s*')


def matches(pattern: str, line: Mapping[str, Any]) -> bool:
    """Tell whether a line matches a pattern."""
    inner = re.fullmatch(r"\{(.*)\}", pattern.strip())
    assert inner is not None, pattern
    terms = [_TERM.fullmatch(term) for term in inner[1].split("&&")]
    assert all(terms), pattern
    return all(term is not None and _is(term["text"], line.get(term["key"])) for term in terms)


def _is(expected: str, value: object) -> bool:
    parts = (re.escape(part) for part in expected.split("*"))
    return isinstance(value, str) and re.fullmatch(".*".join(parts), value, re.DOTALL) is not None
