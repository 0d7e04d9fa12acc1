"""Checks of the user: whether an entry can declare it, the API's answer, and whether its login was taken."""

from botocore.exceptions import BotoCoreError, ClientError

from rdsiam.aws.rds_models import Database
from rdsiam.core import shell
from rdsiam.doctor.case import LoginCase, Verdict, fail, ok, unknown
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.errors import ConnectionFailed, RdsiamError

#: Users and roles of RDS and of the servers.
_SYSTEM = frozenset({
    "mariadb.sys", "mysql.infoschema", "mysql.session", "mysql.sys", "rds_ad", "rds_extension", "rds_iam",
    "rds_password", "rds_replication", "rds_reserved", "rds_superuser", "rds_superuser_role", "rdsadmin",
    "rdsproxyadmin", "rdsrepladmin", "rdstopmgr", "rdswriteforwarduser",
})  # fmt: skip
#: Beginnings of names, in any case, that access.yaml reserves: `rdsiam.access.fields`.
_RESERVED = ("aws_", "mariadb.", "mysql.", "pg_", "rds")


def user(case: LoginCase) -> Verdict:
    """Check that the user is one that access.yaml can declare."""
    if not case.described and (case.named or case.api_code == "user-revoked"):
        return ok(f"access.yaml declares {case.user}")
    database = case.database
    if database.master_user and case.user == database.master_user:
        return _master(case, database)
    if case.user in (MANAGER, AUDITOR):
        function = "OnboardFunction" if case.user == MANAGER else "the audit"
        return unknown(f"{case.user} is rdsiam's own user, as which {function} logs in", _declare(case))
    if case.user in _SYSTEM or (database.family == "postgres" and case.user.startswith("pg_")):
        return fail(f"{case.user} is a user or role of RDS or of the server itself", _declare(case))
    if case.user.lower().startswith(_RESERVED):
        return unknown(f"no entry can declare {case.user}: access.yaml reserves such names", _declare(case))
    return ok(f"access.yaml can declare {case.user}")


def _master(case: LoginCase, database: Database) -> Verdict:
    subject = f"{case.user} is the master user"
    if database.master_may_take_tokens and case.login_error is None:
        return ok(f"{subject}, and logs in by token")
    if database.master_secret_arn:
        place = f"RDS keeps its password in {database.master_secret_arn}"
    else:
        place = "RDS does not manage its password"
    detail = f"{subject}: it logs in by password, and rdsiam never makes it an IAM user; {place}"
    return fail(detail, _declare(case))


def _declare(case: LoginCase) -> str:
    return f"declare a user of your own in access.yaml, then {case.onboard_users}"


def api(case: LoginCase) -> Verdict:
    """Ask the API for a token, as `rdsiam psql` does. The request is recorded like every other."""
    answer = case.vended
    if answer is None:
        return unknown("the API's address is not known", "give --api-url, or set RDSIAM_API_URL")
    if not isinstance(answer, RdsiamError):
        return ok(f"access.yaml lets you log in as {case.user}: the API gives you a token")
    problem = answer.problem or str(answer)
    if answer.code == "reason-required":
        command = shell.join(["rdsiam", "psql", case.name, "-u", case.user])
        return fail(problem, f'{command} --reason "…"; doctor takes --reason too')
    if answer.code == "signs-itself":
        return ok("access.yaml lets your role sign its own tokens: add --local to psql, mysql, exec and env")
    if answer.code == "not-allowed":
        return _undeclared(case, problem, answer.remedy)
    return unknown(problem, answer.remedy or "try again")


def _undeclared(case: LoginCase, problem: str, remedy: str) -> Verdict:
    """Judge a denial: a caller that signs its own tokens needs none from the API."""
    error = case.login_error
    if error is None:
        return ok("no entry gives you tokens of the API; your own are accepted: add --local")
    if isinstance(error, ConnectionFailed) and error.stage == "login":
        return fail(problem, remedy)
    return unknown(f"{problem}; whether tokens of your own are accepted is not known", remedy)


def revocation(case: LoginCase) -> Verdict:
    """Read in the inventory whether the user is revoked or disabled, and why; or use the API's answer."""
    try:
        recorded = case.record(case.database) if case.record is not None else None
    except (RdsiamError, ClientError, BotoCoreError):
        if not case.named and case.api_code != "user-revoked":
            raise
        recorded = None  # the API tells what the inventory would
    if recorded is not None and recorded.revoked is not None:
        return fail(
            f"{case.user} is revoked: {recorded.revoked or 'no reason is recorded'}",
            _lift(case),
        )
    if recorded is not None and recorded.disabled:
        detail = f"{case.user} is disabled: access.yaml no longer declares it, so rdsiam has taken its login"
        return fail(detail, f"declare it in access.yaml again, then {case.onboard_users}")
    if case.api_code == "user-revoked":
        return fail(f"{case.user} is revoked; operators see the reason", _ask_operator(case))
    if case.named:
        return ok(f"{case.user} is not revoked")
    if recorded is None:
        return unknown("the inventory is not known", "set RDSIAM_INVENTORY_TABLE, if you are an operator")
    if not recorded.onboarded:
        return unknown(f"rdsiam has not onboarded {case.owner}", f"rdsiam onboard {case.owner} --plan")
    return ok(f"{case.user} is neither revoked nor disabled")


def _ask_operator(case: LoginCase) -> str:
    return f"ask an operator, who may end it: {_lift(case)}"


def _lift(case: LoginCase) -> str:
    return shell.join(["rdsiam", "revoke", case.owner, case.user, "--lift"])
