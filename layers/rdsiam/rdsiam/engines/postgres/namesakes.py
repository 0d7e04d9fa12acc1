"""Databases whose groups can't be created, since roles of their names exist that rdsiam did not make.

Whoever may create databases chooses these names: a database that access.yaml does not name stops no other.
"""

from rdsiam.core.changes import Unreached
from rdsiam.engines.postgres import adoption
from rdsiam.engines.postgres.databases import obstacle
from rdsiam.engines.postgres.groups import declared_groups
from rdsiam.engines.postgres.snapshot import Snapshot
from rdsiam.engines.protocols import DesiredState
from rdsiam.errors import Refused


def taken(snapshot: Snapshot, desired: DesiredState) -> dict[str, Unreached]:
    """Return the databases that only `*` declares, and whose groups' names are taken, as parts that are not done."""
    users = {user.name for user in desired.users}
    result: dict[str, Unreached] = {}
    for group, (database, level) in declared_groups(desired.users, snapshot.databases).items():
        if database in snapshot.named or database in snapshot.obstacles:
            continue
        if group in users:
            problem = f"the name of its group {group} is that of a declared user"
            result[database] = obstacle(database, problem, "rename the user, or the database")
        elif group in snapshot.roles and group not in desired.accounts:
            try:
                adoption.refuse(snapshot, group, level, database, desired.groups)
            except Refused as error:
                result[database] = obstacle(database, error.problem, error.remedy)
    return result
