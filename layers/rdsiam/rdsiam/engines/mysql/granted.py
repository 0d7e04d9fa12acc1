"""Privileges that rdsiam granted to adopted accounts of MySQL and MariaDB, as the inventory records them.

Of an adopted account it revokes these alone. They are recorded by account, `user@host pattern`, since the accounts of a
user may have had different privileges before.
"""

from collections.abc import Mapping
from typing import TypeAlias

from rdsiam.access.users import DeclaredUser, Grant
from rdsiam.engines.mysql import privileges
from rdsiam.engines.mysql.grants import AccountName
from rdsiam.engines.mysql.snapshot import Snapshot
from rdsiam.engines.protocols import DesiredState

#: Schema as granted → privileges.
ByPattern: TypeAlias = Mapping[str, frozenset[str]]


def by_account(snapshot: Snapshot) -> Mapping[AccountName, ByPattern]:
    """Return the privileges that all accounts hold on schemas."""
    held: dict[AccountName, dict[str, frozenset[str]]] = {}
    for (user, host, schema), privileges_there in snapshot.schemas.items():
        held.setdefault((user, host), {})[schema] = privileges_there
    return held


def declared(snapshot: Snapshot, user: DeclaredUser) -> ByPattern:
    """Return the privileges that are declared for a user, on schemas that a GRANT can name."""
    names = snapshot.schema_names
    return {
        names.pattern(schema): needed
        for schema, needed in privileges.by_schema(user.grants_on(snapshot.databases), names).items()
        if names.grantable(schema)
    }


def recorded(snapshot: Snapshot, desired: DesiredState, account: AccountName) -> ByPattern:
    """Return the privileges that rdsiam has granted to an adopted account."""
    grants = desired.granted.get(_key(account), ())
    return {snapshot.schema_names.pattern(grant.on): frozenset(grant.privileges) for grant in grants}


def granted_after(snapshot: Snapshot, desired: DesiredState) -> dict[str, tuple[Grant, ...]]:
    """Return account → the privileges that rdsiam has granted to it, or is about to grant, and has not revoked yet.

    A user that is no longer declared is locked, and keeps its record.
    """
    held = by_account(snapshot)
    result = dict(desired.granted)
    for user in desired.users:
        if user.replaces or desired.accounts.get(user.name) == "created":
            continue
        needed = declared(snapshot, user)
        for host in snapshot.hosts_of(user.name):
            account = user.name, host
            former, actual = recorded(snapshot, desired, account), held.get(account, {})
            grants = []
            for pattern in sorted({*former, *needed}):
                there, wanted = actual.get(pattern, frozenset()), needed.get(pattern, frozenset())
                if own := (former.get(pattern, frozenset()) & (there | wanted)) | (wanted - there):
                    grants.append(Grant(snapshot.schema_names.plain(pattern), tuple(sorted(own))))
            result[_key(account)] = tuple(grants)
    return {key: grants for key, grants in result.items() if grants}


def _key(account: AccountName) -> str:
    user, host = account
    return f"{user}@{host}"
