"""Statements that bring a MySQL or MariaDB server from its snapshot to the desired state. Reads and changes nothing."""

from collections.abc import Iterator, Mapping, Sequence

from rdsiam.access.users import DeclaredUser
from rdsiam.core.changes import Authority, Kind
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.messages import listed
from rdsiam.engines.mysql import audit_procedure, disabling, granted, replacement
from rdsiam.engines.mysql.catalog import NEVER_EXPIRING, NEVER_LOCKING, PLUGIN, drop_factors
from rdsiam.engines.mysql.grants import AccountName, account, identifier
from rdsiam.engines.mysql.privileges import MANAGER_PRIVILEGES
from rdsiam.engines.mysql.snapshot import Snapshot, predecessors
from rdsiam.engines.protocols import DesiredState
from rdsiam.engines.statements import Statement
from rdsiam.errors import Refused

#: Kinds of the changes that create the service's own users.
_CREATIONS: Mapping[str, Kind] = {MANAGER: "create-manager", AUDITOR: "create-auditor"}
_TOKENS = f"IDENTIFIED WITH {PLUGIN} AS 'RDS'"
_TOKENS_ONLY = f"{_TOKENS} REQUIRE SSL"


def difference(snapshot: Snapshot, desired: DesiredState) -> list[Statement]:
    """Return the statements that are missing: the manager, users, privileges."""
    _refuse_namesakes(snapshot, desired)
    replacement.refuse(snapshot.accounts, snapshot.replaced, predecessors(desired))
    result = _manager(snapshot, desired)
    result += _accounts(snapshot, AUDITOR, desired)
    result += audit_procedure.statements(snapshot.auditor, desired.mark)
    held = granted.by_account(snapshot)
    for user in desired.users:
        result += _user(snapshot, user, desired, held)
    for name in sorted(_leaving(snapshot, desired)):
        result += disabling.disable(snapshot.activity, name)
    return result


def _manager(snapshot: Snapshot, desired: DesiredState) -> list[Statement]:
    """Return the statements of the master that create the manager and give it its privileges."""
    result = _accounts(snapshot, MANAGER, desired)
    if not snapshot.everywhere.get((MANAGER, "%"), frozenset()) >= {*MANAGER_PRIVILEGES, "GRANT OPTION"}:
        grant = f"GRANT {', '.join(sorted(MANAGER_PRIVILEGES))} ON *.* TO {account(MANAGER)} WITH GRANT OPTION"
        result.append(Statement("grant", MANAGER, grant, authority="master"))
    return result


def _user(
    snapshot: Snapshot,
    user: DeclaredUser,
    desired: DesiredState,
    held: Mapping[AccountName, granted.ByPattern],
) -> list[Statement]:
    """Return the statements for one declared user: its accounts, and its own or its predecessor's privileges."""
    if user.predecessor:
        hosts = snapshot.hosts_of(user.predecessor)
        result = _accounts(snapshot, user.name, desired, hosts, user.connections)
        return result + replacement.statements(
            snapshot.accounts, snapshot.replaced, user.name, user.predecessor, MANAGER_PRIVILEGES
        )
    result = _accounts(snapshot, user.name, desired, connections=user.connections)
    for host in snapshot.hosts_of(user.name) or ["%"]:
        result += _privileges(snapshot, user, host, desired, held.get((user.name, host), {}))
    return result


def _refuse_namesakes(snapshot: Snapshot, desired: DesiredState) -> None:
    """Check that no account is in the way of a declared or managed user, or of the service's own users."""
    adopted = {user.name for user in desired.users if user.adopt}
    declared = {user.name for user in desired.users}
    managed = {MANAGER, AUDITOR, *declared, *_leaving(snapshot, desired)}
    for name, host in sorted(snapshot.accounts):
        is_role = (name, host) in snapshot.roles
        if name not in managed or (name in adopted and not is_role) or _is_managed(snapshot, desired, name, host):
            continue
        remedy = "rename or drop it, then run this again"
        if name in declared:
            remedy = "to take it over write `adopt: true`"
        if is_role:
            remedy = "a role doesn't log in and can't be adopted: rename the user, or rename or drop the role"
        raise Refused(f"{_existing(snapshot, name, host)} that rdsiam did not make", remedy, "name-taken")
    gaining = {user.name for user in desired.users if user.adopt and user.grants and user.name not in desired.accounts}
    for name, host in sorted(snapshot.accounts):
        if name in gaining and (holders := _holders(snapshot, name, host)):
            raise Refused(
                f"{_existing(snapshot, name, host)}; whoever holds it would get the privileges of {name} too",
                f"run: REVOKE {account(name, host)} FROM {', '.join(holders)}; or declare another user",
                "name-taken",
            )


def _holders(snapshot: Snapshot, name: str, host: str) -> list[str]:
    """Return the accounts to which an account or role is granted as a role, quoted and sorted."""
    return sorted(account(*member) for member, roles in snapshot.members.items() if (name, host) in roles)


def _existing(snapshot: Snapshot, name: str, host: str) -> str:
    """Return a text that names the account or role that exists."""
    holders = _holders(snapshot, name, host)
    granted = f", granted to {listed(holders)}," if holders else ""
    if (name, host) in snapshot.roles:
        return f"a role {account(name, host)}{granted} exists"
    others = [other for other in snapshot.hosts_of(name) if other != host]
    also = f" (and {listed([account(name, other) for other in others])})" if others else ""
    return f"an account {account(name, host)}{also}{granted} exists"


def _is_managed(snapshot: Snapshot, desired: DesiredState, name: str, host: str) -> bool:
    """Return whether rdsiam created or adopted this account, not just another host pattern of the user."""
    if name not in desired.accounts:
        return False
    return host == "%" or desired.accounts[name] == "adopted" or _is_of_successor(snapshot, desired, name, host)


def _is_of_successor(snapshot: Snapshot, desired: DesiredState, name: str, host: str) -> bool:
    """Return whether a managed account has its host pattern from its predecessor, or had one."""
    successors = predecessors(desired)
    if name not in successors:
        return name in _leaving(snapshot, desired) and snapshot.accounts[name, host]
    hosts = snapshot.hosts_of(successors[name])
    return host in hosts or not hosts


def _leaving(snapshot: Snapshot, desired: DesiredState) -> set[str]:
    """Return the managed users that are no longer desired."""
    staying = {MANAGER, AUDITOR, *(user.name for user in desired.users)}
    return {name for name, _ in snapshot.accounts if name in desired.accounts and name not in staying}


def _accounts(
    snapshot: Snapshot,
    user: str,
    desired: DesiredState,
    needed: Sequence[str] = (),
    connections: int | None = None,
) -> list[Statement]:
    """Return the statements after which every account of a user logs in by token over TLS, and in no other way.

    :param needed: host patterns that must exist; if empty, any one pattern suffices.
    :param connections: declared number of sessions of each of its accounts, if any.
    """
    create: Kind = _CREATIONS.get(user, "create-user")
    authority: Authority = "master" if user == MANAGER else "manager"
    hosts = snapshot.hosts_of(user)
    missing = [host for host in needed or ([] if hosts else ["%"]) if host not in hosts]
    limit = connections
    if limit is None and user not in {MANAGER, AUDITOR} and (not hosts or desired.accounts.get(user) == "created"):
        limit = max(1, snapshot.room // len([*hosts, *missing]))  # the server counts for each account
    with_limit = "" if limit is None else f" WITH MAX_USER_CONNECTIONS {limit}"
    never_expiring = f" {NEVER_EXPIRING}" if snapshot.mariadb else ""
    result = [
        Statement(
            create,
            user,
            f"CREATE USER {account(user, host)} {_TOKENS_ONLY}{with_limit}{never_expiring}",
            # Error 4006 for the manager: the account is the definer of stored objects already.
            authority="master" if f"{user}@{host}" in snapshot.definers else authority,
        )
        for host in missing
    ]
    converted = [host for host in hosts if not snapshot.accounts[user, host] or snapshot.options.hinder((user, host))]
    result += [
        Statement("adopt-user", user, f"ALTER USER {account(user, host)} {change}", False, authority)
        for host in converted
        for change in _conversion(snapshot, user, host)
    ]
    result += _without_expiry(snapshot, user, [host for host in hosts if host not in converted])
    result += [
        Statement("limit-connections", user, f"ALTER USER {account(user, host)}{with_limit}", authority=authority)
        for host in hosts
        if limit is not None and snapshot.limits.get((user, host)) != limit
    ]
    enabling: Kind = "enable-user" if user in desired.accounts else "adopt-user"
    return result + [
        Statement(enabling, user, f"ALTER USER {account(user, host)} ACCOUNT UNLOCK", authority=authority)
        for host in hosts
        if (user, host) in snapshot.activity.locked
    ]


def _without_expiry(snapshot: Snapshot, user: str, hosts: Sequence[str]) -> Iterator[Statement]:
    """Yield the statements after which no account of a user expires. The manager changes itself while it can."""
    for host in hosts:
        expired = snapshot.options.expiring.get((user, host))
        if expired is not None:
            authority: Authority = "master" if user == MANAGER and expired else "manager"
            never = f"ALTER USER {account(user, host)} {_TOKENS} {NEVER_EXPIRING}"
            yield Statement("adopt-user", user, never, authority=authority)


def _conversion(snapshot: Snapshot, user: str, host: str) -> list[str]:
    """Return the changes after which an account logs in by token only.

    ALTER keeps the grants, which DROP and CREATE would lose; the old password is lost.
    """
    options = snapshot.options
    # The proof that the account refuses passwords would lock it too.
    unlocked = f" {NEVER_LOCKING}" if (user, host) in options.locking else ""
    factors = options.factors.get((user, host), 0)
    never_expiring = f" {NEVER_EXPIRING}" if snapshot.mariadb else ""
    return [*([drop_factors(factors)] if factors else []), f"{_TOKENS_ONLY}{unlocked}{never_expiring}"]


def _privileges(
    snapshot: Snapshot, user: DeclaredUser, host: str, desired: DesiredState, actual: granted.ByPattern
) -> Iterator[Statement]:
    """Yield the GRANTs that an account lacks, and the REVOKEs of its surplus.

    Of an adopted account that is what rdsiam has granted to it.

    :param actual: privileges that it has.
    """
    declared = granted.declared(snapshot, user)
    for pattern in sorted(declared):
        if missing := declared[pattern] - actual.get(pattern, frozenset()):
            on = f"{identifier(pattern)}.*"
            # Where a global privilege is restricted, the first GRANT only lifts the restriction.
            lifted = missing & snapshot.restricted.get((user.name, host, pattern), frozenset())
            for given in filter(None, (lifted, missing)):
                grant = f"GRANT {', '.join(sorted(given))} ON {on} TO {account(user.name, host)}"
                yield Statement("grant", user.name, grant)
    created = desired.accounts.get(user.name) == "created"
    if user.replaces:  # it changes only how it logs in
        return
    revocable = actual if created else granted.recorded(snapshot, desired, (user.name, host))
    for pattern in sorted(actual.keys() & revocable.keys()):
        if surplus := (actual[pattern] & revocable[pattern]) - declared.get(pattern, frozenset()):
            on = f"{identifier(pattern)}.*"
            revoke = f"REVOKE {', '.join(sorted(surplus))} ON {on} FROM {account(user.name, host)}"
            yield Statement("revoke", user.name, revoke)
