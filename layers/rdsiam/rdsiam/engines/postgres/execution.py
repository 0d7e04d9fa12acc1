"""Execution of statements on a PostgreSQL server, guarded against lock-out: roles first, then each database.

A statement that the server may deny runs in a savepoint, so that the rest of its transaction goes on without it. If
another one fails in a database, its transaction is rolled back; then privileges are changed statement by statement, and
those that fail are named.
"""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import psycopg

from rdsiam.core.changes import Authority, Refusal, Unreached
from rdsiam.engines.postgres import effect, failures
from rdsiam.engines.postgres.catalog import memberships
from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.difference import check_lockout
from rdsiam.engines.postgres.disabling import SHORT_WAIT
from rdsiam.engines.postgres.inspection import read_roles
from rdsiam.engines.postgres.lockout import IAM_ROLE
from rdsiam.engines.postgres.snapshot import Snapshot
from rdsiam.engines.postgres.sql_text import compose
from rdsiam.engines.protocols import DesiredState, Sessions
from rdsiam.engines.statements import AUTHORITIES, Denial, Statement, StatementFailed, not_tried, repeat_on_conflict
from rdsiam.errors import ConnectionFailed, Refused

#: Kinds of statements of which each can do without the others.
_INDEPENDENT = frozenset({"grant", "revoke", "default-privileges", "act-as-owner"})
#: Kinds of statements about roles that other users log in without, and how many of them may fail in one run. A login
#: that can't be locked stays managed: it is named, and locked by a further run.
_DISPENSABLE, _FAILURES = frozenset({"disable-user", "limit-connections", "revoke"}), 5
#: Waits for locks on objects end before the server looks for deadlocks (`deadlock_timeout`, one second), so that no
#: transaction of an owner is ended for rdsiam's.
_BRIEF_WAIT = "SET LOCAL lock_timeout = '800ms'"
#: A change of privileges takes milliseconds, unless a function of the owner runs with it.
_BRIEF_RUN = "SET LOCAL statement_timeout = '10s'"
#: Number of waits in vain in one database, after which statements hardly wait.
_WAITS = 20
_HARDLY_WAIT = "SET LOCAL lock_timeout = '50ms'"
#: Seconds that the statements in one database may take: half of them in one transaction.
_SECONDS_OF_DATABASE = 40.0


class TimeLimit:
    """The time limit of all statements in one database: a database whose statements are slow delays no other for long.

    An invocation, which works on other databases before, has 120 seconds.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def half(self) -> float:
        """The moment at which the first half of the time is over."""
        return self._start + _SECONDS_OF_DATABASE / 2

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self._start + _SECONDS_OF_DATABASE


def apply(
    sessions: Sessions[PostgresSession],
    snapshot: Snapshot,
    statements: Sequence[Statement],
    desired: DesiredState,
) -> tuple[Denial, ...]:
    """Run the statements: roles first, then each database; each part is one transaction.

    Sessions end when no new ones can be opened.

    :return: the statements that the server denied, and that the rest can do without.
    """
    denials: list[Denial] = []
    for authority in AUTHORITIES:
        denials += _change_roles(sessions, snapshot, statements, desired, authority)
    if sessions.used_master or _may_lock_master_out(snapshot, statements):
        _prove_master(sessions, snapshot, statements)
    for statement in statements:
        if statement.kind == "end-sessions":
            session = sessions.get(statement.authority, snapshot.entry_database)
            run(session, snapshot.entry_database, [statement])
            session.commit()
    for name in sorted({statement.database for statement in statements if statement.database is not None}):
        time_limit = TimeLimit()
        for authority in AUTHORITIES:
            in_database = [each for each in statements if each.authority == authority and each.database == name]
            denials += change_database(sessions, name, authority, in_database, time_limit)
    return tuple(denials)


def run(
    session: PostgresSession, database: str, statements: Sequence[Statement], end: float = math.inf
) -> list[Denial]:
    """Run statements in the session's transaction; the caller commits.

    :param end: moment of `time.monotonic` from which on no further statement is run.
    :return: the statements that the server denied, and that the rest can do without.
    :raises Refused: the server denied a statement that the rest can't do without; the transaction is rolled back.
    :raises StatementFailed: a statement failed; the transaction is rolled back.
    """
    denials: list[Denial] = []
    for statement in statements:
        part = statement.denied
        if time.monotonic() > end:
            _roll_back(session)
            raise StatementFailed(database, statement, "", "the statements before it took too long", "passing")
        try:
            if isinstance(part, Unreached) or statement.passed_on is not None:
                effect.execute(session, f"SAVEPOINT statement; {statement.statement}")
                session.execute("RELEASE SAVEPOINT statement")
            else:
                effect.execute(session, statement.statement)
        except psycopg.Error as error:
            missing = _missing(statement, error)
            if missing is not None:
                session.execute("ROLLBACK TO SAVEPOINT statement")
                reason = f"{missing.reason}: {effect.answer(error)}"
                denials.append(Denial(statement, replace(missing, reason=reason)))
                continue
            _roll_back(session)
            if isinstance(part, Refusal) and effect.is_denial(error):
                raise Refused(f"{part.problem}: {effect.answer(error)}", part.remedy, part.code) from None
            raise failures.failed(session, database, statement, error) from None
    return denials


def _missing(statement: Statement, error: psycopg.Error) -> Unreached | None:
    """Return the part that the server denied; None if the statement failed otherwise, or the rest needs it."""
    if error.sqlstate == effect.PASSED_ON:
        return statement.passed_on
    return statement.denied if isinstance(statement.denied, Unreached) and effect.is_denial(error) else None


def _roll_back(session: PostgresSession) -> None:
    with suppress(psycopg.OperationalError):  # the connection is lost, so the server has rolled back
        session.rollback()


def _commit(session: PostgresSession, database: str, statements: Sequence[Statement]) -> None:
    try:
        session.commit()
    except psycopg.Error as error:
        _roll_back(session)
        raise failures.failed(session, database, statements[-1], error) from None


def _change_roles(
    sessions: Sessions[PostgresSession],
    snapshot: Snapshot,
    statements: Sequence[Statement],
    desired: DesiredState,
    authority: Authority,
) -> list[Denial]:
    """Run the statements of one authority about roles in one transaction, unless they lock a user out.

    A statement that fails, and that users log in without, is named, and the transaction repeated without it: a session
    of a user may hold the user's row.
    """
    about_roles = [each for each in statements if each.authority == authority and each.database is None]
    about_roles = [each for each in about_roles if each.kind != "end-sessions"]
    if not about_roles:
        return []
    entry = snapshot.entry_database
    try:
        session = sessions.get(authority, entry)
    except Refused as error:  # of the master's secret, which RDS does not keep
        return _without_session(about_roles, error)
    locked = {each.target for each in about_roles if each.kind == "disable-user"}
    # Sessions of a user may hold what locking it waits for, so they end before, and once more afterwards.
    ending = [each for each in statements if each.kind == "end-sessions" and each.target in locked]
    failed: list[Denial] = []

    def change() -> list[Denial]:
        if locked or failed:
            session.execute(SHORT_WAIT)
        run(session, entry, ending)
        denials = run(session, entry, about_roles)
        roles = read_roles(session)
        try:
            check_lockout(snapshot, memberships(session), desired, roles)
        except Refused:
            session.rollback()
            raise
        _commit(session, entry, about_roles)
        return denials

    while about_roles:
        try:
            return failed + repeat_on_conflict(change)
        except StatementFailed as failure:
            statement = failure.statement
            dispensable = statement.kind in _DISPENSABLE and statement in about_roles
            if failure.kind == "lost" or not dispensable or len(failed) == _FAILURES:
                raise
            part = replace(failures.unreached(session, failure), what=f"role {statement.target}")
            failed.append(Denial(statement, part))
            about_roles.remove(statement)
    return failed


def change_database(
    sessions: Sessions[PostgresSession],
    name: str,
    authority: Authority,
    statements: Sequence[Statement],
    time_limit: TimeLimit,
) -> list[Denial]:
    """Run the statements of one authority in one database, in one transaction; if one fails, one by one.

    :param time_limit: the database's.
    """
    if not statements:
        return []
    try:
        session = sessions.get(authority, name)
    except Refused as error:  # of the master's secret, which RDS does not keep
        return _without_session(statements, error)

    def change() -> list[Denial]:
        session.execute(f"{_BRIEF_WAIT}; {_BRIEF_RUN}")
        denials = run(session, name, statements, time_limit.half)
        _commit(session, name, statements)
        return denials

    try:
        return repeat_on_conflict(change)
    except StatementFailed as failed:
        if failed.kind == "lost" or not _INDEPENDENT.issuperset(each.kind for each in statements):
            raise
        return _change_one_by_one(session, name, statements, time_limit)


def _change_one_by_one(
    session: PostgresSession, name: str, statements: Sequence[Statement], time_limit: TimeLimit
) -> list[Denial]:
    """Run each statement in a transaction of its own, and name those that fail, and those that there is no time for.

    :raises StatementFailed: the connection is lost.
    """
    denials: list[Denial] = []
    waits = 0

    def change(statement: Statement) -> list[Denial]:
        session.execute(f"{_BRIEF_WAIT if waits < _WAITS else _HARDLY_WAIT}; {_BRIEF_RUN}")
        denied = run(session, name, [statement])
        _commit(session, name, [statement])
        return denied

    for statement in statements:
        if time_limit.over:
            denials.append(not_tried(statement, failures.part(statement, name)))
            continue
        try:
            denials += repeat_on_conflict(partial(change, statement))
        except StatementFailed as failed:
            if failed.kind == "lost":
                raise
            waits += failed.kind == "locked"
            denials.append(Denial(statement, failures.unreached(session, failed)))
    return denials


def _without_session(statements: Sequence[Statement], error: Refused) -> list[Denial]:
    """Return the statements as denied, since no session could be opened for them.

    :raises Refused: the rest can't do without one of them.
    """
    parts = [(each, each.denied) for each in statements if isinstance(each.denied, Unreached)]
    if len(parts) < len(statements):
        raise error
    return [Denial(each, replace(part, reason=error.problem, remedy=error.remedy)) for each, part in parts]


def _may_lock_master_out(snapshot: Snapshot, statements: Sequence[Statement]) -> bool:
    """Return whether a user gets rds_iam that the master is a member of, by whatever option.

    RDS may count a membership by ADMIN OPTION alone. Only a login tells, and rdsiam may have none of the master.
    """
    return snapshot.has_master_login and any(
        snapshot.is_member(snapshot.master, each.target) for each in _granting_iam(statements)
    )


def _granting_iam(statements: Sequence[Statement]) -> list[Statement]:
    granting = compose("GRANT {iam} TO", iam=IAM_ROLE)
    return [statement for statement in statements if statement.statement.startswith(granting)]


def _prove_master(sessions: Sessions[PostgresSession], snapshot: Snapshot, statements: Sequence[Statement]) -> None:
    """Prove that the master can still log in while the sessions are open; else revoke the new memberships.

    :raises Refused: the master could not log in.
    """
    try:
        sessions.another("master", snapshot.entry_database).close()
    except (ConnectionFailed, Refused) as error:
        granted = _granting_iam(statements)
        # The last ones first: the manager can't lose what it has granted to others.
        left = [problem for each in reversed(granted) if (problem := _take_back(sessions, snapshot, each))]
        result = f"were revoked, but for: {'; '.join(left)}" if left else "were revoked"
        revoke = [
            compose("REVOKE {u} FROM {m}", u=each.target, m=snapshot.master)
            for each in granted
            if snapshot.direct(each.target, snapshot.master)
        ]
        ways = (
            f"end its memberships in users that take tokens: {'; '.join(revoke)}" if revoke else "let it log in again"
        )
        raise Refused(
            f"{snapshot.master} could no longer log in, so the new memberships in {IAM_ROLE} {result}: {error}",
            f"{ways}; then run this again",
            "lock-out",
        ) from None


def _take_back(sessions: Sessions[PostgresSession], snapshot: Snapshot, granted: Statement) -> str:
    """Revoke a new membership in rds_iam, and return why that failed; empty if it did not."""
    session = sessions.get(granted.authority, snapshot.entry_database)
    try:
        effect.execute(session, compose("REVOKE {iam} FROM {u}", iam=IAM_ROLE, u=granted.target))
        session.commit()
    except psycopg.Error as error:
        _roll_back(session)
        return f"{granted.target}: {effect.answer(error)}"
    return ""
