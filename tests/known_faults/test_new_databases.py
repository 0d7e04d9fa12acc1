"""`on: "*"` is for databases and schemas that come and go."""

import pytest

from tests.integration.account import until


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
@pytest.mark.known_fault("case 36", 'one that is made later is not covered by "*" (issue 14 B)')
def test_one_that_is_made_later_is_covered_by_the_next_reconciliation(account, make_instance, engine):
    arn = make_instance(engine)
    account.declare(arn.rpartition(":")[2], {"name": "reader", "privileges": "readonly", "on": "*"})
    assert account.onboard(arn)["status"] in {"onboarded", "unchanged"}
    with account.as_master(arn) as master:
        master.run("CREATE DATABASE tenant")
    account.reconcile()
    until(lambda: account.onboard(arn, plan=True)["changes"] == [], 5)
