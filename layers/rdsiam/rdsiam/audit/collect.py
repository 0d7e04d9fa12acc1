"""Reads one database as rdsiam_auditor, within limits of time: facts, or why it could not be read."""

import logging
import time
from typing import Any, Protocol

from rdsiam.aws.rds import Database
from rdsiam.engines.connection import Limits
from rdsiam.engines.facts import ServerFacts, Unreadable
from rdsiam.engines.logins import Token
from rdsiam.engines.messages import one_line
from rdsiam.engines.protocols import Engine
from rdsiam.engines.registry import ENGINES
from rdsiam.engines.statements import QueryFailed
from rdsiam.engines.time_limits import cut_off
from rdsiam.errors import ConnectionFailed, Refused

logger = logging.getLogger(__name__)

#: Limits of the first attempt: databases of a batch wait for each other, so a slow one is left for the second.
FIRST = Limits(connect=1, statement=4)
#: Limits of the second attempt, after all databases that answer have been read.
SECOND = Limits(connect=6, statement=10)
#: Maximum duration for one database, from the lookup of its host name, in multiples of its limit for a statement.
_STATEMENTS = 2
_LONGEST_CAUSE = 300


class AuditorLogins(Protocol):
    """Makes the auditor's logins; `rdsiam.engines.logins.Logins` does."""

    def auditor(self, database: Database) -> Token:
        """Return a login as `rdsiam_auditor`."""


def read(
    database: Database, logins: AuditorLogins, limits: Limits = SECOND, total: float | None = None
) -> ServerFacts | Unreadable:
    """Read how every account of a database can log in.

    :param database: an instance or a cluster; for a replica read its source, for a proxy its targets.
    :param total: maximum duration in seconds; by default that of two statements.
    :return: facts, or how far reading came and why no further. Nothing that a database does or sends raises.
    :raises RuntimeError: there are no AWS credentials to sign with.
    """
    if not database.reachable:
        return Unreadable("state", f"it is {_plain(database.status)}")
    if not database.iam_enabled:
        return Unreadable("iam", "IAM authentication is off, so rdsiam_auditor can't log in")
    login = logins.auditor(database)
    try:
        return _read(database, login, limits, _STATEMENTS * limits.statement if total is None else total)
    except ConnectionFailed as error:
        return Unreadable(error.stage, _plain(str(error), login))
    except Refused as error:
        return Unreadable("login", _plain(str(error), login))
    except QueryFailed as error:
        return Unreadable("query", _plain(str(error), login))
    except Exception as error:
        # A server of another engine, or a hostile one, can make a driver raise anything. That must not end the audit
        # of other databases, and this database is unknown. The text may be the server's, so it is not logged.
        logger.error("reading %s failed unexpectedly: %s", database.arn, type(error).__name__)
        return Unreadable("query", f"the driver could not understand the server: {type(error).__name__}")


def _read(database: Database, login: Token, limits: Limits, total: float) -> ServerFacts | Unreadable:
    engine: Engine = ENGINES[database.family]
    end = time.monotonic() + total
    session: Any = engine.connect(database, login, None, limits)
    try:
        with cut_off(session, end - time.monotonic()) as late:
            try:
                facts = engine.audit(session, database)
            except Exception:
                if late.is_set():
                    return Unreadable("time", f"it was not read within {total:g} s")
                raise
        return facts
    finally:
        session.close()


def _plain(text: str, login: Token | None = None) -> str:
    """Return a foreign text as one short line of printable characters, without the login's token."""
    if login is not None:
        text = text.replace(login.secret, "***")
    line = one_line(text)
    return line if len(line) <= _LONGEST_CAUSE else line[: _LONGEST_CAUSE - 1] + "…"
