"""The protocol between a rotation and a database: all SQL of rotation lives behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rdsiam.access.rotation import CLONE
from rdsiam.aws.rds import Database
from rdsiam.engines.logins import Login
from rdsiam.engines.protocols import SessionT
from rdsiam.errors import ConnectionFailed, RdsiamError

#: The database in which administrators log in on PostgreSQL, whose roles are the same in all databases. Other databases
#: belong to tenants, who decide how a session begins there.
ADMINISTRATORS_DATABASE = "postgres"


class PasswordRejected(RdsiamError):
    """The database's password policy rejects this password; another password may be accepted."""

    code = "password-rejected"


class ChangeFailed(RdsiamError):
    """A statement of a rotation failed. The message has the server's code and cause, never the statement."""

    code = "change-failed"

    def __init__(self, server_code: str, cause: str) -> None:
        super().__init__(f"the database answered {server_code} {cause}".rstrip())
        self.server_code = server_code


@dataclass(frozen=True)
class OpenSession:
    """A session of another user, as the server shows it.

    :ivar application: the client's name for itself; None if the server does not show it.
    :ivar address: the client's, or that of the proxy in between; None if the server does not show it.
    :ivar since: when the session logged in, RFC 3339; None if the server does not show it.
    """

    user: str
    application: str | None
    address: str | None
    since: str | None


class Rotator(Protocol[SessionT]):
    """The SQL of rotation of one family of engines. Instances hold no state."""

    #: What `sessions` can't show on these servers.
    blind_spots: str

    def connect(self, database: Database, login: Login, name: str | None) -> SessionT:
        """Open a session. Raises ConnectionFailed."""

    def wrong_password(self, error: ConnectionFailed) -> bool:
        """Return whether a login failed because of the user's name or password, and for no other reason."""

    def prove(self, session: SessionT) -> None:
        """Run a query that every user may run."""

    def set_own_password(
        self, session: SessionT, current: str, password: str, pending_works: Callable[[], bool]
    ) -> None:
        """Give the session's own user the password, on all its accounts; the old one stays valid if possible.

        :param current: the password by which the session logged in, which the server may ask for.
        :param pending_works: returns whether the password logs in already; called if setting it twice has another
            effect than setting it once.
        :raises PasswordRejected: the database's policy rejects the password.
        :raises Refused: only the owner can resolve what stands in the way.
        """

    def clone_name(self, user: str) -> str:
        """Return the name of the other of two alternating users.

        :raises Refused: the name is too long for the engine.
        """

    def inspect_other(self, session: SessionT, user: str) -> str | None:
        """As an administrator, return the statement that sets a user's password, with the password left out.

        :return: None if there is no such user.
        :raises Refused: only the owner can resolve what stands in the way.
        """

    def sessions(self, session: SessionT, users: Sequence[str]) -> list[OpenSession]:
        """Return the other sessions of these users, oldest first, as far as the session's user may see them."""

    def set_other_password(self, session: SessionT, base: str, user: str, password: str) -> None:
        """As an administrator, give `user` the password: `base` itself, or its clone, which gets the rights of `base`.

        No former password of `user` stays valid.

        :raises PasswordRejected: the database's policy rejects the password.
        :raises Refused: only the owner can resolve what stands in the way.
        """


def base_name(user: str) -> str:
    """Return the first of two alternating users."""
    return user.removesuffix(CLONE)
