"""Reads a text of access.yaml, and returns its only user or its only problem."""

import pytest

from rdsiam.access.model import parse
from rdsiam.access.selection import SelectedDatabase
from rdsiam.access.users import DeclaredUser
from rdsiam.errors import AccessFileInvalid
from tests.unit.databases import ORDERS


def declared(text: str, database: SelectedDatabase = ORDERS) -> DeclaredUser:
    """Return the only user that a file declares for a database."""
    (user,) = parse(text).declared(database)
    return user


def problem(text: str, database: SelectedDatabase | None = None) -> str:
    """Return the only problem of a file, or of what it declares for a database, without its line."""
    with pytest.raises(AccessFileInvalid) as caught:
        parse(text) if database is None else parse(text).declared(database)
    (text,) = caught.value.problems
    return text.partition(": ")[2]
