"""Evaluates a database by RDS's description, the inventory and access.yaml, without a session; no I/O."""

from collections.abc import Iterable, Iterator, Mapping

from rdsiam.access.model import AccessFile
from rdsiam.access.pending import pending
from rdsiam.access.selection import NOTHING, SelectedDatabase
from rdsiam.aws.rds import Database, Proxy
from rdsiam.engines.facts import AccountFacts, ServerFacts, Unreadable
from rdsiam.errors import AccessFileInvalid
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import Finding, Severity
from rdsiam.findings.kind import Case
from rdsiam.state.record import Ownership

_IAM_FLAG = "IAMDatabaseAuthenticationEnabled"


def evaluate_rds(database: Database, proxies: Iterable[Proxy]) -> Iterator[Finding]:
    """Yield the findings that RDS's description of a database and its proxies gives; none about a proxy itself."""
    if database.kind == "proxy":
        return
    yield from _iam_flag(database)
    if database.instance_class and database.instance_class.endswith(".micro") and database.iam_enabled:
        yield _finding("instance-too-small", database, {"class": database.instance_class})
    for proxy in proxies:
        if database.identifier in proxy.targets and not proxy.tls_required:
            evidence = {"proxy": proxy.name, "classic": proxy.classic}
            yield _finding("proxy-without-tls", database, evidence, proxy.resource_id)


def evaluate_pending(database: SelectedDatabase, access: AccessFile) -> Iterator[Finding]:
    """Yield a finding if access.yaml gives more for the current attributes than for the recorded ones."""
    try:
        waiting = pending(access, database)
    except AccessFileInvalid:
        return  # the invalid file is a finding of its own
    if waiting is None:
        return
    evidence = {
        "changed": waiting.changed,
        "entries": list(waiting.entries),
        "gains": [str(gain) for gain in waiting.gains],
    }
    recorded = None if database.recorded == NOTHING else database.recorded
    case = Case(database, None, (database.resource_id,), evidence, recorded_attributes=recorded)
    yield KINDS["gains-need-confirmation"].finding(case)


def evaluate_removals(
    database: Database,
    facts: ServerFacts | Unreadable,
    ownership: Mapping[str, Ownership],
    leaving: Mapping[str, str],
    revoked: Mapping[str, str],
) -> Iterator[Finding]:
    """Yield users whose removal is not complete, and revoked users who can log in.

    :param leaving: users whose logins could not be removed completely → reason.
    :param revoked: users that an operator has revoked → reason.
    """
    logins = _logins(facts)
    restored = {name for name in revoked if name in logins and name in ownership}
    reasons = dict.fromkeys(restored, "it can log in though it was revoked") | dict(leaving)
    for name, reason in sorted(reasons.items()):
        can_log_in = name in logins if isinstance(facts, ServerFacts) else None
        case = Case(
            database,
            name,
            (database.resource_id, name),
            {"reason": reason, "login": can_log_in, "revoked": name in revoked},
            accounts=logins.get(name, ()),
        )
        yield KINDS["login-not-removed"].finding(case)


def unreachable(database: SelectedDatabase, unreadable: Unreadable, access: AccessFile) -> Finding:
    """Return the finding about a database that could not be read."""
    evidence = {
        "stage": unreadable.stage,
        "cause": unreadable.cause,
        "declared": _declares_users(database, access),
    }
    severity: Severity | None = "low" if unreadable.stage == "state" else None
    case = Case(database, None, (database.resource_id,), evidence, severity=severity)
    return KINDS["database-unreachable"].finding(case)


def _iam_flag(database: Database) -> Iterator[Finding]:
    if _IAM_FLAG in database.pending:
        evidence = {"enabled": database.iam_enabled, "pending": list(database.pending)}
        yield _finding("iam-authentication-pending", database, evidence)
    elif not database.iam_enabled:
        exposure = ("public",) if database.public else ()
        evidence = {"status": database.status, "exposure": list(exposure)}
        case = Case(database, None, (database.resource_id,), evidence, exposure=exposure)
        yield KINDS["iam-authentication-off"].finding(case)


def _finding(kind: str, database: Database, evidence: Mapping[str, object], *subject: str) -> Finding:
    return KINDS[kind].finding(Case(database, None, (database.resource_id, *subject), evidence))


def _logins(facts: ServerFacts | Unreadable) -> Mapping[str, tuple[AccountFacts, ...]]:
    """Return the accounts that somebody can log in as, by name."""
    logins: dict[str, tuple[AccountFacts, ...]] = {}
    for account in facts.accounts if isinstance(facts, ServerFacts) else ():
        if account.login and not account.unusable:
            logins[account.name] = (*logins.get(account.name, ()), account)
    return logins


def _declares_users(database: SelectedDatabase, access: AccessFile) -> bool | None:
    """Tell whether access.yaml declares users of a database; None if it is invalid for the database."""
    try:
        return bool(access.declared(database))
    except AccessFileInvalid:
        return None
