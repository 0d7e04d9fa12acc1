"""Names of schemas in grants, as names and as patterns."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.engines.schema_names import SchemaNames

TEXTS = st.text(st.sampled_from("aAb_%\\\n-"), max_size=8)


@given(TEXTS)
def test_a_pattern_made_of_a_name_names_that_schema_and_covers_it_alone(name):
    for names in (SchemaNames(), SchemaNames(literal=True), SchemaNames(lower_case=True)):
        pattern = names.pattern(name)
        assert names.plain(pattern) == names.stored(name)
        assert names.covers(pattern, name)
        assert not names.covers(pattern, name + "x")
        assert names.stored(pattern) == pattern


@given(TEXTS, TEXTS)
def test_a_pattern_covers_what_the_same_regular_expression_matches(pattern, schema):
    parts = re.findall(r"\\.|%|_|.", pattern, re.DOTALL)
    expression = "".join({"%": ".*", "_": "."}.get(part) or re.escape(part[-1]) for part in parts)
    expected = re.fullmatch(expression, schema, re.IGNORECASE | re.DOTALL) is not None
    assert SchemaNames().covers(pattern, schema) is expected


@pytest.mark.parametrize("pattern", ["%" * 64, "%_" * 32, "%p" * 32, "%a%" * 21 + "x"])
def test_no_pattern_takes_long(pattern):
    SchemaNames().covers(pattern, "performance_schema" * 4)


def test_names_without_wildcards_differ_by_case_only_where_the_server_says_so():
    assert SchemaNames().pattern("MyApp") == "MyApp"
    assert SchemaNames(lower_case=True).pattern("My_App") == r"my\_app"
    assert SchemaNames(literal=True, lower_case=True).pattern("My_App") == "my_app"
