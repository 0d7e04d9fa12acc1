"""Extras of the wheel: parts whose packages are not installed name what to install."""

import sys

import pytest

from rdsiam import pool
from rdsiam.core.extras import needs
from rdsiam.errors import ExtraMissing
from rdsiam.pool import Login

LOGIN = Login("orders.c9akciq32.eu-central-1.rds.amazonaws.com", 5432, "app")
PARTS = [
    ("psycopg_pool", "postgres", lambda: pool.psycopg_pool(LOGIN, "shop")),
    ("psycopg_pool", "postgres", lambda: pool.async_psycopg_pool(LOGIN, "shop")),
    ("pymysql", "mysql", lambda: pool.pymysql_connect(LOGIN)),
    ("sqlalchemy", "sqlalchemy", lambda: pool.sqlalchemy_engine(LOGIN, "mysql+pymysql", "shop")),
    ("sqlalchemy", "sqlalchemy", lambda: pool.use_tokens(object(), LOGIN)),
]


@pytest.mark.parametrize(("package", "extra", "use"), PARTS)
def test_a_pool_names_the_extra_that_it_lacks(package, extra, use, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # Python then takes it for missing
    with pytest.raises(ExtraMissing, match=rf"^{package} is not installed; pip install 'rdsiam\[{extra}\]'$"):
        use()


def test_all_extras_of_a_part_are_named():
    with pytest.raises(ExtraMissing) as error, needs("access", "mysql"):
        raise ModuleNotFoundError(name="yaml.reader")
    assert str(error.value) == "yaml is not installed; pip install 'rdsiam[access,mysql]'"


@pytest.mark.parametrize("name", ["rdsiam.no_such_module", "numpy", "psycopg", None])
def test_a_module_of_no_such_extra_stays_the_error_that_it_is(name):
    with pytest.raises(ModuleNotFoundError), needs("access", "mysql"):
        raise ModuleNotFoundError(name=name)
