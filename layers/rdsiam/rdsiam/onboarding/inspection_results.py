"""Results of inspecting a database before a run. A checkpoint holds them as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rdsiam.core.changes import Change, Refusal, Unconfirmed


@dataclass(frozen=True)
class Ignored:
    """A database that the run leaves alone.

    :ivar code: stable identifier of the reason.
    :ivar unrecorded: rdsiam sees the database for the first time, so its attributes are recorded.
    :ivar remedy: what to do; empty if there is nothing to do.
    :ivar fingerprint: of the database and its declaration, for which the next reconcile starts no run; empty if it
        does.
    """

    reason: str
    code: str
    unrecorded: bool = False
    remedy: str = ""
    fingerprint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {"result": "ignored", **vars(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Ignored":
        """Return the result from which `to_json` made this JSON."""
        return cls(data["reason"], data["code"], data["unrecorded"], data["remedy"], data["fingerprint"])


@dataclass(frozen=True)
class Absent:
    """A database that is gone, or a proxy that is a classic one now: its policies and rotations are removed.

    :ivar rotates: it has rotations.
    """

    reason: str
    code: str
    rotates: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {"result": "absent", "reason": self.reason, "code": self.code, "rotates": self.rotates}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Absent":
        """Return the result from which `to_json` made this JSON."""
        return cls(data["reason"], data["code"], data["rotates"])


@dataclass(frozen=True)
class Inspection:
    """A database that the run works on.

    :ivar database: ARN; for a cluster's writer that of the cluster.
    :ivar switch: the change that switches IAM authentication on; None if it is on, or nothing is declared.
    :ivar connects: users are made in it: it has users of its own, and IAM authentication is or will be on.
    :ivar rotates: passwords are rotated, or were.
    :ivar outdated: a rotation is recorded that access.yaml no longer declares.
    :ivar limit: the change limit refuses the run; None if it doesn't.
    :ivar unready: why nothing can connect to it yet; empty if it is ready.
    :ivar has_roles: IAM roles hold policies for it.
    :ivar leaving: users whose logins are removed.
    :ivar returned: users that were leaving and are declared again.
    :ivar version: of the access.yaml that the last finished onboarding applied; None if none finished.
    :ivar uncertain: users of an unfinished run may be leaving too: the database knows.
    :ivar finished: the last onboarding finished.
    :ivar current: the recorded fingerprint is that of the database and its declaration now.
    :ivar unrecorded: its record has to be moved, or attributes have to be recorded, before the run.
    :ivar renamed: its record is under another ARN.
    :ivar pending: the last run published that something waits for confirmation.
    :ivar waiting: a newer access.yaml declares something else, and waits for confirmation; None if none does.
    """

    database: str
    switch: Change | None
    connects: bool
    rotates: bool
    outdated: bool
    limit: Refusal | None
    unready: str
    has_roles: bool
    leaving: tuple[str, ...]
    returned: tuple[str, ...]
    version: str | None
    uncertain: bool
    finished: bool
    current: bool
    unrecorded: bool
    renamed: bool
    pending: bool
    waiting: Unconfirmed | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {
            **vars(self),
            "result": "inspection",
            "switch": self.switch.to_json() if self.switch else None,
            "limit": self.limit.to_json() if self.limit else None,
            "waiting": self.waiting.to_json() if self.waiting else None,
            "leaving": list(self.leaving),
            "returned": list(self.returned),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Inspection":
        """Return the inspection from which `to_json` made this JSON."""
        values = {name: value for name, value in data.items() if name != "result"}
        values |= {
            "switch": Change.from_json(data["switch"]) if data["switch"] else None,
            "limit": Refusal.from_json(data["limit"]) if data["limit"] else None,
            "waiting": Unconfirmed.from_json(data["waiting"]) if data["waiting"] else None,
            "leaving": tuple(data["leaving"]),
            "returned": tuple(data["returned"]),
        }
        return cls(**values)


def inspected(data: Mapping[str, Any]) -> Ignored | Absent | Inspection:
    """Return the result of `Inspector.inspect` from its checkpoint."""
    kinds: Mapping[str, type[Ignored | Absent | Inspection]] = {
        "ignored": Ignored,
        "absent": Absent,
        "inspection": Inspection,
    }
    return kinds[data["result"]].from_json(data)


@dataclass(frozen=True)
class Departures:
    """The users whose logins are removed.

    :ivar limit: the change limit refuses to remove more of them; None if it doesn't.
    """

    users: tuple[str, ...] = ()
    limit: Refusal | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {"users": list(self.users), "limit": self.limit.to_json() if self.limit else None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Departures":
        """Return the departures from which `to_json` made this JSON."""
        return cls(tuple(data["users"]), Refusal.from_json(data["limit"]) if data["limit"] else None)
