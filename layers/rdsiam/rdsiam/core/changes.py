"""Changes of a run, as data: planned, carried out, logged and answered in one form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: Who carries a statement out. `master` only if nobody else may, or nobody else finds a connection.
Authority = Literal["manager", "master"]

#: The closed list of kinds of changes.
Kind = Literal[
    "enable-iam-authentication",
    "create-manager",
    "create-auditor",
    "create-user",
    "adopt-user",
    "disable-user",
    "enable-user",
    "limit-connections",
    "disable-event",
    "end-sessions",
    "create-group",
    "grant",
    "revoke",
    "default-privileges",
    "act-as-owner",
    "setting",
    "drop-user",
    "reassign",
    "secret",
    "create-policy",
    "update-policy",
    "delete-policy",
    "attach-policy",
    "detach-policy",
    "create-secret",
    "set-password",
    "schedule-rotation",
    "cancel-rotation",
]


@dataclass(frozen=True)
class Change:
    """One change: `statement` is the SQL, or the AWS CLI's command, that makes it.

    :ivar target: what is changed: a user, a group, a database, a policy's or a role's ARN.
    :ivar reversible: whether the opposite statement gives back exactly what was.
    :ivar authority: who carries a statement of SQL out; None for a change outside a database.
    """

    kind: Kind
    target: str
    statement: str
    reversible: bool = True
    authority: Authority | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as the functions' answers have it; `authority` only if it is the master."""
        change = {
            "kind": self.kind,
            "target": self.target,
            "statement": self.statement,
            "reversible": self.reversible,
        }
        return change | ({"authority": "master"} if self.authority == "master" else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Change":
        """Return what `to_json` was made from."""
        return cls(data["kind"], data["target"], data["statement"], data["reversible"], data.get("authority"))


@dataclass(frozen=True)
class Unreached:
    """Something that a removal could not do.

    :ivar what: the database, the user or the ARN that still is as it was.
    :ivar reason: what stood in the way.
    :ivar remedy: what to do about it.
    :ivar retry: whether trying again may succeed, so that rdsiam does so by itself.
    """

    what: str
    reason: str
    remedy: str
    retry: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return it as an element of `incomplete` in the functions' answers."""
        return {"what": self.what, "reason": self.reason, "remedy": self.remedy, "retry": self.retry}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Unreached":
        """Return what `to_json` was made from."""
        return cls(data["what"], data["reason"], data["remedy"], data["retry"])
