"""Evaluates one database: from facts to findings; no I/O, the same facts give the same findings.

RDS's description → server (logins, groups, declared users) → secrets → removals → suppressed if accepted
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from rdsiam.access.model import AccessFile
from rdsiam.access.selection import SelectedDatabase
from rdsiam.access.users import DeclaredUser
from rdsiam.audit.account import AccountContext
from rdsiam.audit.evaluate_rds import evaluate_notices, evaluate_pending, evaluate_rds, evaluate_removals, unreachable
from rdsiam.audit.evaluate_secrets import changed_secrets, evaluate_secrets, unset_rotations
from rdsiam.audit.evaluate_server import evaluate_server
from rdsiam.audit.server import Server
from rdsiam.audit.suppressions import suppress
from rdsiam.aws.rds import Database
from rdsiam.engines.facts import ServerFacts, Unreadable
from rdsiam.errors import AccessFileInvalid
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import Finding, worst_first
from rdsiam.findings.kind import Case
from rdsiam.state.record import Ownership, SecretRecord


@dataclass(frozen=True)
class RecordedState:
    """The inventory's records of a database, as far as they are about its resource id.

    :ivar ownership: users and groups that rdsiam manages.
    :ivar leaving: users whose logins are not removed completely → reason.
    :ivar revoked: users that an operator has revoked → reason.
    :ivar secrets: user → its secret.
    :ivar notices: event that RDS reported → when.
    """

    ownership: Mapping[str, Ownership] = field(default_factory=dict)
    leaving: Mapping[str, str] = field(default_factory=dict)
    revoked: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretRecord] = field(default_factory=dict)
    notices: Mapping[str, str] = field(default_factory=dict)


def evaluate_database(
    database: SelectedDatabase,
    facts: ServerFacts | Unreadable,
    access: AccessFile,
    account: AccountContext,
    recorded: RecordedState,
    at: datetime,
) -> tuple[Finding, ...]:
    """Return all findings about a database, worst first; what access.yaml accepts is marked as suppressed.

    :param facts: ignored for a replica or a proxy, which have no users of their own.
    :param at: the time of the audit, with a zone.
    """
    removals = list(evaluate_removals(database, facts, recorded.ownership, recorded.leaving, recorded.revoked))
    leaving = {finding.user for finding in removals}
    findings = [
        *evaluate_rds(database, account),
        *evaluate_notices(database, recorded.notices, at),
        *evaluate_pending(database, access),
        # The remediation of a removal remedies an undeclared user as well.
        *(
            finding
            for finding in _of_session(database, facts, access, account, recorded, at)
            if finding.kind != "undeclared-user" or finding.user not in leaving
        ),
        *removals,
        *unset_rotations(database, account.secrets_by_arn, recorded.secrets, access),
        *changed_secrets(database, account.secrets_by_arn, recorded.secrets),
    ]
    return suppress(sorted(findings, key=worst_first), {database.arn: database}, access, at)


def has_users(database: Database) -> bool:
    """Tell whether a database has users of its own; a replica has its source's, a proxy its targets'."""
    return database.kind != "proxy" and database.replica_of is None


def _of_session(
    database: SelectedDatabase,
    facts: ServerFacts | Unreadable,
    access: AccessFile,
    account: AccountContext,
    recorded: RecordedState,
    at: datetime,
) -> Iterator[Finding]:
    if has_users(database) and isinstance(facts, ServerFacts):
        declared: Mapping[str, DeclaredUser] | None = None
        try:
            declared = {user.name: user for user in access.declared(database)}
        except AccessFileInvalid as error:
            # Findings that need no declaration are still reported.
            case = Case(database, None, (database.resource_id,), {"problems": list(error.problems)})
            yield KINDS["access-file-invalid"].finding(case)
        rotating = _rotating(database, access)
        server = Server(database, facts, declared, recorded.ownership, account, at, rotating, recorded.revoked.keys())
        yield from evaluate_server(server)
        return
    yield from evaluate_secrets(database, account.secrets_of(database), frozenset(), account.proxies, at)
    if has_users(database) and isinstance(facts, Unreadable) and database.iam_enabled:
        yield unreachable(database, facts, access)


def _rotating(database: SelectedDatabase, access: AccessFile) -> frozenset[str]:
    """Return the users whose passwords rotate; none if access.yaml is invalid for the database."""
    try:
        return frozenset(user.name for user in access.rotating(database))
    except AccessFileInvalid:
        return frozenset()
