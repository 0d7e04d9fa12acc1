"""A user of MySQL or MariaDB that replaces another: for each of its host patterns an account with the same rights.

Rights are copied and can't be inherited, so they are compared whenever the database is onboarded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rdsiam.core.changes import Authority, Kind, Refusal
from rdsiam.engines.mysql import grants
from rdsiam.engines.mysql.catalog import SYSTEM_SCHEMAS
from rdsiam.engines.mysql.grants import AccountName, Read, Rights, Server, account, difference
from rdsiam.engines.schema_names import SchemaNames
from rdsiam.engines.statements import Statement
from rdsiam.errors import Refused

#: User that replaces another → its predecessor.
Successors = Mapping[str, str]


@dataclass(frozen=True)
class ReplacementRights:
    """Rights of users that replace others, of those others, and of all of their roles."""

    server: Server
    schema_names: SchemaNames
    rights: Mapping[AccountName, Rights]


def read_rights(
    query: Read, server: Server, schema_names: SchemaNames, accounts: Iterable[AccountName], successors: Successors
) -> ReplacementRights:
    """Read the rights of users that replace others, of those others, and of all of their roles."""
    names = {*successors, *successors.values()}
    rights: dict[AccountName, Rights] = {}
    waiting = [account for account in accounts if account[0] in names]
    while waiting:
        holder = waiting.pop()
        if holder not in rights:
            held = grants.read_rights(query, server, *holder)
            rights[holder] = replace(held, absent=grants.absent(query, held))
            waiting += rights[holder].roles
    return ReplacementRights(server, schema_names, rights)


def hosts_of(accounts: Iterable[AccountName], user: str) -> list[str]:
    """Return the host patterns of a user's accounts, sorted."""
    return sorted(host for name, host in accounts if name == user)


def refuse(accounts: Mapping[AccountName, bool], replaced: ReplacementRights, successors: Successors) -> None:
    """Check that every predecessor may be replaced.

    :param accounts: account → whether it logs in by token, and in no other way.
    :raises Refused: a predecessor does not exist, logs in by token, or has rights that rdsiam gives to no user.
    """
    for successor, name in successors.items():
        hosts = hosts_of(accounts, name)
        if not hosts and not hosts_of(accounts, successor):
            raise Refused(
                f"{successor} replaces {name}, and there is no account {name}", "correct `replaces`", "user-missing"
            )
        for host in hosts:
            if accounts[name, host]:
                raise Refused(
                    f"{account(name, host)} logs in by token itself and needs no successor {successor}",
                    f"remove {successor} from access.yaml",
                    "iam-user",
                )
            if excess := _excess((name, host), replaced):
                raise Refused(
                    f"{account(name, host)} holds {excess}, which rdsiam gives to no user",
                    f"revoke it, or keep the user and change only how it logs in (`name: {name}, replaces: {name}`)",
                    "rights-not-grantable",
                )


def irreplaceable(
    accounts: Mapping[AccountName, bool], replaced: ReplacementRights, successors: Successors
) -> dict[str, Refusal]:
    """Return the successors that don't exist yet and whose predecessor can't be replaced, with the reason."""
    result: dict[str, Refusal] = {}
    for successor, name in successors.items():
        if not hosts_of(accounts, successor):
            try:
                refuse(accounts, replaced, {successor: name})
            except Refused as error:
                result[successor] = Refusal.of(error)
    return result


def statements(
    accounts: Iterable[AccountName], replaced: ReplacementRights, successor: str, name: str, manager: frozenset[str]
) -> list[Statement]:
    """Return the statements that give `successor` the rights of `name`, and no others.

    :param manager: privileges that the manager may grant; all others, and roles, are granted by the master.
    """
    accounts = list(accounts)
    hosts = hosts_of(accounts, name)
    result: list[Statement] = []
    # A successor keeps its rights after the predecessor was dropped.
    for host in sorted({*hosts, *hosts_of(accounts, successor)}) if hosts else []:
        current = replaced.rights.get((successor, host), Rights())
        desired = replaced.rights.get((name, host), Rights())
        for step in difference(current, desired, replaced.server, account(successor, host)):
            authority: Authority = "manager" if step.needs is not None and step.needs <= manager else "master"
            kind: Kind = "revoke" if step.text.startswith("REVOKE") else "grant"
            result.append(Statement(kind, successor, step.text, authority=authority))
    return result


def _excess(account: AccountName, replaced: ReplacementRights) -> str:
    """Return a right of an account, or of one of its roles, that rdsiam gives to no user; empty if there is none."""
    rights = replaced.rights
    checked: set[AccountName] = set()
    waiting = [account]
    while waiting:
        holder = waiting.pop()
        if holder in checked or holder not in rights:
            continue
        checked.add(holder)
        waiting += rights[holder].roles
        through = "" if holder == account else f" through the role {holder[0]}"
        if rights[holder].administered:
            return f"ADMIN OPTION on the role {min(rights[holder].administered)[0]}{through}"
        for (kind, *names), privileges in sorted(rights[holder].on.items()):
            if kind in {"USER", "DYNAMIC", "RESTRICTION"}:
                return f"{', '.join(sorted(privileges))} on everything{through}"
            if "GRANT OPTION" in privileges:
                return f"GRANT OPTION on {names[0]}{through}"
            on_schema = replaced.schema_names if kind == "SCHEMA" else SchemaNames(literal=True)
            if any(on_schema.covers(names[0], schema) for schema in SYSTEM_SCHEMAS):
                return f"privileges on {names[0]}, which covers the server's own schemas{through}"
    return ""
