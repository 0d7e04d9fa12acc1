"""Facts of an audit as plain data, and names that resemble the system's."""

import dataclasses

import pytest

from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.mysql.catalog import is_system as is_mysql_system
from rdsiam.engines.postgres.catalog import is_system as is_postgres_system


def check_facts(account: AccountFacts) -> None:
    """Check that facts made by `AccountFacts.of` have every field and equal facts made in the ordinary way."""
    values = {field.name: getattr(account, field.name) for field in dataclasses.fields(AccountFacts)}
    assert account == AccountFacts(**values)
    assert repr(account) == repr(AccountFacts(**values))
    assert account.to_json() == AccountFacts(**values).to_json()
    assert AccountFacts("u").privileges == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        account.name = "other"  # type: ignore[misc]


def test_facts_made_of_fields_equal_facts_made_by_the_constructor():
    check_facts(*AccountFacts.of([{"name": "u", "iam": True}]))


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (is_mysql_system("rdsadmin", "localhost"), True),
        (is_mysql_system("rdsadmin", "%"), False),
        (is_mysql_system("mysql.sys", "10.%"), False),
        (is_mysql_system("rdsproxyadmin", "%"), True),
        (is_mysql_system("AWS_backdoor", "%"), False),
        (is_postgres_system("rdsadmin", True), True),
        (is_postgres_system("pg_monitor", False), True),
        (is_postgres_system("rds_superuser", False), True),
        (is_postgres_system("rds_backdoor", True), False),
    ],
    ids=str,
)
def test_names_that_resemble_the_systems_are_users(system, expected):
    assert system is expected
