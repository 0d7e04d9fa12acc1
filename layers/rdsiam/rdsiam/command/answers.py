"""Answers of the functions that change something: changes, status, and the exit code they lead to."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Self

from rdsiam.command.errors import ExitCode
from rdsiam.command.long_lists import remarks
from rdsiam.command.output import Output, progress
from rdsiam.state.schemas import OpenedSchemas


@dataclass(frozen=True)
class Change:
    """A change that was made, or that is planned."""

    kind: str
    target: str
    statement: str


def show_reason(reason: str, code: str, remedy: str) -> None:
    """Write a reason and its code to stderr, and the remedy on a line of its own.

    Reason and remedy may have several lines, such as entries of access.yaml to copy: they stay lines.
    """
    lines = f"{reason} [{code}]" if code else reason
    for line in [*lines.splitlines(), *(f"  → {remedy}".splitlines() if remedy else [])]:
        progress(line)


@dataclass(frozen=True)
class Unfinished:
    """A part that was not done, with its reason and what to do."""

    what: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class Answer:
    """Answer of a function.

    :ivar schemas: schemas that levels open, such as `shop: app, public and 3 more`; empty if it is no plan.
    :ivar reason: why it was refused, ignored or left incomplete; empty otherwise.
    :ivar remedy: what to do about it; empty if the reason or the unfinished parts say it.
    :ivar document: the whole answer, for --output json.
    """

    status: str
    reason: str
    code: str
    remedy: str
    changes: tuple[Change, ...]
    incomplete: tuple[Unfinished, ...]
    document: Mapping[str, Any]
    schemas: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read an answer as the function gives it."""
        changes = document.get("changes") or []
        incomplete = document.get("incomplete") or []
        return cls(
            status=str(document.get("status")),
            reason=str(document.get("reason") or ""),
            code=str(document.get("code") or ""),
            remedy=str(document.get("remedy") or ""),
            changes=tuple(Change(change["kind"], change["target"], change["statement"]) for change in changes),
            incomplete=tuple(Unfinished(part["what"], part["reason"], part["remedy"]) for part in incomplete),
            document=document,
            schemas=tuple(str(OpenedSchemas.from_json(opened)) for opened in document.get("schemas") or []),
        )

    def show(self, output: Output, subject: str) -> None:
        """Write the changes to stdout, unfinished parts and the status to stderr.

        :param subject: named if the answer has no reason.
        """
        rows = [(change.kind, change.target, change.statement) for change in self.changes]
        output.show(rows, ("change", "target", "statement"), self.document)
        for line in remarks(self.document):
            progress(line)
        for opened in self.schemas:
            progress(f"schemas that levels open in {opened}")
        for part in self.incomplete:
            show_reason(f"not done: {part.what}: {part.reason}", "", part.remedy)
        # The reason of an incomplete answer repeats those of the parts.
        reason = "" if self.status == "incomplete" and self.incomplete else self.reason
        show_reason(f"{self.status}: {reason or subject}", self.code, self.remedy)

    def exit_code(self, done: Set[str]) -> ExitCode:
        """Return the exit code.

        :param done: statuses that mean success.
        """
        if self.status == "planned":
            return ExitCode.DIFFERENT if self.changes else ExitCode.OK
        if self.incomplete:
            return ExitCode.INCOMPLETE
        return ExitCode.OK if self.status in done else ExitCode.DIFFERENT
