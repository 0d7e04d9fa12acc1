"""Evaluates a database by RDS's description, the inventory and access.yaml, without a session; no I/O."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from rdsiam.access.model import AccessFile
from rdsiam.access.pending import pending
from rdsiam.access.selection import NOTHING, SelectedDatabase
from rdsiam.audit.account import AccountContext
from rdsiam.aws.rds import Database
from rdsiam.core import times
from rdsiam.engines.facts import AccountFacts, ServerFacts, Unreadable
from rdsiam.errors import AccessFileInvalid
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.databases import is_transient
from rdsiam.findings.finding import Finding, Severity
from rdsiam.findings.kind import Case
from rdsiam.findings.notices import KIND_OF_EVENT
from rdsiam.state.record import Ownership

#: The time for which RDS itself keeps its events.
_REPORTED_FOR = timedelta(days=14)
_IAM_FLAG = "IAMDatabaseAuthenticationEnabled"


def evaluate_rds(database: Database, account: AccountContext) -> Iterator[Finding]:
    """Yield the findings that RDS's description of a database and its proxies gives; none about a proxy itself."""
    if database.kind == "proxy":
        return
    if database.arn in account.without_iam:
        yield _iam_unavailable(database, account.without_iam[database.arn])
    else:
        yield from _iam_flag(database)
    if database.instance_class and database.instance_class.endswith(".micro") and database.iam_enabled:
        yield _finding("instance-too-small", database, {"class": database.instance_class})
    for proxy in account.proxies:
        if database.identifier in proxy.targets and not proxy.tls_required:
            evidence = {"proxy": proxy.name, "classic": proxy.classic}
            yield _finding("proxy-without-tls", database, evidence, proxy.resource_id)


def evaluate_notices(database: Database, notices: Mapping[str, str], at: datetime) -> Iterator[Finding]:
    """Yield what RDS reported of a database within two weeks; of two events of one kind the later one.

    :param notices: event → when rdsiam got it.
    """
    latest = {KIND_OF_EVENT[event]: (event, time) for event, time in _by_time(notices) if event in KIND_OF_EVENT}
    for kind, (event, time) in sorted(latest.items()):
        received = times.moment(time)
        if at - received > _REPORTED_FOR:
            continue
        about: dict[str, object] = {"class": database.instance_class}
        if kind != "memory-critically-low":
            about = {"managed": database.master_secret_arn is not None}
        routine = kind == "master-password-reset" and database.master_secret_arn is not None
        case = Case(
            database,
            None,
            (database.resource_id,),
            {"event": event, "at": time, **about},
            severity="low" if routine else None,
            accepted_until=times.text(received + _REPORTED_FOR),
        )
        yield KINDS[kind].finding(case)


def _by_time(notices: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the notices, the latest one last."""
    return sorted(notices.items(), key=lambda notice: (notice[1], notice[0]))


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
        "status": database.status,
        "declared": _declares_users(database, access),
    }
    severity: Severity | None = "low" if unreadable.stage == "state" or is_transient(evidence) else None
    case = Case(database, None, (database.resource_id,), evidence, severity=severity)
    return KINDS["database-unreachable"].finding(case)


def _iam_unavailable(database: Database, upgrade: str | None) -> Finding:
    exposure = ("public",) if database.public else ()
    evidence = {
        "engine": database.engine,
        "version": database.engine_version,
        "upgrade": upgrade,
        "exposure": list(exposure),
    }
    return KINDS["iam-authentication-unavailable"].finding(
        Case(database, None, (database.resource_id,), evidence, exposure=exposure)
    )


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
