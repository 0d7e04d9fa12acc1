"""The part of an audit's report about one database: its entry, its findings, and the names of its users."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rdsiam.audit.drift import NO_DRIFT, Drift, Login
from rdsiam.engines.facts import Stage
from rdsiam.findings.finding import Finding
from rdsiam.report.document import DatabaseLine, Severities
from rdsiam.state.migrations import MigrationState
from rdsiam.state.schemas import OpenedSchemas

#: Whether a database was read. Replicas and proxies have no users of their own: the audit reads the users of a
#: replica's source and of a proxy's targets.
Read = Literal["audited", "unknown", "replica", "proxy"]


@dataclass(frozen=True)
class AccountCounts:
    """Numbers of accounts by the way they log in.

    The accounts of the system, of the master user, of rdsiam and of classic proxies are not counted. A classic proxy
    takes the passwords of users from secrets.

    :ivar iam: can log in by token only.
    :ivar password: can log in with a password, with or without IAM.
    :ivar unusable: can't log in at all, such as a locked account.
    """

    total: int = 0
    iam: int = 0
    password: int = 0
    unusable: int = 0


@dataclass(frozen=True)
class MigrationProgress:
    """The migration of one user from its password to tokens.

    :ivar successor: the user that logs in by token; the same user if it is changed in place.
    :ivar since: when the migration reached its state.
    :ivar until: when the user is retired if nobody logs in as that user before.
    """

    user: str
    successor: str
    state: MigrationState | None
    since: str
    until: str | None


@dataclass(frozen=True)
class DatabaseEntry:
    """One database of the report.

    :ivar stage: the stage at which reading the database failed; None if the database was read.
    :ivar cause: why reading failed.
    :ivar schemas: schemas that levels open, as the last onboarding found them.
    :ivar seconds: duration of the database's audit.
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
    schemas: tuple[OpenedSchemas, ...]
    seconds: float

    def line(self, findings: Severities) -> DatabaseLine:
        """Return the entry as an element of `databases` in the JSON report.

        :param findings: numbers of the database's findings by severity.
        """
        line: DatabaseLine = {**self.to_json(), "findings": findings}  # type: ignore[typeddict-item]
        return line

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        migrations = [asdict(migration) for migration in self.migrations]
        return asdict(self) | {"migrations": migrations, "schemas": [opened.to_json() for opened in self.schemas]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DatabaseEntry":
        """Return the entry from which `to_json` made this JSON."""
        migrations = tuple(MigrationProgress(**migration) for migration in data["migrations"])
        schemas = tuple(map(OpenedSchemas.from_json, data["schemas"]))
        accounts = AccountCounts(**data["accounts"])
        return cls(**{**data, "accounts": accounts, "migrations": migrations, "schemas": schemas})


@dataclass(frozen=True)
class DatabasePart:
    """The result of auditing one database.

    :ivar users: names of all users in the database's catalogs, sorted; None if the database could not be read.
    :ivar drift: differences after which the database is onboarded again.
    :ivar logins: the logins that onboarding gave to roles.
    """

    entry: DatabaseEntry
    findings: tuple[Finding, ...]
    users: tuple[str, ...] | None
    drift: Drift = NO_DRIFT
    logins: tuple[Login, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "database": self.entry.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
            "users": None if self.users is None else list(self.users),
            "drift": self.drift.to_json(),
            "logins": [asdict(login) for login in self.logins],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DatabasePart":
        """Return the part from which `to_json` made this JSON."""
        findings = tuple(Finding.from_json(finding) for finding in data["findings"])
        users = None if data["users"] is None else tuple(data["users"])
        logins = tuple(Login(**login) for login in data["logins"])
        return cls(DatabaseEntry.from_json(data["database"]), findings, users, Drift.from_json(data["drift"]), logins)
