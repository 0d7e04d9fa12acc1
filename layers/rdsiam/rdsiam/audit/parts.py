"""The part of a report that one database gives: its entry, its findings, and its users."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rdsiam.engines.facts import Stage
from rdsiam.findings.finding import Finding
from rdsiam.report.document import DatabaseLine, Severities
from rdsiam.state.migrations import MigrationState

#: Replicas and proxies have no users of their own; their source's and their targets' users are read.
Read = Literal["audited", "unknown", "replica", "proxy"]


@dataclass(frozen=True)
class AccountCounts:
    """Numbers of accounts by the way they log in; without the system's, the master, rdsiam's and classic proxies'."""

    total: int = 0
    iam: int = 0
    password: int = 0
    unusable: int = 0


@dataclass(frozen=True)
class MigrationProgress:
    """The migration of one user.

    :ivar successor: the user itself if it is changed in place.
    :ivar since: when it reached its state.
    :ivar until: when it is retired if nobody logs in as it until then.
    """

    user: str
    successor: str
    state: MigrationState | None
    since: str
    until: str | None


@dataclass(frozen=True)
class DatabaseEntry:
    """One database of the report.

    :ivar stage: how far reading came; None if the database was read.
    :ivar cause: why reading came no further.
    :ivar seconds: duration of its audit.
    """

    arn: str
    identifier: str
    engine: str
    engine_version: str
    resource_id: str
    kind: Literal["instance", "cluster", "proxy"]
    status: str
    tags: Mapping[str, str]
    host: str | None
    public: bool
    read: Read
    stage: Stage | None
    cause: str | None
    accounts: AccountCounts
    migrations: tuple[MigrationProgress, ...]
    seconds: float

    def line(self, findings: Severities) -> DatabaseLine:
        """Return the entry as the JSON report has it."""
        line: DatabaseLine = {**self.to_json(), "findings": findings}  # type: ignore[typeddict-item]
        return line

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self) | {"migrations": [asdict(migration) for migration in self.migrations]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DatabaseEntry":
        """Return the entry from which `to_json` made this JSON."""
        migrations = tuple(MigrationProgress(**migration) for migration in data["migrations"])
        return cls(**{**data, "accounts": AccountCounts(**data["accounts"]), "migrations": migrations})


@dataclass(frozen=True)
class DatabasePart:
    """All that the audit of one database gives.

    :ivar users: names of all users in its catalogs, sorted; None if it could not be read.
    """

    entry: DatabaseEntry
    findings: tuple[Finding, ...]
    users: tuple[str, ...] | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "database": self.entry.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
            "users": None if self.users is None else list(self.users),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DatabasePart":
        """Return the part from which `to_json` made this JSON."""
        findings = tuple(Finding.from_json(finding) for finding in data["findings"])
        users = None if data["users"] is None else tuple(data["users"])
        return cls(DatabaseEntry.from_json(data["database"]), findings, users)
