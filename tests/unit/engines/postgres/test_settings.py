"""Settings of PostgreSQL roles: lists of names as servers write them, and changes to another role's settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.engines.postgres.settings import acting_as, changes, elements

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@given(st.lists(NAMES, min_size=1, max_size=6))
def test_lists_are_parsed_as_postgres_quotes_them(names):
    value = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    assert elements(value) == names


@pytest.mark.parametrize(
    ("value", "names"),
    [('"$user", public', ["$user", "public"]), ('""', [""]), ("", [""]), ('a,"b,c" , d', ["a", "b,c", "d"])],
)
def test_lists_are_parsed_as_servers_write_them(value, names):
    assert elements(value) == names


def test_settings_become_exactly_those_of_the_other_role():
    desired = acting_as("app", {(None, "search_path"): '"$user", x', ("shop", "role"): "owners"})
    current: dict[tuple[str | None, str], str] = {(None, "role"): "app", (None, "work_mem"): "1MB"}
    assert [statement.as_string() for statement in changes("app_iam", current, desired)] == [
        'ALTER ROLE "app_iam" RESET "work_mem"',
        """ALTER ROLE "app_iam" SET "search_path" TO '$user', 'x'""",
        """ALTER ROLE "app_iam" IN DATABASE "shop" SET "role" TO 'owners'""",
    ]
    assert changes("app_iam", desired, desired) == []
