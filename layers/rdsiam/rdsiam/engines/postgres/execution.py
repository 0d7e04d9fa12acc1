"""Execution of statements on a PostgreSQL server, guarded against lock-out: roles first, then each database."""

from collections.abc import Sequence

from rdsiam.engines.connection import PostgresSession
from rdsiam.engines.postgres.catalog import memberships
from rdsiam.engines.postgres.difference import check_lockout
from rdsiam.engines.postgres.disabling import SHORT_WAIT
from rdsiam.engines.postgres.inspection import read_roles
from rdsiam.engines.postgres.lockout import IAM_ROLE
from rdsiam.engines.postgres.snapshot import Snapshot, run
from rdsiam.engines.postgres.sql_text import compose
from rdsiam.engines.protocols import Authority, DesiredState, Sessions, Statement
from rdsiam.errors import ConnectionFailed, Refused

_AUTHORITIES: tuple[Authority, ...] = ("master", "manager")


def apply(
    sessions: Sessions[PostgresSession],
    snapshot: Snapshot,
    statements: Sequence[Statement],
    desired: DesiredState,
) -> None:
    """Run the statements: roles first, then each database; each part is one transaction.

    Sessions end when no new ones can be opened.
    """
    for authority in _AUTHORITIES:
        _change_roles(sessions, snapshot, statements, desired, authority)
    if sessions.used_master:
        _prove_master(sessions, snapshot, statements)
    for statement in statements:
        if statement.kind == "end-sessions":
            session = sessions.get(statement.authority, snapshot.entry_database)
            run(session, snapshot.entry_database, [statement])
            session.commit()
    for name in sorted({statement.database for statement in statements if statement.database is not None}):
        for authority in _AUTHORITIES:
            in_database = [each for each in statements if each.authority == authority and each.database == name]
            if in_database:
                session = sessions.get(authority, name)
                run(session, name, in_database)
                session.commit()


def _change_roles(
    sessions: Sessions[PostgresSession],
    snapshot: Snapshot,
    statements: Sequence[Statement],
    desired: DesiredState,
    authority: Authority,
) -> None:
    """Run the statements of one authority about roles in one transaction, unless they lock a user out."""
    about_roles = [each for each in statements if each.authority == authority and each.database is None]
    about_roles = [each for each in about_roles if each.kind != "end-sessions"]
    if not about_roles:
        return
    entry = snapshot.entry_database
    session = sessions.get(authority, entry)
    locked = {each.target for each in about_roles if each.kind == "disable-user"}
    if locked:
        session.execute(SHORT_WAIT)
    # Sessions of a user may hold what locking it waits for, so they end before, and once more afterwards.
    run(session, entry, [each for each in statements if each.kind == "end-sessions" and each.target in locked])
    run(session, entry, about_roles)
    roles = read_roles(session)
    try:
        check_lockout(snapshot, memberships(session), desired, roles)
    except Refused:
        session.rollback()
        raise
    session.commit()


def _prove_master(sessions: Sessions[PostgresSession], snapshot: Snapshot, statements: Sequence[Statement]) -> None:
    """Prove that the master can still log in while its first session is open; else revoke the new memberships.

    :raises Refused: the master could not log in.
    """
    try:
        sessions.another("master", snapshot.entry_database).close()
    except ConnectionFailed as error:
        granting = compose("GRANT {iam} TO", iam=IAM_ROLE)
        for statement in statements:
            if statement.statement.startswith(granting):
                session = sessions.get(statement.authority, snapshot.entry_database)
                session.execute(compose("REVOKE {iam} FROM {u}", iam=IAM_ROLE, u=statement.target))
                session.commit()
        raise Refused(
            f"{snapshot.master} could no longer log in, so the new memberships in {IAM_ROLE} were revoked: {error}",
            "see that the master logs in by its password, then run this again",
            "lock-out",
        ) from None
