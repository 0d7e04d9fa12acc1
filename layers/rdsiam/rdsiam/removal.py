"""Removing logins from a database: sessions end, the login is locked, sessions end again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rdsiam.changes import Change, Unreached


@dataclass(frozen=True)
class Removal:
    """The result of removing logins.

    :ivar changes: what was changed, in order; or would be.
    :ivar unreached: what was not done; empty if the users can't log in and have no session.
    """

    changes: tuple[Change, ...] = ()
    unreached: tuple[Unreached, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as a checkpoint holds it."""
        return {
            "changes": [change.to_json() for change in self.changes],
            "unreached": [unreached.to_json() for unreached in self.unreached],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Removal":
        """Return what `to_json` was made from."""
        return cls(
            tuple(Change.from_json(change) for change in data["changes"]),
            tuple(Unreached.from_json(unreached) for unreached in data["unreached"]),
        )
