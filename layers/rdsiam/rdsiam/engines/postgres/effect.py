"""Statements that have to have an effect: PostgreSQL only warns if it has granted or revoked nothing."""

import psycopg
from psycopg import sql

from rdsiam.engines.messages import one_line
from rdsiam.engines.postgres.connection import PostgresSession

#: Codes of the warnings that privileges were not revoked, or not granted.
_WITHOUT_EFFECT = frozenset({"01006", "01007"})
#: The server's function that takes memberships away. Its warnings have no code of their own, and a translated text.
_REVOKES_MEMBERSHIPS = "DelRoleMems"
#: Codes of statements that the server refuses to this user, or in this state: a right is missing; a membership would
#: make a role a member of itself.
_DENIED = frozenset({"42501", "0LP01"})
#: Code of a REVOKE without CASCADE from a role that has passed on what it loses.
PASSED_ON = "2BP01"


class NoEffect(psycopg.DatabaseError):
    """The server warned that a statement granted or revoked nothing, or less than it says."""


def execute(session: PostgresSession, statement: str | sql.Composed) -> None:
    """Run a statement, of one or more commands.

    :raises NoEffect: the server warns that it had no effect. From PostgreSQL 16 on it does so if another role granted
        the membership that is revoked.
    """
    warnings: list[tuple[str | None, str]] = []

    def notice(message: psycopg.errors.Diagnostic) -> None:
        if message.context:
            return  # a function of an event trigger warns
        if message.sqlstate in _WITHOUT_EFFECT or (
            message.severity_nonlocalized == "WARNING" and message.source_function == _REVOKES_MEMBERSHIPS
        ):
            warnings.append((message.sqlstate, message.message_primary or ""))

    session.add_notice_handler(notice)
    try:
        session.execute(statement)
    finally:
        session.remove_notice_handler(notice)
    if warnings:
        code, text = warnings[0]
        error = NoEffect(text)
        error.sqlstate = code
        raise error


def is_denial(error: psycopg.Error) -> bool:
    """Return whether a statement failed, or had no effect, because its user may not do this."""
    # The text is of a membership whose ADMIN OPTION the user does not inherit; it is never translated.
    if error.diag.context:
        return False  # a function failed that an event trigger called
    return isinstance(error, NoEffect) or error.sqlstate in _DENIED or "no possible grantors" in str(error)


def answer(error: psycopg.Error) -> str:
    """Return the server's answer in one line."""
    return one_line(str(error))
