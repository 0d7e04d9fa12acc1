"""What a migration from a password to tokens asks of a database, whatever its engine; pairing is onboarding's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rdsiam.engines.protocols import Statement
from rdsiam.state.inventory import Ownership


@dataclass(frozen=True)
class LoginState:
    """How a user stands that is to lose its password, or has lost it.

    :ivar exists: there is such a user.
    :ivar login: it can log in, on all or some of its accounts.
    :ivar iam: it takes tokens and no password.
    :ivar keep_reason: why it has to keep its password; empty where it need not.
    :ivar locked: host patterns of accounts of it that can't log in; empty on PostgreSQL.
    """

    exists: bool
    login: bool
    iam: bool
    keep_reason: str = ""
    locked: tuple[str, ...] = ()


@dataclass(frozen=True)
class ObservedClient:
    """Sessions of a user that came the same way.

    :ivar application: what the client calls itself; empty where it says nothing, or that can't be seen.
    :ivar address: where it comes from, without the port.
    :ivar since: when the newest of them logged in, RFC 3339 in UTC; None where that can't be seen.
    """

    application: str
    address: str
    since: str | None
    sessions: int


@dataclass(frozen=True)
class Observation:
    """One look at the sessions of a user.

    :ivar logins: how many there have been since the server started; None where it doesn't count them.
    """

    clients: tuple[ObservedClient, ...]
    logins: int | None


class Migrator(Protocol):
    """The SQL of migrations of one family of engines. Instances hold no state.

    `snapshot` is what the engine's `inspect` found; its `apply` runs the statements.
    """

    #: What looks at sessions cannot see.
    blind_spots: str
    #: Why a user that was changed in place can't have its password back; empty where it can.
    irreversible: str

    def login_state(self, snapshot: Any, user: str) -> LoginState:
        """Return how a user stands."""

    def observe(self, session: Any, user: str, successor: str) -> Observation:
        """Look at the sessions of `user`.

        :param session: the manager's.
        :param successor: who replaces it, and may see what it does.
        :raises QueryFailed: the server did not let it.
        """

    def retire(self, snapshot: Any, user: str) -> list[Statement]:
        """Return what keeps `user` from logging in, its password kept, and ends its sessions."""

    def restore(self, snapshot: Any, user: str, locked: Sequence[str]) -> list[Statement]:
        """Return what lets `user` log in by the password that it had.

        :param locked: host patterns of accounts that could not log in before either.
        """

    def revert_in_place(self, snapshot: Any, user: str, accounts: Mapping[str, Ownership]) -> list[Statement]:
        """Return what takes the tokens from a user that was changed in place; its password works again.

        :param accounts: what is ours, from the inventory.
        :raises Refused: the server has not kept the password; says what to do.
        """

    def drop_successor(self, session: Any, snapshot: Any, successor: str, user: str) -> list[list[Statement]]:
        """Return the statements that drop `successor`, in their order, and give what it owns to `user`.

        :raises Refused: something would be lost with it.
        """
