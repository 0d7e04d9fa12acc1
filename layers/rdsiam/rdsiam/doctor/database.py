"""Checks of the database: its settings, the user's account, and the login itself."""

from collections.abc import Collection, Sequence

from botocore.exceptions import BotoCoreError, ClientError

from rdsiam.aws.iam_support import IamSupports
from rdsiam.doctor.case import LoginCase, Verdict, fail, ok, unknown
from rdsiam.doctor.known_error import Certainty
from rdsiam.doctor.known_errors import explain
from rdsiam.engines.facts import AccountFacts, ServerFacts
from rdsiam.engines.logins import AUDITOR
from rdsiam.engines.statements import QueryFailed
from rdsiam.errors import ConnectionFailed
from rdsiam.findings.commands import modify

#: PostgreSQL's answers about a database to a user that has logged in.
_AFTER_LOGIN = ("permission denied for database",)
_ASKS_FOR_PASSWORD = ("password authentication failed", "authentication method")


def iam_authentication(case: LoginCase) -> Verdict:
    """Check that IAM authentication is on, or could be."""
    if not case.described and case.api_code != "reason-required" and case.login_error is None:
        return ok("it is on: a token logs in")
    if case.database.iam_enabled:
        return ok("it is on")
    if case.database.kind == "proxy":
        return fail("it is off: the proxy logs in by password", _enable(case))
    try:
        support = IamSupports(case.client("rds")).of(case.database)
    except (ClientError, BotoCoreError):
        return fail("it is off", _enable(case))  # the caller can't ask what RDS offers
    if support.available:
        return fail("it is off", _enable(case))
    return fail(f"{case.database.engine} {case.database.engine_version} has none here", support.remedy)


def pending_changes(case: LoginCase) -> Verdict:
    """Check that IAM authentication does not wait for the maintenance window."""
    pending = case.database.pending
    if not pending:
        return ok(f"none; {case.name} is {case.database.status}")
    detail = f"waiting for the maintenance window: {', '.join(pending)}"
    return fail(detail, _enable(case)) if "IAMDatabaseAuthenticationEnabled" in pending else ok(detail)


def role_or_plugin(case: LoginCase) -> Verdict:
    """Read the user's account in the catalogs, if the caller may log in as the auditor."""
    case.database  # noqa: B018  without a description there is no auditor to log in as
    try:
        session = case.open(AUDITOR)
    except ConnectionFailed:
        return unknown("you may not read the catalogs: see login", f"rdsiam audit --database {case.owner}")
    try:
        facts = case.engine.audit(session, case.database)
        named = _accounts(case, facts)
        names = case.engine.existing_names(session) if not named and case.family == "postgres" else frozenset()
    except QueryFailed as error:
        return unknown(str(error), f"rdsiam onboard {case.owner}: it grants rdsiam_auditor its privileges again")
    finally:
        session.close()
    if not named:
        return _missing(case, facts, names)
    return _account(case, named)


def _accounts(case: LoginCase, facts: ServerFacts) -> list[AccountFacts]:
    return [account for account in facts.accounts if account.name == case.user]


def _missing(case: LoginCase, facts: ServerFacts, names: Collection[str]) -> Verdict:
    """Return the verdict on a user that no login has.

    :param names: of all roles of a PostgreSQL server, also of those that can't log in.
    """
    if case.user in names:
        return _locked(case, "(NOLOGIN)")
    similar = sorted({account.name for account in facts.accounts if account.name.lower() == case.user.lower()})
    hint = f": did you mean {' or '.join(similar)}?" if similar else ""
    return fail(
        f"there is no such user; names are case-sensitive{hint}",
        f"declare it in access.yaml, then {case.onboard_users}",
    )


def _locked(case: LoginCase, state: str) -> Verdict:
    detail = (
        f"{case.user} is locked {state}: rdsiam revoked it, access.yaml no longer declares it, or an administrator "
        "locked it"
    )
    return fail(detail, f"see revocation; {case.onboard_users} --plan")


def _account(case: LoginCase, accounts: Sequence[AccountFacts]) -> Verdict:
    locked = [account for account in accounts if account.locked or not account.login]
    if len(locked) == len(accounts):
        return _locked(case, "(NOLOGIN)" if case.family == "postgres" else "(ACCOUNT LOCK)")
    expired = [account for account in accounts if account.expired and not account.iam]
    if expired:
        limit = "VALID UNTIL has passed" if case.family == "postgres" else "its password has expired"
        return fail(f"{case.user} has expired: {limit}", f"{case.onboard_users} --plan")
    with_password = [account.host or account.name for account in accounts if not account.iam]
    if with_password:
        problem = "is not in rds_iam" if case.family == "postgres" else "has another plugin"
        return fail(f"{case.user} {problem} ({', '.join(with_password)})", _take_tokens(case))
    if locked:
        hosts = ", ".join(account.host for account in locked)
        return unknown(f"{case.user} is locked for {hosts}, not for other hosts", f"{case.onboard_users} --plan")
    return ok(f"{case.user} logs in by token")


def login(case: LoginCase) -> Verdict:
    """Log in as the user, with a token of the API if it gives one, else with one that the caller signs."""
    if case.api_code == "reason-required":
        return unknown("not tried: the API gives you a token only with a reason", "see API")
    error = case.login_error
    source = "of the API" if case.uses_api else "that you sign"
    if error is None:
        return ok(f"a token {source} logs in as {case.user}")
    if not isinstance(error, ConnectionFailed):
        raise error
    if error.stage != "login":
        return unknown(f"the connection failed at {error.stage}", "see the rows above")
    text = f"{error} ({error.server_code})" if error.server_code else str(error)
    if any(part in text for part in _AFTER_LOGIN):
        return ok(f"a token {source} logs in as {case.user}; {case.database.default_database} is closed to it")
    if any(part in text for part in _ASKS_FOR_PASSWORD):
        detail = f"the server asks {case.user} for a password: not in rds_iam"
        return fail(detail, _take_tokens(case))
    causes = [known for known in explain(text) if known.certainty == Certainty.CAUSE]
    if causes:
        return fail(causes[0].cause, causes[0].fixes[0].replace("DATABASE", case.name).replace("USER", case.user))
    return fail(f"the server refuses a token {source}, made just now", "see the rows below")


def _take_tokens(case: LoginCase) -> str:
    """Return the ways to a user that takes tokens: access.yaml decides which of them fits."""
    return f"{case.onboard_users} --plan; rdsiam migrate start, if access.yaml doesn't declare {case.user}"


def _enable(case: LoginCase) -> str:
    """Return the command that switches IAM authentication on: a cluster's members have the cluster's setting."""
    if case.database.kind == "proxy":
        return f"aws rds modify-db-proxy --db-proxy-name {case.name} --default-auth-scheme IAM_AUTH"
    remediation = modify(case.database, "--enable-iam-database-authentication")
    return f"{remediation.text} {f'({remediation.note})' if remediation.note else ''}".strip()
