"""The protocol between a migration from a password to tokens and a database; onboarding creates the successor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from typing_extensions import TypeVar

from rdsiam.core.changes import MissingPart
from rdsiam.engines.protocols import Session
from rdsiam.engines.statements import Statement
from rdsiam.state.record import Ownership


@dataclass(frozen=True)
class LoginState:
    """Login of a user that migrates, or has migrated.

    :ivar exists: the user exists.
    :ivar login: the user can log in, on all or some of its accounts.
    :ivar iam: the user logs in by token and by no password.
    :ivar keep_reason: why the user must keep its password; empty if it need not.
    :ivar locked: host patterns of its accounts that can't log in; empty on PostgreSQL.
    """

    exists: bool
    login: bool
    iam: bool
    keep_reason: str = ""
    locked: tuple[str, ...] = ()


@dataclass(frozen=True)
class ObservedClient:
    """Sessions of a user from one application and address.

    :ivar application: the client's name for itself; empty if the client gives none or the server does not show it.
    :ivar address: the client's, without the port.
    :ivar since: when the newest of the sessions logged in, RFC 3339 in UTC; None if that is unknown.
    """

    application: str
    address: str
    since: str | None
    sessions: int


@dataclass(frozen=True)
class Observation:
    """The sessions of a user at one moment.

    :ivar statements: number of statements that the user's clients have run since the server started, which grows with
        each login by the client's own first and last ones; None if the server doesn't count them.
    """

    clients: tuple[ObservedClient, ...]
    statements: int | None


@dataclass(frozen=True)
class BackgroundWork:
    """Work that runs in a user's name without a client, and stops when the user can't log in.

    :ivar part: the work, and how its owner moves it to the successor.
    :ivar certain: whether it exists; False if that can't be read.
    """

    part: MissingPart
    certain: bool


SessionT_contra = TypeVar("SessionT_contra", bound=Session, default=Any, contravariant=True)
SnapshotT_contra = TypeVar("SnapshotT_contra", default=Any, contravariant=True)


class Migrator(Protocol[SessionT_contra, SnapshotT_contra]):
    """The SQL of migrations of one family of engines. Instances hold no state.

    A snapshot is the result of the engine's `inspect`; the engine's `apply` runs the statements.
    """

    #: What observations can't see.
    blind_spots: str
    #: Why a user that was changed in place can't have its password back; empty if it can.
    irreversible: str

    def login_state(self, snapshot: SnapshotT_contra, user: str, successor: str = "") -> LoginState:
        """Return how a user can log in, and whether it must keep its password.

        :param successor: the user that takes tokens in its place: the user itself if it is changed in place.
        """

    def observe(self, session: SessionT_contra, user: str, successor: str) -> Observation:
        """Observe the sessions of `user`.

        :param session: the manager's.
        :param successor: the user that replaces `user` and may see its sessions.
        :raises QueryFailed: the server's answer.
        """

    def background_work(
        self, connect: Callable[[str | None], SessionT_contra], snapshot: SnapshotT_contra, user: str, successor: str
    ) -> tuple[BackgroundWork, ...]:
        """Return the work that would stop if `user` could not log in.

        :param connect: opens a session of the manager, which is closed here.
        """

    def retire(self, snapshot: SnapshotT_contra, user: str) -> list[Statement]:
        """Return the statements that lock `user`, which keeps its password, and end its sessions."""

    def restore(self, snapshot: SnapshotT_contra, user: str, locked: Sequence[str]) -> list[Statement]:
        """Return the statements that let `user` log in by its former password.

        :param locked: host patterns of accounts that could not log in before the migration.
        """

    def revert_in_place(
        self, snapshot: SnapshotT_contra, user: str, accounts: Mapping[str, Ownership]
    ) -> list[Statement]:
        """Return the statements that end the token login of a user that was changed in place; its password works again.

        :param accounts: the managed accounts, from the inventory.
        :raises Refused: the server has not kept the password.
        """

    def drop_successor(
        self, session: SessionT_contra, snapshot: SnapshotT_contra, successor: str, user: str
    ) -> list[list[Statement]]:
        """Return the statements that drop `successor` and give its objects to `user`, in the order of their batches.

        :raises Refused: objects would be lost with it.
        """
