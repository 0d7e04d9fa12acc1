"""Kinds of databases that tests run on: an engine, or one with a major version, such as `postgres14`."""

import re

import pytest

#: An older PostgreSQL in long suites, which `make test` runs on 18: roles have no ADMIN OPTION, memberships no options.
OLDER_EXHAUSTIVE = pytest.param("postgres14", marks=pytest.mark.exhaustive)
_KIND = re.compile(r"([a-z-]+)(\d*)")


def created_as(kind: str) -> dict[str, str]:
    """Return the parameters of RDS that an instance of a kind is created with."""
    match = _KIND.fullmatch(kind)
    assert match, kind
    engine, version = match.groups()
    return {"Engine": engine} | ({"EngineVersion": f"{version}.12"} if version else {})
