"""The grants to users themselves that the inventory records belong to one database, whatever it is called."""

from dataclasses import replace

from rdsiam.access.selection import Attributes
from rdsiam.access.users import Grant
from rdsiam.state.record import granted_of
from tests.unit.databases import ORDERS
from tests.unit.state.test_recorded import inventory  # noqa: F401  a fixture

GRANTED = {
    "app": (Grant("shop", ("SELECT",)), Grant("shop", "readonly", ('We "quote"', "app"))),
    "batch": (Grant("crm", ("EXECUTE", "INSERT"), ("x" * 63,)),),
}


def test_grants_are_recorded_and_replaced(inventory):  # noqa: F811
    inventory.select(ORDERS, Attributes.of(ORDERS))
    inventory.set_granted(ORDERS, GRANTED)

    assert granted_of(ORDERS, inventory.get(ORDERS.arn)) == GRANTED
    assert inventory.granted_in(ORDERS.resource_id) == GRANTED

    inventory.set_granted(ORDERS, {"app": GRANTED["app"][:1]})
    assert granted_of(ORDERS, inventory.get(ORDERS.arn)) == {"app": GRANTED["app"][:1]}


def test_another_database_of_that_name_has_none(inventory):  # noqa: F811
    inventory.select(ORDERS, Attributes.of(ORDERS))
    inventory.set_granted(ORDERS, GRANTED)
    new = replace(ORDERS, resource_id="db-NEW")

    assert granted_of(new, inventory.get(ORDERS.arn)) == {}
    inventory.select(new, Attributes.of(new))
    assert granted_of(new, inventory.get(ORDERS.arn)) == {}
    assert inventory.granted_in("db-UNKNOWN") == {}


def test_a_renamed_database_keeps_its_own(inventory):  # noqa: F811
    inventory.select(ORDERS, Attributes.of(ORDERS))
    inventory.set_granted(ORDERS, GRANTED)
    renamed = replace(ORDERS, arn=f"{ORDERS.arn}-renamed", identifier="renamed")

    inventory.move(ORDERS.arn, renamed)

    assert granted_of(renamed, inventory.get(renamed.arn)) == GRANTED
