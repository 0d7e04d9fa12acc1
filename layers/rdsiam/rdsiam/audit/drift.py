"""Drift: differences of an onboarded database from its declaration, or from what its last onboarding saw; no I/O.

The audit starts an onboarding for a drift, once: the run records the digest of a drift that it can't end, and no other
is started until something else differs.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rdsiam.access.effective import effective_users
from rdsiam.access.model import AccessFile
from rdsiam.access.selection import SelectedDatabase
from rdsiam.access.users import DeclaredUser
from rdsiam.core import times
from rdsiam.engines.facts import ServerFacts, Unreadable
from rdsiam.errors import AccessFileInvalid
from rdsiam.findings.differences import DriftPart
from rdsiam.findings.finding import Finding
from rdsiam.state import fingerprint
from rdsiam.state.layout import Layout
from rdsiam.state.record import Record

MISSING_GRANT = "connect-grant-missing"
#: No second run is started for the same drift for this long.
_HANDLED_FOR = timedelta(days=7)


@dataclass(frozen=True)
class Login:
    """A login that onboarding gave to a role.

    :ivar role: ARN of the role that signs tokens; None for a shard of ConnectRole, which signs those that are vended.
    :ivar user: the database user.
    :ivar shard: number of the shard; 0 for another role.
    """

    role: str | None
    user: str
    shard: int = 0


@dataclass(frozen=True)
class Drift:
    """The drift of one database.

    :ivar differences: part → digest of what differs.
    :ivar handled: digest of the drift that an earlier run could not end; empty if there is none.
    """

    differences: Mapping[DriftPart, str]
    handled: str = ""

    @property
    def digest(self) -> str:
        """Identifies the drift: another drift has another digest."""
        return _digest(dict(self.differences))

    @property
    def is_new(self) -> bool:
        """Whether there is a drift that no run has handled."""
        return bool(self.differences) and self.digest != self.handled

    def with_policies(self, findings: Iterable[Finding]) -> "Drift":
        """Return the drift with the logins that roles lost, as the findings say."""
        lost = sorted(finding.id for finding in findings)
        return Drift({**self.differences, "policies": _digest(lost)}, self.handled) if lost else self

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"differences": dict(self.differences), "handled": self.handled}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Drift":
        """Return the drift from which `to_json` made this JSON."""
        return cls(data["differences"], data["handled"])


#: No drift.
NO_DRIFT = Drift({})


def applied_users(
    database: SelectedDatabase, record: Record | None, access: AccessFile
) -> tuple[DeclaredUser, ...] | None:
    """Return the effective users if the last onboarding finished and applied what access.yaml declares of them now.

    :return: None if the database is not onboarded, or if a reconcile onboards it anyway.
    """
    if record is None or not record.is_of(database) or not record.finished or record.applied is None:
        return None
    try:
        users = effective_users(access.declared(database), record.revoked)
        current = fingerprint.of_declared(users, access.rotating(database)) == record.applied.declared
    except AccessFileInvalid:
        return None
    return users if current else None


def drift_of(
    users: Iterable[DeclaredUser],
    facts: ServerFacts | Unreadable,
    record: Record,
    findings: Iterable[Finding],
    at: datetime,
) -> Drift:
    """Return the drift of a database.

    :param users: from `applied_users`.
    """
    handled = _handled(record, at)
    if not isinstance(facts, ServerFacts):
        return Drift({}, handled)
    differences: dict[DriftPart, str] = dict(_of_layout(users, record.layout, facts))
    of_users = [
        {"id": finding.id, "evidence": finding.evidence}
        for finding in findings
        if finding.suppressed is None and _is_of_onboarding(finding, record)
    ]
    if of_users:
        differences["users"] = _digest(of_users)
    return Drift(differences, handled)


def _handled(record: Record, at: datetime) -> str:
    """Return the drift for which no run is started. It expires, as the same drift may end and come again."""
    if record.handled_at is None or at - times.moment(record.handled_at) > _HANDLED_FOR:
        return ""
    return record.handled


def logins_of(users: Iterable[DeclaredUser], record: Record) -> tuple[Login, ...]:
    """Return the logins that the last onboarding gave.

    :param users: from `applied_users`.
    """
    users = tuple(users)
    roles = [Login(role, user.name) for user in users for role in user.roles]
    vended = [user.name for user in users if user.callers and user.name in record.shards]
    return (*roles, *(Login(None, name, record.shards[name]) for name in vended))


def _is_of_onboarding(finding: Finding, record: Record) -> bool:
    """Tell whether onboarding resolves a finding: access.yaml decides about the user, or rdsiam manages it."""
    label = finding.user or ""
    names = {label, label.rpartition("@")[0]}  # with the host pattern of MySQL and MariaDB, or a name with an @
    if finding.kind in {"undeclared-user", "login-not-removed"}:
        return not names.isdisjoint(record.accounts)
    return finding.kind in {"missing-user", "privileges-differ"} and names.isdisjoint(record.revoked)


def _of_layout(
    users: Iterable[DeclaredUser], recorded: Layout | None, facts: ServerFacts
) -> Iterable[tuple[DriftPart, str]]:
    """Yield the parts in which the layout differs from the recorded one, if access.yaml depends on them.

    On MySQL and MariaDB, whose objects have no owners, only `"*"` does; on PostgreSQL a level covers all schemas of a
    database.
    """
    if recorded is None or facts.layout is None:
        return
    grants = [grant for user in users for grant in user.grants]
    has_owners = bool(facts.layout.owners)
    if not grants or (not has_owners and all(grant.on != "*" for grant in grants)):
        return
    if facts.layout.databases != recorded.databases:
        yield "databases", facts.layout.databases
    if facts.layout.owners != recorded.owners:
        yield "owners", facts.layout.owners


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
