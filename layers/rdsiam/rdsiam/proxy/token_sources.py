"""The origin of tokens: an API, or the caller's own credentials. The command provides both."""

from dataclasses import dataclass
from typing import Protocol

from rdsiam.proxy.contracts import EngineName, Token, UpstreamFailed

__all__ = ["Access", "Target", "TokenSource", "UpstreamBusy"]


class UpstreamBusy(UpstreamFailed):
    """The call was throttled, or had no answer; it may succeed the next time."""


@dataclass(frozen=True)
class Target:
    """The endpoint that a listener leads to.

    :ivar name: of the database, in messages: its identifier.
    :ivar users: users that the caller may be, as the API lists them; empty if no API is asked.
    """

    name: str
    host: str
    port: int
    engine: EngineName
    users: frozenset[str] = frozenset()


class TokenSource(Protocol):
    """Tokens for one database. Thread-safe; all methods but `ready` may block, and run in threads."""

    def target(self) -> Target:
        """Look up the endpoint as it is now, and the users that the caller may be.

        :raises UpstreamFailed: the database is unknown, or not allowed, or there are no credentials.
        :raises UpstreamBusy: it may succeed the next time.
        """

    def ready(self, target: Target, user: str) -> Token | None:
        """Return a fresh token if that needs no call of another service; None if `token` has to be called."""

    def token(self, target: Target, user: str) -> Token:
        """Return a fresh token.

        :raises UpstreamFailed: denied, revoked, expired credentials.
        :raises UpstreamBusy: it may succeed the next time.
        """


class Access(Protocol):
    """Decisions of the API about one database. Thread-safe; its methods block, and run in threads."""

    def users(self) -> frozenset[str]:
        """Return the users that the caller may be.

        :raises UpstreamFailed: the API did not answer.
        """

    def ended(self, user: str) -> UpstreamFailed | None:
        """Return the denial that says that the caller may no longer be this user; None if it may be.

        :raises UpstreamFailed: the API did not answer, or did not decide.
        """
