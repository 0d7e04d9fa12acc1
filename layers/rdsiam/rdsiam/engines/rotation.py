"""What a rotation asks of a database, whatever its engine: all SQL of rotation lives behind this protocol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rdsiam.access.rotation import CLONE
from rdsiam.aws.rds import Database
from rdsiam.engines.logins import Login
from rdsiam.errors import ConnectionFailed, RdsiamError

#: Where administrators log in on PostgreSQL, whose roles are the same in all databases: other databases belong to
#: tenants, who say how a session begins there.
ADMINISTRATORS_DATABASE = "postgres"


class PasswordRejected(RdsiamError):
    """The database's own policy does not take this password: another one may do."""

    code = "password-rejected"


class ChangeFailed(RdsiamError):
    """A statement of a rotation failed. The message has the server's code and cause, never the statement."""

    code = "change-failed"

    def __init__(self, server_code: str, cause: str) -> None:
        super().__init__(f"the database answered {server_code} {cause}".rstrip())
        self.server_code = server_code


@dataclass(frozen=True)
class OpenSession:
    """A session of somebody else's, as the server shows it.

    :ivar application: as the client calls itself; None where the server does not say.
    :ivar address: the client's, or the proxy's that it came by; None where the server does not say.
    :ivar since: when it logged in, RFC 3339; None where the server does not say.
    """

    user: str
    application: str | None
    address: str | None
    since: str | None


class Rotator(Protocol):
    """The SQL of rotation of one family of engines. Instances hold no state."""

    #: What `sessions` can't say on these servers.
    blind_spots: str

    def connect(self, database: Database, login: Login, name: str | None) -> Any:
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

    def inspect_other(self, session: Any, user: str) -> str | None:
        """As an administrator, return the statement that would set a user's password, without that.
        :return: None where there is no such user.

        :raises Refused: only the owner can settle what stands in the way.
        """

    def sessions(self, session: Any, users: Sequence[str]) -> list[OpenSession]:
        """Return the sessions of these users but this one, oldest first, as far as the session's user may see them."""

    def set_other_password(self, session: Any, base: str, user: str, password: str) -> None:
        """As an administrator, give `user` the password: `base` itself, or its clone, which gets all that `base` may.

        :raises PasswordRejected: the database's policy does not take it.
        :raises Refused: only the owner can settle what stands in the way.
        """


def base_name(user: str) -> str:
    """Return the first of two users that take turns."""
    return user.removesuffix(CLONE)
