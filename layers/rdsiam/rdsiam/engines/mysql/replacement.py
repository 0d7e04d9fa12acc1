"""A user of MySQL or MariaDB that replaces another one: for each host pattern of it an account that may do the same.

Rights do not follow by themselves here, so they are compared whenever the database is onboarded.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rdsiam.engines.mysql.catalog import SYSTEM_SCHEMAS
from rdsiam.engines.mysql.grants import Held, Read, Server, account, difference, held
from rdsiam.engines.protocols import Authority, Statement
from rdsiam.errors import Refused

#: A user, and whom it replaces.
Successors = Mapping[str, str]


@dataclass(frozen=True)
class Replaced:
    """What has to be known of users that replace others.

    :ivar held: (user, host pattern) of either, and (role, "") of all of their roles → what it may do.
    """

    server: Server
    held: Mapping[tuple[str, str], Held]


def read(query: Read, server: Server, accounts: Iterable[tuple[str, str]], successors: Successors) -> Replaced:
    """Read what users that replace others, and those others, may do."""
    names = {*successors, *successors.values()}
    rights: dict[tuple[str, str], Held] = {}
    waiting = [one for one in accounts if one[0] in names]
    while waiting:
        one = waiting.pop()
        if one not in rights:
            rights[one] = held(query, server, *one)
            waiting += rights[one].roles
    return Replaced(server, rights)


def hosts_of(accounts: Iterable[tuple[str, str]], user: str) -> list[str]:
    """Return the host patterns of a user's accounts, sorted."""
    return sorted(host for name, host in accounts if name == user)


def refuse(accounts: Mapping[tuple[str, str], bool], replaced: Replaced, successors: Successors) -> None:
    """Check that the users that are replaced may be.

    :param accounts: (user, host pattern) → whether it takes tokens and nothing else.
    :raises Refused: one does not exist, takes tokens itself, or holds what access.yaml gives nobody.
    """
    for successor, name in successors.items():
        hosts = hosts_of(accounts, name)
        if not hosts and not hosts_of(accounts, successor):
            raise Refused(f"{successor} replaces {name}, and there is no account {name}: correct `replaces`")
        for host in hosts:
            if accounts[name, host]:
                raise Refused(f"{account(name, host)} logs in by token itself: it needs no {successor} to replace it")
            if too_much := _too_much((name, host), replaced.held):
                raise Refused(
                    f"{account(name, host)} holds {too_much}, which rdsiam gives to nobody: take it away, or keep the "
                    f"user and change only how it logs in (`name: {name}, replaces: {name}`)"
                )


def statements(
    accounts: Iterable[tuple[str, str]], replaced: Replaced, successor: str, name: str, manager: frozenset[str]
) -> list[Statement]:
    """Return what makes `successor` hold what `name` does, and nothing else.

    :param manager: what the manager may grant; the rest is the master's to grant, as roles are.
    """
    accounts = list(accounts)
    hosts = hosts_of(accounts, name)
    result = []
    # Where the other is gone at last, its successor keeps what it has.
    for host in sorted({*hosts, *hosts_of(accounts, successor)}) if hosts else []:
        own = replaced.held.get((successor, host), Held())
        desired = replaced.held.get((name, host), Held())
        for step in difference(own, desired, replaced.server, account(successor, host)):
            by: Authority = "manager" if step.needs is not None and step.needs <= manager else "master"
            result.append(
                Statement("revoke" if step.text.startswith("REVOKE") else "grant", successor, step.text, authority=by)
            )
    return result


def _too_much(one: tuple[str, str], holders: Mapping[tuple[str, str], Held]) -> str:
    """Return what an account, or one of its roles, holds that nobody gets; nothing where there is no such thing."""
    seen: set[tuple[str, str]] = set()
    waiting = [one]
    while waiting:
        holder = waiting.pop()
        if holder in seen or holder not in holders:
            continue
        seen.add(holder)
        waiting += holders[holder].roles
        through = "" if holder == one else f" through the role {holder[0]}"
        for (kind, *names), privileges in sorted(holders[holder].on.items()):
            if kind == "USER":
                return f"{', '.join(sorted(privileges))} on everything{through}"
            if "GRANT OPTION" in privileges:
                return f"GRANT OPTION on {names[0]}{through}"
            if any(_covers(names[0], schema, kind) for schema in SYSTEM_SCHEMAS):
                return f"privileges on {names[0]}, which covers the server's own schemas{through}"
    return ""


def _covers(pattern: str, schema: str, kind: str) -> bool:
    if kind != "SCHEMA":
        return pattern.lower() == schema
    # As the server matches it: % any characters, _ any one, \\ takes the meaning from what follows.
    parts = re.findall(r"\\.|%|_|.", pattern, re.DOTALL)
    expression = "".join({"%": ".*", "_": "."}.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(expression, schema, re.IGNORECASE | re.DOTALL) is not None
