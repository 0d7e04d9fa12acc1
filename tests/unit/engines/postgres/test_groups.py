"""Names of group roles: PostgreSQL's 63 bytes, and no two databases with the same group."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.access.users import LEVELS
from rdsiam.engines.postgres.groups import group_name, level_groups

_NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=63).filter(
    lambda name: len(name.encode()) <= 63
)


@pytest.mark.parametrize(
    ("database", "level", "name"),
    [
        ("shop", "owner", "shop_owner"),
        ("x" * 53, "readwrite", "x" * 53 + "_readwrite"),
        ("x" * 57, "owner", "x" * 57 + "_owner"),
        ("x" * 54, "readwrite", "x" * 32 + "_readwrite_45f316e10b2c99abf374"),
        ("ü" * 31, "readonly", "ü" * 16 + "_readonly_3110269241216b62d7fc"),
    ],
)
def test_a_name_that_postgresql_would_cut_is_shortened_and_hashed(database, level, name):
    assert group_name(database, level) == name
    assert len(name.encode()) <= 63


def test_a_shortened_name_is_no_other_databases_name():
    """A tenant names its database so that its group would be that of another database, if levels came last."""
    for level in LEVELS:
        group = group_name("x" * 60, level)
        assert not any(group.endswith(f"_{each}") for each in LEVELS)
        tenants = [group, group.removesuffix(f"_{level}"), group[:32], "x" * 61, group.rpartition("_")[0]]
        assert group not in level_groups(tenants)


@given(st.lists(_NAMES, unique=True, max_size=20))
def test_no_two_databases_have_the_same_group(databases):
    assert len(level_groups(databases)) == len(databases) * len(LEVELS)
    assert all(len(name.encode()) <= 63 for name in level_groups(databases))


@pytest.mark.parametrize("database", ["pg_stats", "rds_reports", "pg_", "pg_" + "ü" * 30, "rds_" + "x" * 59])
@pytest.mark.parametrize("level", LEVELS)
def test_a_group_of_a_database_whose_name_is_reserved_for_roles_has_another_name(database, level):
    name = group_name(database, level)
    assert name.startswith("rdsiam_")
    assert len(name.encode()) <= 63
    assert group_name(name, level) != name
    assert group_name(f"rdsiam_{database}"[:50], level) != name


def test_a_name_that_only_looks_reserved_is_as_usual():
    assert [group_name(name, "owner") for name in ("pgboss", "PG_a", "rdsa")] == [
        "pgboss_owner", "PG_a_owner", "rdsa_owner",
    ]  # fmt: skip
