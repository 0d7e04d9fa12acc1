"""Recorded attributes of a database: from an earlier run, or from the source of a replica or copy."""

import logging

from rdsiam.access.selection import NOTHING, Attributes, SelectedDatabase, select
from rdsiam.aws.rds import Database, Databases
from rdsiam.core.arn import Arn, is_arn
from rdsiam.errors import DatabaseNotFound, Unsupported
from rdsiam.state.inventory import Inventory
from rdsiam.state.record import Record, selected

logger = logging.getLogger(__name__)


def selection(
    databases: Databases, inventory: Inventory, database: Database, confirmed: bool = False
) -> SelectedDatabase:
    """Return a database as access.yaml is asked about it.

    A replica has the users and data of its source, so the source's attributes count until its own are confirmed.

    :param confirmed: its current attributes decide.
    """
    if confirmed:
        return select(database, None)
    record = inventory.of(database)
    known = record.recorded if record is not None and record.is_of(database) else None
    if database.replica_of is not None and known in (None, NOTHING):
        return select(database, _of_source(databases, inventory, database, database.replica_of))
    return selected(database, record)


def of_copy(inventory: Inventory, source: str | None) -> Attributes:
    """Return the attributes that count for a copy until its own are confirmed.

    :param source: resource id of what it was copied from; None if it has none, which is no better than an unknown one.
    """
    return (inventory.attributes_of(source) if source else None) or NOTHING


def present(databases: Databases, record: Record) -> Database | None:
    """Return the database of a record, whatever it is called now; None if it is gone."""
    if record.resource_id is None:
        return None
    try:
        return databases.of_resource(record.resource_id)
    except Unsupported:
        return None


def follow_rename(databases: Databases, inventory: Inventory, database: Database) -> None:
    """Move the record of a renamed database to its present ARN; do nothing for one that was not renamed."""
    record = inventory.of(database)
    if record is None or not record.is_of(database) or record.arn == database.arn:
        return
    make_room(databases, inventory, database)
    inventory.move(record.arn, database)
    logger.info("%s was %s", database.arn, record.arn, extra={"database": database.arn})


def make_room(databases: Databases, inventory: Inventory, database: Database) -> None:
    """Keep the record of a database that was renamed, before another one is recorded under its former ARN."""
    occupant = inventory.get(database.arn)
    if occupant is None or occupant.is_of(database) or present(databases, occupant) is None:
        return
    record = inventory.of_resource(occupant.resource_id or "")
    if record is not None and record.arn == database.arn:
        inventory.put_aside(occupant)


def _of_source(databases: Databases, inventory: Inventory, replica: Database, source: str) -> Attributes:
    arn = source if is_arn(source) else Arn.parse(replica.arn).beside(f"db:{source}")
    try:
        # An ARN alone says nothing: its record may be of another database that had it before.
        return of_copy(inventory, databases.describe(arn).resource_id)
    except (DatabaseNotFound, Unsupported):
        return NOTHING
