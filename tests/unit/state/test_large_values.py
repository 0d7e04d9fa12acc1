"""Records of servers with many databases: what has no room in an item of DynamoDB is in items of its own."""

from dataclasses import replace

import pytest

from rdsiam.access.selection import Attributes
from rdsiam.access.users import Grant
from rdsiam.state.escalations import Examined
from rdsiam.state.large_values import Torn
from tests.unit.databases import ORDERS
from tests.unit.state.test_recorded import inventory  # noqa: F401  a fixture

#: More than the 400 KB of an item.
GROUPS = {f"tenant_{number:06}_{'x' * 40}_readonly": "created" for number in range(6_000)}
GRANTS = {"app": tuple(Grant(f"tenant_{number:06}_{'ü' * 20}", ("SELECT",)) for number in range(3_500))}
EXAMINED = Examined(tuple(f"tenant_{number:06}_{'x' * 40}" for number in range(7_000)), ())


def items(inventory) -> int:  # noqa: F811
    return len(inventory._dynamodb.scan(TableName="inventory")["Items"])


def test_accounts_grants_and_what_was_examined_may_be_larger_than_an_item(inventory):  # noqa: F811
    inventory.select(ORDERS, Attributes.of(ORDERS))
    inventory.record_ownership(ORDERS, GROUPS)
    inventory.set_granted(ORDERS, GRANTS)
    inventory.set_examined(ORDERS, EXAMINED)
    record = inventory.get(ORDERS.arn)
    assert (record.accounts, record.granted, record.examined) == (GROUPS, GRANTS, EXAMINED)
    assert inventory.of(ORDERS) == record
    assert inventory.granted_in(ORDERS.resource_id) == GRANTS
    assert inventory.record(ORDERS.arn, inventory.items([ORDERS.arn])[ORDERS.arn]) == record

    few = dict(list(GROUPS.items())[:3])
    inventory.release_ownership(ORDERS, few)
    assert inventory.get(ORDERS.arn).accounts == few
    inventory.record_ownership(ORDERS, GROUPS)
    assert inventory.get(ORDERS.arn).accounts == GROUPS


def test_they_follow_a_rename_and_go_with_the_record(inventory):  # noqa: F811
    inventory.select(ORDERS, Attributes.of(ORDERS))
    before = items(inventory)
    for _ in range(3):
        inventory.record_ownership(ORDERS, GROUPS)
    renamed = replace(ORDERS, arn=f"{ORDERS.arn}-renamed", identifier="renamed")
    inventory.move(ORDERS.arn, renamed)
    assert inventory.get(renamed.arn).accounts == GROUPS
    inventory.forget(renamed.arn)
    assert items(inventory) == before - 1, "only the attributes of the resource id stay"


def test_another_database_of_that_name_has_none(inventory):  # noqa: F811
    inventory.select(ORDERS, Attributes.of(ORDERS))
    inventory.record_ownership(ORDERS, GROUPS)
    new = replace(ORDERS, resource_id="db-NEW")
    inventory.select(new, Attributes.of(new))
    assert inventory.get(ORDERS.arn).accounts == {}


def test_a_run_that_is_killed_while_it_writes_changes_nothing(inventory, monkeypatch):  # noqa: F811
    inventory.select(ORDERS, Attributes.of(ORDERS))
    inventory.record_ownership(ORDERS, GROUPS)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(inventory, "_set", killed)
        with pytest.raises(KeyboardInterrupt):
            inventory.record_ownership(ORDERS, {**GROUPS, "one_more_readonly": "created"})
    assert inventory.get(ORDERS.arn).accounts == GROUPS


def test_a_value_that_is_replaced_while_it_is_read_is_read_again(inventory, monkeypatch):  # noqa: F811
    inventory.select(ORDERS, Attributes.of(ORDERS))
    inventory.record_ownership(ORDERS, GROUPS)
    read, more = inventory._large.read, {**GROUPS, "one_more_readonly": "created"}
    raced: list[int] = []

    def race(name, pointer, batched):
        if not raced:
            raced.append(1)
            inventory.record_ownership(ORDERS, GROUPS | {"x": "created"})
            inventory.record_ownership(ORDERS, more)
        return read(name, pointer, batched)

    monkeypatch.setattr(inventory._large, "read", race)
    assert inventory.get(ORDERS.arn).accounts == more


def test_a_value_that_somebody_else_changed_is_not_taken_for_a_record(inventory):  # noqa: F811
    inventory.select(ORDERS, Attributes.of(ORDERS))
    inventory.record_ownership(ORDERS, GROUPS)
    key = {"database": {"S": f"part:{ORDERS.resource_id}:accounts:a:0"}}
    inventory._dynamodb.delete_item(TableName="inventory", Key=key)
    with pytest.raises(Torn, match="replaced while they were read"):
        inventory.get(ORDERS.arn)
