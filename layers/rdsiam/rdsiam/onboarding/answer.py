"""The answer of OnboardFunction for one database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rdsiam.core.changes import Change, MissingPart, Refusal, summarize
from rdsiam.state.schemas import OpenedSchemas

Status = Literal["onboarded", "unchanged", "planned", "ignored", "refused", "incomplete", "revoked"]


@dataclass(frozen=True)
class Proof:
    """The proof that one user logs in by token, and that a password is refused."""

    user: str
    token_login: bool = True
    password_refused: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return an element of `proofs` in the answer."""
        return {"user": self.user, "token_login": self.token_login, "password_refused": self.password_refused}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Proof":
        """Return the proof from which `to_json` made this JSON."""
        return cls(data["user"], data["token_login"], data["password_refused"])


@dataclass(frozen=True)
class Proofs:
    """The proofs of all users of a database."""

    users: tuple[Proof, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {"users": [proof.to_json() for proof in self.users]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Proofs":
        """Return the proofs from which `to_json` made this JSON."""
        return cls(tuple(Proof.from_json(proof) for proof in data["users"]))


@dataclass(frozen=True)
class Answer:
    """The answer of OnboardFunction, as docs/payloads.md describes it.

    :ivar database: ARN.
    :ivar status: `refused` means that nothing was changed.
    :ivar reason: why the status is not simply the success that was asked for; empty if there is nothing to say.
    :ivar code: stable identifier of the reason; empty if none applies.
    :ivar remedy: what to do; empty if there is nothing to do.
    :ivar incomplete: the parts that were not done.
    :ivar schemas: of a plan: the schemas that levels open in each PostgreSQL database.
    """

    database: str
    status: Status
    reason: str = ""
    code: str = ""
    remedy: str = ""
    changes: tuple[Change, ...] = ()
    proofs: tuple[Proof, ...] = ()
    incomplete: tuple[MissingPart, ...] = ()
    schemas: tuple[OpenedSchemas, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether the run has finished: another run can do what this one did not only if something changes."""
        return self.status in {"onboarded", "unchanged", "refused", "incomplete"}

    @classmethod
    def refused(cls, database: str, refusal: Refusal, changes: Sequence[Change] = ()) -> "Answer":
        """Return the answer of a run that changed nothing.

        :param changes: for a plan, the changes that would be made once the refusal is resolved.
        """
        return cls(database, "refused", refusal.problem, refusal.code, refusal.remedy, tuple(changes))

    def without(self, parts: Sequence[MissingPart]) -> "Answer":
        """Return the answer of a run that did not do these parts; a plan keeps its status."""
        if not parts:
            return self
        if self.status == "planned":
            return replace(self, incomplete=tuple(parts))
        return replace(
            self,
            status="incomplete",
            reason=summarize(parts, self.database),
            remedy="",  # each part has its own
            incomplete=tuple(parts),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that OnboardFunction answers with; `schemas` only if there are any."""
        schemas = {"schemas": [opened.to_json() for opened in self.schemas]} if self.schemas else {}
        return {
            "database": self.database,
            "status": self.status,
            "code": self.code,
            "reason": self.reason,
            "remedy": self.remedy,
            "changes": [change.to_json() for change in self.changes],
            "proofs": [proof.to_json() for proof in self.proofs],
            "incomplete": [part.to_json() for part in self.incomplete],
            **schemas,
        }
