"""Checks of the database: its settings, the user's account, and the login itself."""

from botocore.exceptions import ClientError

from rdsiam.aws.iam_support import IamSupports
from rdsiam.doctor.case import LoginCase, Verdict, fail, ok, unknown
from rdsiam.engines.facts import ServerFacts
from rdsiam.engines.logins import AUDITOR
from rdsiam.engines.statements import QueryFailed
from rdsiam.errors import ConnectionFailed
from rdsiam.findings.commands import modify

_ASKS_FOR_PASSWORD = ("password authentication failed", "authentication method")


def iam_authentication(case: LoginCase) -> Verdict:
    """Check that IAM authentication is on, or could be."""
    if case.database.iam_enabled:
        return ok("it is on")
    try:
        support = IamSupports(case.client("rds")).of(case.database)
    except ClientError:
        return fail("it is off", _enable(case))  # the caller may not ask what RDS offers
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
    try:
        session = case.open(AUDITOR)
    except ConnectionFailed:
        return unknown("you may not read the catalogs: see login", f"rdsiam audit --database {case.owner}")
    try:
        facts = case.engine.audit(session, case.database)
    except QueryFailed as error:
        return unknown(str(error), f"rdsiam onboard {case.owner}: it grants rdsiam_auditor its privileges again")
    finally:
        session.close()
    return _account(case, facts)


def _account(case: LoginCase, facts: ServerFacts) -> Verdict:
    accounts = [account for account in facts.accounts if account.name == case.user and account.login]
    if not accounts:
        fix = f"declare it in access.yaml, then rdsiam onboard {case.owner}"
        return fail("there is no such user; names are case-sensitive", fix)
    with_password = [account.host or account.name for account in accounts if not account.iam]
    if with_password:
        problem = "is not in rds_iam" if case.database.family == "postgres" else "has another plugin"
        return fail(f"{case.user} {problem} ({', '.join(with_password)})", f"rdsiam onboard {case.owner} --plan")
    return ok(f"{case.user} logs in by token")


def login(case: LoginCase) -> Verdict:
    """Log in as the user with a token of the caller."""
    try:
        case.open(case.user).close()
    except ConnectionFailed as error:
        if error.stage != "login":
            return unknown(f"the connection failed at {error.stage}", "see the rows above")
        if any(text in str(error) for text in _ASKS_FOR_PASSWORD):
            detail = f"the server asks {case.user} for a password: not in rds_iam"
            return fail(detail, f"rdsiam onboard {case.owner} --plan")
        return fail("the server refuses a token that you signed just now", "see the rows below")
    return ok(f"a token that you sign logs in as {case.user}")


def _enable(case: LoginCase) -> str:
    """Return the command that switches IAM authentication on: a cluster's members have the cluster's setting."""
    if case.database.kind == "proxy":
        return f"aws rds modify-db-proxy --db-proxy-name {case.name} --default-auth-scheme IAM_AUTH"
    remediation = modify(case.database, "--enable-iam-database-authentication")
    return f"{remediation.text} {f'({remediation.note})' if remediation.note else ''}".strip()
