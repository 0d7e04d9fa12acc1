"""Statements of rotation on MySQL and MariaDB: errors of theirs never quote a statement, which may hold a password."""

from collections.abc import Sequence
from typing import Any

import pymysql

from rdsiam.engines.mysql.connection import MysqlSession, use_own_settings
from rdsiam.engines.rotation import ChangeFailed, PasswordRejected
from rdsiam.errors import Refused

#: The last one is about an administrator with restrictions, who revokes a dynamic privilege of a user without them.
_DENIED = {1044, 1142, 1227, 1410, 3619, 3879}
_REJECTED = {1819, 3638}
#: The session may do nothing else; and the login of a client that can't do so.
_EXPIRED = {1820, 1862}
#: Codes of errors whose text never quotes the statement.
_SAFE = (
    _DENIED
    | _REJECTED
    | {1040, 1045, 1053, 1133, 1205, 1213, 1290, 1317, 1396, 1449, 2006, 2013, 3016, 3118, 3891, 3892, 3894, 3955, 4006}
)


class ExpiredPassword(Refused):
    """The password of the session's user has expired: the session may do nothing but set a new one."""


class NotAllowed(Refused):
    """The session's user has no right to do this."""


def rows(session: MysqlSession, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    try:
        with session.cursor() as cursor:
            cursor.execute(query, parameters or None)
            return list(cursor.fetchall())
    except pymysql.MySQLError as error:
        raise _translated(error) from None


def run(session: MysqlSession, statement: str) -> None:
    try:
        with session.cursor() as cursor:
            cursor.execute(statement)
    except pymysql.MySQLError as error:
        raise _translated(error) from None


def _translated(error: pymysql.MySQLError) -> Exception:
    """Return the error with code and cause, without the statement, which may hold a password as the text may."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    cause = str(error.args[-1]) if code in _SAFE else type(error).__name__
    if code in _REJECTED:
        return PasswordRejected(f"the database rejects the new password: {code} {cause}")
    if code in _EXPIRED:
        return ExpiredPassword(
            f"the password of the session's user has expired ({code})",
            "give that user a new password; of the administrator, let RDS rotate its secret",
            "login-failed",
        )
    if code in _DENIED:
        return NotAllowed(f"{cause} ({code})", "grant the user this right, or use another scheme", "rights-missing")
    return ChangeFailed(str(code), cause)


def begin(session: MysqlSession) -> None:
    """Give the session rdsiam's settings.

    :raises ExpiredPassword: the password of its user has expired.
    """
    try:
        use_own_settings(session)
        # MariaDB permits SET in a session that may set a password only.
        with session.cursor() as cursor:
            cursor.execute("SELECT 1")
    except pymysql.MySQLError as error:
        raise _translated(error) from None
