"""Failures of single statements on MySQL and MariaDB: failures that pass, and the remedy of the others."""

import pymysql

from rdsiam.core.changes import Unreached
from rdsiam.engines.mysql.catalog import server_answer
from rdsiam.engines.statements import FailureKind, Statement, StatementFailed

#: The connection is lost or was killed, the server shuts down, or it is a reader since a failover.
_LOST = frozenset({"0", "2006", "2013", "2055", "1053", "1927", "1290", "1836"})
_DEADLOCK = "1213"
#: Another session held a lock for too long; of row locks the server says which, of metadata not.
_LOCKED = frozenset({"1205", "3572"})
#: Missing resources; a statement that ran too long, or that somebody cancelled.
_PASSING = frozenset({"1021", "1037", "1038", "1040", "1041", "1114", "1317", "1969", "3024"})


def failed(statement: Statement, error: pymysql.MySQLError) -> StatementFailed:
    """Return the driver's error of a statement as rdsiam's."""
    code, answer = server_answer(error)
    return StatementFailed("the server", statement, code, answer, _kind(code))


def _kind(code: str) -> FailureKind:
    if code in _LOST:
        return "lost"
    if code == _DEADLOCK:
        return "conflict"
    if code in _LOCKED:
        return "locked"
    return "passing" if code in _PASSING else "lasting"


def part(statement: Statement) -> str:
    """Return the name of the part that a statement would change."""
    return f"user {statement.target}"


def unreached(failure: StatementFailed) -> Unreached:
    """Return the part that a failed statement leaves undone, with the server's answer."""
    what = part(failure.statement)
    if failure.kind == "locked":
        remedy = "end the session that holds the lock (a backup's, say), or wait for it; rdsiam tries again"
        return Unreached(what, failure.reason, remedy)
    if failure.kind != "lasting":
        return Unreached(what, failure.reason, "rdsiam tries again")
    remedy = "resolve what the server says, then onboard the database again"
    return Unreached(what, failure.reason, remedy, retry=False)
