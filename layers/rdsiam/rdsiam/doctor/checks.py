"""Diagnosis of a login: every check in the order of a login, each with what to do."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from rdsiam.doctor import caller, database, network, surroundings
from rdsiam.doctor.case import LoginCase, State, Verdict, unknown
from rdsiam.errors import RdsiamError

CHECKS: Mapping[str, Callable[[LoginCase], Verdict]] = {
    "name": network.name,
    "port": network.port,
    "TLS": network.tls,
    "IAM authentication": database.iam_authentication,
    "pending changes": database.pending_changes,
    "identity": caller.identity,
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


@dataclass(frozen=True)
class Row:
    """A check and its result.

    :ivar fix: what to do, a command if there is one; empty if the state is OK.
    """

    check: str
    state: State
    detail: str
    fix: str


def diagnose(case: LoginCase) -> Iterator[Row]:
    """Yield a row for each check as soon as it is done. A check that can't be done is UNKNOWN, never OK."""
    for name, check in CHECKS.items():
        verdict = _verdict(check, case)
        yield Row(name, verdict.state, verdict.detail, verdict.fix)


def _verdict(check: Callable[[LoginCase], Verdict], case: LoginCase) -> Verdict:
    try:
        return check(case)
    except ClientError as error:
        code, call = error.response["Error"]["Code"], error.operation_name
        return unknown(f"{call}: {code}", f"ask someone who may call {call}")
    except RdsiamError as error:
        return unknown(error.problem, error.remedy or "try again")
    except (BotoCoreError, OSError) as error:
        return unknown(type(error).__name__, "try again")
