"""Instances of a test's own, since what these tests make would be in the way of others."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.integration.account import Account

_NUMBERS = itertools.count(1)


@pytest.fixture
def make_instance(account: Account) -> Iterator[Callable[..., str]]:
    """Make an instance that is gone after the test, and return its ARN when it is available."""
    made: list[str] = []

    def make(engine: str = "postgres") -> str:
        identifier = f"faults-{next(_NUMBERS)}"
        made.append(identifier)
        arn = account.create(identifier, engine)
        account.wait(arn)
        return arn

    yield make
    for identifier in made:
        for entry in [name for name in account.entries if name.partition("/")[0] == identifier]:
            del account.entries[entry]
        account.publish_entries()
        account.cloud.client("rds").delete_db_instance(DBInstanceIdentifier=identifier, SkipFinalSnapshot=True)
