"""What a rotation asks of a database, whatever its engine: all SQL of rotation lives behind this protocol."""

from collections.abc import Callable
from typing import Any, Protocol

from rdsiam.access_rotation import CLONE
from rdsiam.databases import Database
from rdsiam.errors import ConnectionFailed, RdsiamError
from rdsiam.logins import Password


class PasswordRejected(RdsiamError):
    """The database's own policy does not take this password: another one may do."""


class ChangeFailed(RdsiamError):
    """A statement of a rotation failed. The message has the server's code and cause, never the statement."""

    def __init__(self, code: str, cause: str) -> None:
        super().__init__(f"the database answered {code} {cause}".rstrip())
        self.code = code


class Rotator(Protocol):
    """The SQL of rotation of one family of engines. Instances hold no state."""

    def connect(self, database: Database, login: Password, name: str | None) -> Any:
        """Open a session. Raises ConnectionFailed."""

    def wrong_password(self, error: ConnectionFailed) -> bool:
        """Tell whether a login failed for the user's name and password, and for nothing else."""

    def prove(self, session: Any) -> None:
        """Run a query that everybody may run."""

    def set_own_password(self, session: Any, password: str, pending_works: Callable[[], bool]) -> None:
        """Give the session's own user the password, on all its accounts; the old one stays valid where it can.

        :param pending_works: tells whether the password logs in already; asked where setting it twice is not the same
            as once.
        :raises PasswordRejected: the database's policy does not take it.
        :raises Refused: only the owner can settle what stands in the way.
        """

    def clone_name(self, user: str) -> str:
        """Return the name of the other of two users that take turns.

        :raises Refused: the engine has no room for it.
        """

    def set_other_password(self, session: Any, base: str, user: str, password: str) -> None:
        """As an administrator, give `user` the password: `base` itself, or its clone, which gets all that `base` may.

        :raises PasswordRejected: the database's policy does not take it.
        :raises Refused: only the owner can settle what stands in the way.
        """


def base_name(user: str) -> str:
    """Return the first of two users that take turns."""
    return user.removesuffix(CLONE)
