"""Evaluates whether declared users exist and have the privileges that access.yaml declares; no I/O."""

from collections.abc import Iterator, Mapping

from rdsiam.access.users import DeclaredUser
from rdsiam.audit.server import Server
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.engines.remediation import Privileges
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import Finding
from rdsiam.findings.kind import Case


def evaluate_declared(server: Server, declared: Mapping[str, DeclaredUser]) -> Iterator[Finding]:
    """Yield the differences between declared users and the accounts of a server."""
    for name, user in declared.items():
        accounts = [account for account in server.usable if account.name == name]
        if not accounts:
            yield _missing(server, user)
        # A password account gets its privileges when it is converted, which is a finding of its own.
        by_token = [account for account in accounts if account.iam]
        for account in by_token or accounts:
            yield from _privileges(server, account, user)
    yield from _missing_databases(server, declared)


def _missing(server: Server, user: DeclaredUser) -> Finding:
    locked = tuple(account for account in server.accounts if account.name == user.name)
    revoked = user.name in server.revoked
    state = "revoked" if revoked else "locked" if locked else "absent"
    case = Case(
        server.database,
        user.name,
        (server.database.resource_id, user.name),
        {"state": state, "exposure": []},
        accounts=locked,
        declared=user,
        managed=server.is_managed(user.name),
        severity="low" if revoked else None,
        title="{user} is declared, and an operator has revoked it" if revoked else "",
    )
    return KINDS["missing-user"].finding(case)


def _missing_databases(server: Server, declared: Mapping[str, DeclaredUser]) -> Iterator[Finding]:
    sql = REMEDIATIONS[server.database.family]
    users_of: dict[str, list[str]] = {}
    for name, user in declared.items():
        for database in sql.absent(user, server.facts.databases):
            users_of.setdefault(database, []).append(name)
    for database, users in sorted(users_of.items()):
        yield server.finding("declared-database-missing", None, (database,), {"name": database, "users": users})


def _privileges(server: Server, account: AccountFacts, user: DeclaredUser) -> Iterator[Finding]:
    if user.predecessor:
        lacking, surplus = _compared_with_predecessor(server, account, user.predecessor)
    else:
        # A group that was taken over is managed like one that rdsiam created. Other grants of what was are its own.
        groups = server.database.family == "postgres" and not user.replaces
        managed = [name for name, ownership in server.ownership.items() if ownership == "created" or groups]
        sql = REMEDIATIONS[server.database.family]
        lacking, surplus = sql.differences(account, user, server.facts.databases, managed)
    if not lacking and not surplus:
        return
    exposure = ("public",) if server.database.public and surplus else ()
    evidence = {"lacking": _listed(lacking), "surplus": _listed(surplus), "exposure": list(exposure)}
    case = Case(
        server.database,
        account.label,
        (server.database.resource_id, account.name, account.host),
        evidence,
        accounts=(account,),
        declared=user,
        managed=server.is_managed(account.name),
        exposure=exposure,
        severity="medium" if surplus else None,
        # A successor gets its privileges from onboarding alone.
        lacking=() if user.predecessor else lacking,
        surplus=() if user.predecessor else surplus,
    )
    yield KINDS["privileges-differ"].finding(case)


def _compared_with_predecessor(
    server: Server, account: AccountFacts, predecessor: str
) -> tuple[Privileges, Privileges]:
    """Return the privileges that a successor lacks of its predecessor's, and those that it holds beyond them."""
    if not account.host:
        return ([] if predecessor in account.member_of else [(predecessor, ("MEMBER",))]), []
    for former in server.facts.accounts:
        if (former.name, former.host) == (predecessor, account.host):
            return _beyond(former, account), _beyond(account, former)
    return [], []  # the predecessor was dropped, and its successor keeps its privileges


def _beyond(account: AccountFacts, other: AccountFacts) -> Privileges:
    """Return the privileges on schemas that an account holds and the other does not."""
    more = {on: set(held) - set(other.privileges.get(on, ())) for on, held in sorted(account.privileges.items())}
    return [(on, tuple(sorted(privileges))) for on, privileges in more.items() if privileges]


def _listed(privileges: Privileges) -> list[dict[str, object]]:
    return [{"on": on, "privileges": held if isinstance(held, str) else list(held)} for on, held in privileges]
