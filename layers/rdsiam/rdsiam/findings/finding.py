"""A finding: one thing that is wrong with one database, account or policy, with what shows it and what mends it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["critical", "high", "medium", "low"]
#: From worst to least.
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")


@dataclass(frozen=True)
class Remediation:
    """One step of mending it, to be run literally.

    A finding's remediations are steps, in their order. All steps of one way are needed, and after them it is gone;
    another way does the same by itself, instead. The first way is the one that we would take.

    :ivar language: `sql` (run by an administrator of the database), `cli` (a shell with the AWS CLI),
        `cloudformation` (properties to add), `access` (lines of access.yaml).
    :ivar text: the statement, command or fragment. Names in it are quoted for that language.
    :ivar database: where SQL has to be run, on PostgreSQL, if it matters; else None.
    :ivar way: which way the step belongs to, counted from 1.
    :ivar note: what to know before running it; empty where there is nothing.
    """

    language: Literal["sql", "cli", "cloudformation", "access"]
    text: str
    database: str | None = None
    way: int = 1
    note: str = ""


@dataclass(frozen=True)
class Suppressed:
    """An entry of access.yaml that accepts the finding, for a reason and a time."""

    reason: str
    until: str


@dataclass(frozen=True)
class Finding:
    """One finding.

    :ivar id: the same problem has the same id in every run; a restored copy is another problem.
    :ivar kind: one of `kinds.KINDS`.
    :ivar database: ARN of the database; of an IAM finding that concerns none in particular: None.
    :ivar user: database user (`name`, or `name@host`); of an IAM finding the ARN of the role, user or policy.
    :ivar evidence: what shows it: the fields that its kind lists; names may be hostile text.
    :ivar first_seen: when a run first found it, RFC 3339; None until history has been looked into.
    """

    id: str
    kind: str
    severity: Severity
    database: str | None
    user: str | None
    title: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remediation: tuple[Remediation, ...] = ()
    first_seen: str | None = None
    suppressed: Suppressed | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as the JSON report has it."""
        return asdict(self) | {"evidence": dict(self.evidence)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Finding":
        """Return what `to_json` was made from."""
        suppressed = data["suppressed"]
        return cls(
            **{
                **data,
                "remediation": tuple(Remediation(**one) for one in data["remediation"]),
                "suppressed": Suppressed(**suppressed) if suppressed else None,
            }
        )


def worst_first(finding: Finding) -> tuple[int, str, str, str]:
    """Return the key that sorts the findings of one database or account."""
    return SEVERITIES.index(finding.severity), finding.kind, finding.user or "", finding.id


def stable_id(kind: str, *subject: str) -> str:
    """Return the id of a finding.

    :param subject: what it is about: the resource id of the database, not its ARN, so that a restored copy is another;
        the account; whatever tells two findings of one kind apart. Never a value that changes while the problem stays.
    """
    return hashlib.sha256(json.dumps([kind, *subject]).encode()).hexdigest()[:20]
