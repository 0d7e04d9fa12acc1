"""Failures of single statements on PostgreSQL: failures that pass, and the remedy of the others."""

import psycopg

from rdsiam.core.changes import Unreached
from rdsiam.engines.postgres import effect
from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.sql_text import compose
from rdsiam.engines.statements import FailureKind, Statement, StatementFailed

#: The server shuts down, crashed, starts, or ends idle sessions; or it is a reader since a failover.
_LOST = frozenset({"57P01", "57P02", "57P03", "57P05", "25006"})
#: Class of codes of lost connections.
_CONNECTION = "08"
#: Serialization failure, deadlock.
_CONFLICTS = frozenset({"40001", "40P01"})
#: The server's words, never translated, if two sessions change one row of a catalog at once.
_CONFLICT = "tuple concurrently"
_LOCKED = "55P03"
#: The object is in use; the statement ran too long, or somebody cancelled it.
_PASSING = frozenset({"55006", "57014"})
#: Classes of codes of missing resources, and of failures of the system.
_RESOURCES = ("53", "58")
#: An object, its schema, a role or a database was dropped or renamed since it was read: the next attempt reads anew.
_VANISHED = frozenset({"42P01", "3F000", "42883", "42704", "3D000"})
#: The same, or a change of the catalogs by another session, as the server's own code meets it.
_INTERNAL = "XX000"
#: A name that the session's search_path doesn't find, or a right that its user lacks.
_UNRESOLVED = frozenset({"42P01", "42883", "42704", "3F000", "42703", "42501"})
_EVENT_TRIGGERS = """
SELECT t.evtname, n.nspname, p.proname, t.evtfoid::pg_catalog.regprocedure::text
FROM pg_catalog.pg_event_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.evtfoid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE t.evtenabled <> 'D' ORDER BY 1
"""


def failed(session: PostgresSession, database: str, statement: Statement, error: psycopg.Error) -> StatementFailed:
    """Return the driver's error of a statement as rdsiam's."""
    answer = effect.answer(error)
    context = error.diag.context or ""
    kind = "lost" if session.closed else _kind(error.sqlstate or "", answer, context)
    return StatementFailed(database, statement, error.sqlstate or "", answer, kind, context)


def _kind(code: str, answer: str, context: str) -> FailureKind:
    if code in _LOST or code.startswith(_CONNECTION):
        return "lost"
    if code in _CONFLICTS or (code == _INTERNAL and _CONFLICT in answer):
        return "conflict"
    if code == _LOCKED:
        return "locked"
    if not context and code in {*_VANISHED, _INTERNAL}:
        return "passing"
    return "passing" if code in _PASSING or code.startswith(_RESOURCES) else "lasting"


def part(statement: Statement, database: str) -> str:
    """Return the name of the part that a statement would change; its target may name the database."""
    place = f" in {database}"
    return statement.target.removesuffix(place) + place


def unreached(session: PostgresSession, failure: StatementFailed) -> Unreached:
    """Return the part that a failed statement leaves undone, with the server's answer.

    :param session: in the database, without an open transaction.
    """
    what = part(failure.statement, failure.database)
    if failure.kind == "locked":
        remedy = "end the session that holds the lock, or wait for it; rdsiam tries again"
        return Unreached(what, failure.reason, remedy)
    if failure.kind != "lasting":
        return Unreached(what, failure.reason, "rdsiam tries again")
    for trigger, schema, name, function in _event_triggers(session, failure):
        return Unreached(
            f"privileges in {failure.database}",
            f"the event trigger {trigger} fails on rdsiam's statements: {failure.reason}",
            _remedy(failure, trigger, schema, name, function),
            retry=False,
        )
    remedy = "resolve what the server says, then onboard the database again"
    return Unreached(what, failure.reason, remedy, retry=False)


def _event_triggers(session: PostgresSession, failure: StatementFailed) -> list[tuple[str, str, str, str]]:
    """Return the event triggers whose functions a failure names: trigger, schema, function, signature."""
    if not failure.context:
        return []
    rows = session.execute(_EVENT_TRIGGERS).fetchall()
    session.rollback()
    return [row for row in rows if row[2] in failure.context]


def _remedy(failure: StatementFailed, trigger: str, schema: str, name: str, function: str) -> str:
    """Return what the owner of an event trigger does about its failure."""
    if failure.server_code in _UNRESOLVED:
        alter = f"ALTER FUNCTION {function} SECURITY DEFINER SET search_path = " + compose("{s}, pg_temp", s=schema)
        return f"as its owner run: {alter} (name the schemas of all that it uses); then onboard the database again"
    disable, enable = (compose(f"ALTER EVENT TRIGGER {{t}} {verb}", t=trigger) for verb in ("DISABLE", "ENABLE"))
    accept = f"let {compose('{s}.{f}', s=schema, f=name)} accept rdsiam's statements, then onboard the database again"
    return f"{accept}; or run before that: {disable}, and after it: {enable}"
