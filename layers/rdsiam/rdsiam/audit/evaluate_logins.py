"""Evaluates how users log in: password, token, TLS, and whether access.yaml declares that; no I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from rdsiam.audit.server import Server, by_name
from rdsiam.engines.facts import AccountFacts
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import Finding

#: Title about a role whose server hides whether it has a password.
_MAY_HAVE_ONE = "{user} accepts no tokens, and may have a password"


def evaluate_logins(server: Server) -> Iterator[Finding]:
    """Yield at most one finding for each usable account."""
    for name, accounts in groupby(server.usable, key=lambda account: account.name):
        yield from _of_user(server, name, list(accounts))


def _of_user(server: Server, name: str, accounts: list[AccountFacts]) -> Iterator[Finding]:
    """Yield the findings about all accounts of one name; MySQL has an account for each host pattern."""
    if name == "":
        yield from (server.account_finding("anonymous-user", account) for account in accounts)
    elif name in server.proxy_users:
        yield from _of_proxy_user(server, accounts)
    elif len({account.iam for account in accounts}) > 1:
        yield _partly_converted(server, name, accounts)
    else:
        yield from (finding for account in accounts for finding in _of_account(server, account))


def _of_proxy_user(server: Server, accounts: list[AccountFacts]) -> Iterator[Finding]:
    for account in accounts:
        if account.iam:
            proxies = server.account.proxies_of(server.database, account.name)
            yield server.account_finding("proxy-user-with-iam", account, (), proxies=proxies)
        elif account.empty_password:
            yield server.account_finding("user-with-empty-password", account)


def _of_account(server: Server, account: AccountFacts) -> Iterator[Finding]:
    match _most_specific_kind(server, account):
        case None:
            return
        case "undeclared-user":
            yield server.account_finding("undeclared-user", account, second_password=account.second_password)
        case "user-inherits-rds-iam":
            yield server.account_finding("user-inherits-rds-iam", account, through=list(account.iam_through))
        case "user-without-tls":
            exposure = tuple(name for name in server.exposure(account) if name in {"privileged", "public"})
            yield server.account_finding("user-without-tls", account, exposure)
        case "user-without-iam" if account.password is None:
            yield server.account_finding("user-without-iam", account, title=_MAY_HAVE_ONE)
        case "replication-user-with-iam":
            yield server.account_finding("replication-user-with-iam", account, ())
        case kind:
            yield server.account_finding(kind, account)


def _most_specific_kind(server: Server, account: AccountFacts) -> str | None:
    """Return the most specific problem with how an account logs in; None if there is none."""
    if not account.iam:
        return "user-with-empty-password" if account.empty_password else "user-without-iam"
    if account.replication and not server.facts.replication_by_token:
        return "replication-user-with-iam"
    if account.iam_through:
        return None if account.administrator else "user-inherits-rds-iam"
    if server.is_declared(account.name) is False:
        return "undeclared-user"
    if account.second_password or account.empty_password:
        return "user-with-second-password"
    if not account.tls and not server.facts.tls_enforced:
        return "user-without-tls"
    return None


def _partly_converted(server: Server, name: str, accounts: Sequence[AccountFacts]) -> Finding:
    with_tokens = [account for account in accounts if account.iam]
    with_passwords = [account for account in accounts if not account.iam]
    exposure = tuple(sorted({name for account in with_passwords for name in server.exposure(account)}))
    worst = max(with_passwords, key=lambda account: (account.administrator, account.owns))
    evidence = server.evidence(worst, exposure) | {
        "tls": all(account.tls for account in with_passwords),
        "hosts_with_tokens": [account.host for account in with_tokens],
        "hosts_with_passwords": [account.host for account in with_passwords],
    }
    unfinished = [account for account in with_tokens if not _is_token_over_tls_only(account)]
    to_fix = with_passwords + (with_tokens if server.is_declared(name) is False else unfinished)
    accounts = sorted(to_fix, key=by_name)
    case = replace(server.account_case(name, (name,), evidence, accounts), exposure=exposure)
    return KINDS["user-partly-converted"].finding(case)


def _is_token_over_tls_only(account: AccountFacts) -> bool:
    return account.tls and not account.second_password and not account.empty_password
