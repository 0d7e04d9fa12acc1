"""Users of MySQL that replace others: privileges on patterns that cover the server's own schemas."""

import pytest

from rdsiam.engines.mysql.replacement import _covers


@pytest.mark.parametrize(
    ("pattern", "kind", "covers"),
    [
        ("%", "SCHEMA", True),
        ("m%", "SCHEMA", True),
        ("MYSQL", "SCHEMA", True),
        ("mysq_", "SCHEMA", True),
        ("mysq\\_", "SCHEMA", False),
        ("shop", "SCHEMA", False),
        ("mysql", "TABLE", True),
        ("mysq_", "TABLE", False),
    ],
)
def test_a_pattern_covers_the_servers_own_schemas_as_the_server_matches_it(pattern, kind, covers):
    assert _covers(pattern, "mysql", kind) is covers
