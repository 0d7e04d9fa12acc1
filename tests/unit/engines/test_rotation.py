"""Rotation on all engines: names of clones."""

import pytest

from rdsiam.engines.mysql.rotation import MysqlRotator
from rdsiam.engines.postgres.rotation import PostgresRotator


@pytest.mark.parametrize("engine", [PostgresRotator(), MysqlRotator()], ids=["postgres", "mysql"])
def test_the_clones_name_is_derived_from_the_users(engine):
    assert engine.clone_name("app") == "app_clone"
    assert engine.clone_name("app_clone") == "app"
