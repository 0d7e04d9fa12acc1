"""What a run changes, as data: planned, carried out, logged and answered in one form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: The closed list of kinds of changes.
Kind = Literal[
    "enable-iam-authentication",
    "create-manager",
    "create-auditor",
    "create-user",
    "adopt-user",
    "disable-user",
    "enable-user",
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
    """

    kind: Kind
    target: str
    statement: str
    reversible: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return it as the functions' answers have it."""
        return {
            "kind": self.kind,
            "target": self.target,
            "statement": self.statement,
            "reversible": self.reversible,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Change":
        """Return what `to_json` was made from."""
        return cls(data["kind"], data["target"], data["statement"], data["reversible"])
