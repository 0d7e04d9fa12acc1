"""A finding: one problem of one database, account or policy, with its evidence and its remediation."""

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
    """One step of a finding's remediation, to be run literally.

    The steps are in order. All steps of one way are needed, and after them the finding is resolved; another way does
    the same instead. The first way is the recommended one: it interrupts no client, if there is such a way.

    :ivar language: `sql`, `cli` (a shell with the AWS CLI or the rdsiam command),
        `cloudformation` (properties to add), `access` (lines of access.yaml).
    :ivar text: statement, command or fragment. Names in it are quoted for that language.
    :ivar database: PostgreSQL database in which SQL has to be run; None if that does not matter.
    :ivar way: number of the way that the step belongs to, from 1.
    :ivar note: what to know before running the step; empty if there is nothing.
    :ivar user: whoever runs the step: a user of the database, a principal of AWS, an operator.
    :ivar client: the program that runs it: the command line of a database's client, `rdsiam`, the AWS CLI.
    """

    language: Literal["sql", "cli", "cloudformation", "access"]
    text: str
    database: str | None = None
    way: int = 1
    note: str = ""
    user: str = ""
    client: str = ""


@dataclass(frozen=True)
class Suppressed:
    """An entry of access.yaml that accepts the finding, for a reason and a time."""

    reason: str
    until: str


@dataclass(frozen=True)
class Finding:
    """One finding.

    :ivar id: the same problem has the same id in every run; on a restored copy it has another one.
    :ivar kind: id of its kind, a key of `catalogue.KINDS`.
    :ivar database: ARN of the database; None for a finding in a policy that is about several databases, or none.
    :ivar user: database user (`name`, or `name@host`); of a finding in a policy the ARN of the role, user or group.
    :ivar evidence: the fields that its kind lists; names in it may be hostile text.
    :ivar first_seen: when a run first found it, RFC 3339; None before it is compared with history.
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
        """Return the finding as the JSON report has it."""
        return asdict(self) | {"evidence": dict(self.evidence)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Finding":
        """Return the finding from which `to_json` made this JSON."""
        suppressed = data["suppressed"]
        return cls(
            **{
                **data,
                "remediation": tuple(Remediation(**step) for step in data["remediation"]),
                "suppressed": Suppressed(**suppressed) if suppressed else None,
            }
        )


def worst_first(finding: Finding) -> tuple[int, str, str, str]:
    """Return the key that sorts the findings of one database or account."""
    return SEVERITIES.index(finding.severity), finding.kind, finding.user or "", finding.id


def stable_id(kind: str, *subject: str) -> str:
    """Return the id of a finding.

    :param subject: identifies the problem: the resource id of the database (not its ARN, so that a restored copy has
        another id), the account, and whatever distinguishes two findings of one kind. Never a value that changes while
        the problem stays.
    """
    return hashlib.sha256(json.dumps([kind, *subject]).encode()).hexdigest()[:20]
