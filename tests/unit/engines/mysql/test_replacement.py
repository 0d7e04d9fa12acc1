"""Users of MySQL that replace others: rights that rdsiam gives to no user."""

import pytest

from rdsiam.engines.mysql.grants import Rights, Server
from rdsiam.engines.mysql.replacement import ReplacementRights, refuse
from rdsiam.engines.schema_names import SchemaNames
from rdsiam.errors import Refused

OLD = ("old", "%")


def is_refused(*key: str, privileges: tuple[str, ...] = ("SELECT",), literal: bool = False) -> bool:
    """Tell whether a user that has these privileges can't be replaced."""
    rights = {OLD: Rights({key: frozenset(privileges)})}
    replaced = ReplacementRights(Server(False, (8, 4, 7)), SchemaNames(literal=literal), rights)
    try:
        refuse({OLD: False}, replaced, {"new": "old"})
    except Refused as refused:
        return refused.code == "rights-not-grantable"
    return False


@pytest.mark.parametrize(
    ("pattern", "covers", "covers_literally"),
    [
        ("%", True, False),
        ("m%", True, False),
        ("MYSQL", True, True),
        ("mysq_", True, False),
        ("mysq\\_", False, False),
        ("shop", False, False),
    ],
)
def test_a_grant_on_the_servers_own_schemas_is_found_as_the_server_matches_it(pattern, covers, covers_literally):
    assert is_refused("SCHEMA", pattern) is covers
    assert is_refused("SCHEMA", pattern, literal=True) is covers_literally


def test_a_table_of_the_servers_own_schemas_is_no_pattern():
    assert is_refused("TABLE", "mysql", "user")
    assert not is_refused("TABLE", "mysq_", "user")


@pytest.mark.parametrize("kind", [("USER",), ("DYNAMIC", "ROLE_ADMIN"), ("RESTRICTION", "secret")])
def test_rights_on_everything_are_refused(kind):
    assert is_refused(*kind)
