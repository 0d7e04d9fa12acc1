"""Diagnosis of a login: every check in the order of a login, each with what to do."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from rdsiam.aws.rds_models import in_transition
from rdsiam.doctor import caller, database, failures, network, status, surroundings, users
from rdsiam.doctor.case import LoginCase, NotDescribed, State, Undescribed, Verdict, skip, unknown
from rdsiam.errors import RdsiamError

CHECKS: Mapping[str, Callable[[LoginCase], Verdict]] = {
    "database": status.database,
    "name": network.name,
    "port": network.port,
    "TLS": network.tls,
    "IAM authentication": database.iam_authentication,
    "pending changes": database.pending_changes,
    "identity": caller.identity,
    "user": users.user,
    "revocation": users.revocation,
    "API": users.api,
    "role or plugin": database.role_or_plugin,
    "login": database.login,
    "resource id": caller.resource_id,
    "policy decision": caller.policy_decision,
    "clock": caller.clock,
    "credentials": caller.credentials,
    "region": caller.region,
    "proxy": surroundings.proxy,
    "rate": surroundings.rate,
}
#: Checks that say nothing about a user that no entry can declare, such as the master.
_OF_USER = frozenset({"API", "revocation", "role or plugin", "login", "resource id", "policy decision"})
#: Checks that a revocation explains: no tokens are vended, policies are withdrawn, and the user can't log in.
_OF_REVOCATION = frozenset({"API", "login", "resource id", "policy decision"})
#: Checks that a server may fail only because it is being changed or restarted.
_OF_SERVER = frozenset({"name", "port", "TLS", "login"})


@dataclass(frozen=True)
class Row:
    """A check and its result.

    :ivar fix: what to do, a command if there is one; empty if the state is OK.
    :ivar skipped: another check makes this one impossible or meaningless, and has the advice.
    """

    check: str
    state: State
    detail: str
    fix: str
    skipped: bool = False


def diagnose(case: LoginCase) -> Iterator[Row]:
    """Yield a row for each check as soon as it is done. A check that can't be done is UNKNOWN, never OK.

    While the database doesn't run, or the user is none that can be declared, no other check is to blame.
    """
    failed: set[str] = set()
    for name, check in CHECKS.items():
        verdict = _skipped(name, failed) or _excused(name, _verdict(check, case), case)
        if verdict.state == "FAIL":
            failed.add(name)
        yield Row(name, verdict.state, verdict.detail, verdict.fix, verdict.skipped)


def _skipped(name: str, failed: set[str]) -> Verdict | None:
    """Return a verdict without a check, if an earlier one makes it meaningless."""
    if "database" in failed:
        return skip("the database does not run", "database")
    if "user" in failed and name in _OF_USER:
        return skip("no entry can declare the user", "user")
    if "revocation" in failed and name in _OF_REVOCATION:
        return skip("the login was taken from the user", "revocation")
    return None


def _excused(name: str, verdict: Verdict, case: LoginCase) -> Verdict:
    """Return UNKNOWN in place of a failure that a database in transition explains."""
    if verdict.state != "FAIL" or name not in _OF_SERVER or isinstance(case.target, Undescribed):
        return verdict
    if not in_transition(case.target.status):
        return verdict
    return unknown(f"{verdict.detail}; {case.name} is {case.target.status}", status.wait(case.target))


def _verdict(check: Callable[[LoginCase], Verdict], case: LoginCase) -> Verdict:
    try:
        return check(case)
    except (ClientError, BotoCoreError) as error:
        return failures.of_aws(error)
    except NotDescribed as error:
        return skip(error.problem, "database")
    except RdsiamError as error:
        return failures.of_rdsiam(error)
    except OSError as error:
        return unknown(type(error).__name__, "try again")
