"""Figures of a report: shares by group, new findings, owners of databases."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rdsiam.core.arn import Arn, is_arn
from rdsiam.findings.finding import SEVERITIES

#: Tags that name the environment and the owner of a database, by priority; case does not matter.
ENVIRONMENT_TAGS = ("environment", "env", "stage")
OWNER_TAGS = ("owner", "team")

#: Stage at which reading ended → its meaning, to follow "because".
STAGES: Mapping[str, str] = {
    "state": "there is nothing to connect to",
    "iam": "IAM authentication is off, so the auditor cannot log in",
    "name": "its name does not resolve",
    "port": "its port does not answer",
    "tls": "there is no verified TLS",
    "login": "it refuses the auditor's login",
    "query": "its catalogs cannot be read",
    "time": "it took longer than a database may take",
}


@dataclass(frozen=True)
class Group:
    """Databases that share a property.

    :ivar accounts: number of accounts of the databases that were read.
    :ivar passwords: number of these that can still log in with a password.
    :ivar unknown: number of databases that could not be read; their accounts are in no other figure.
    """

    label: str
    databases: int = 0
    unknown: int = 0
    accounts: int = 0
    passwords: int = 0

    @property
    def share(self) -> float | None:
        """Passwordless accounts of all accounts; None if there are none."""
        return (self.accounts - self.passwords) / self.accounts if self.accounts else None


def tag(database: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Return the value of the first of these tags that a database has; empty if it has none."""
    tags = {key.lower(): value for key, value in sorted((database.get("tags") or {}).items())}
    return next((tags[key.lower()] for key in keys if tags.get(key.lower())), "")


def account(database: Mapping[str, Any]) -> str:
    """Return the AWS account of a database."""
    return Arn.parse(database["arn"]).account if is_arn(database["arn"]) else ""


def passwords(database: Mapping[str, Any]) -> int:
    """Return the number of accounts of a database that can still log in with a password; 0 if it was not read."""
    return int((database.get("accounts") or {}).get("password") or 0)


def grouped(databases: Iterable[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], str]) -> list[Group]:
    """Return databases in groups: most passwords first, then most unknown databases, then by label.

    Replicas and proxies have no users of their own and are in no group.
    """
    groups: dict[str, Group] = {}
    for database in databases:
        if database["read"] not in {"audited", "unknown"}:
            continue
        label, accounts = key(database), database.get("accounts") or {}
        group, audited = groups.get(label, Group(label)), database["read"] == "audited"
        groups[label] = Group(
            label,
            databases=group.databases + 1,
            unknown=group.unknown + (not audited),
            accounts=group.accounts + (int(accounts.get("total") or 0) if audited else 0),
            passwords=group.passwords + (passwords(database) if audited else 0),
        )
    return sorted(groups.values(), key=lambda group: (-group.passwords, -group.unknown, group.label))


def reads(report: Mapping[str, Any]) -> Mapping[str, int]:
    """Return the number of databases that are `audited`, `unknown`, `replica`, `proxy`."""
    numbers = {"audited": 0, "unknown": 0, "replica": 0, "proxy": 0}
    for database in report["databases"]:
        numbers[database["read"]] = numbers.get(database["read"], 0) + 1
    return numbers


def is_new(report: Mapping[str, Any], finding: Mapping[str, Any]) -> bool:
    """Tell whether this run is the first with a finding; on the very first run, nothing is new."""
    first = finding.get("first_seen")
    return bool(past(report)) and first is not None and first >= report["started"]


def past(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the runs before this one, oldest first."""
    runs = [run for run in report.get("trend") or [] if run["id"] != report["id"]]
    return sorted(runs, key=lambda run: (run["finished"], run["id"]))


def order(finding: Mapping[str, Any]) -> tuple[int, str, str, str, str]:
    """Return the key that sorts findings: severity, kind, database, user."""
    severity = finding["severity"]
    rank = SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
    return rank, finding["kind"], finding.get("database") or "", finding.get("user") or "", finding["id"]


def runner(step: Mapping[str, Any]) -> str:
    """Return the user and the client that run a step of a remediation."""
    return f"as {step['user']}, with {step['client']}"
