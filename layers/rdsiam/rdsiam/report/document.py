"""The report as JSON, from which all other formats are made, and its JSON Schema, made from the types below."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict

from pydantic import ConfigDict, Field, TypeAdapter, with_config

from rdsiam.engines.facts import Stage
from rdsiam.findings.differences import DriftPart
from rdsiam.findings.finding import Severity
from rdsiam.report.figures import order
from rdsiam.state.migrations import MigrationState

_STRICT = ConfigDict(extra="forbid")
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", description="RFC 3339, UTC, whole seconds.")]


@with_config(_STRICT)
class Severities(TypedDict):
    """Number of findings of each severity, without suppressed findings."""

    critical: Count
    high: Count
    medium: Count
    low: Count


@with_config(_STRICT)
class Accounts(TypedDict):
    """Numbers of accounts by the way they log in.

    The accounts of the system, of the master user, of rdsiam and of classic proxies are not counted.
    """

    total: Count
    iam: Count
    password: Annotated[Count, Field(description="Can still log in with a password, with or without IAM.")]
    unusable: Annotated[Count, Field(description="Nobody can log in as these.")]


@with_config(_STRICT)
class MigrationLine(TypedDict):
    """The migration of one user from its password to tokens."""

    user: str
    successor: Annotated[
        str, Field(description="The user that replaces it; the user itself if it is changed in place.")
    ]
    state: MigrationState
    since: Time
    until: Annotated[Time | None, Field(description="When the user is retired if nobody logs in as it until then.")]


@with_config(_STRICT)
class States(TypedDict):
    """Number of users in each state of their migration."""

    paired: Count
    proven: Count
    watching: Count
    retired: Count


@with_config(_STRICT)
class SchemasLine(TypedDict):
    """The schemas of one PostgreSQL database that levels without `schemas` open."""

    database: str
    schemas: Annotated[list[str], Field(description="The first of them, sorted.")]
    count: Count


@with_config(_STRICT)
class DatabaseLine(TypedDict):
    """One database of the fleet."""

    arn: str
    identifier: str
    engine: str
    engine_version: str
    resource_id: str
    kind: Literal["instance", "cluster", "proxy"]
    status: str
    tags: dict[str, str]
    host: str | None
    public: bool
    read: Annotated[
        Literal["audited", "unknown", "replica", "proxy"],
        Field(
            description="`unknown`: the database could not be read. Replicas and proxies have no users of their own."
        ),
    ]
    stage: Annotated[Stage | None, Field(description="How far reading came, if the database is unknown.")]
    cause: str | None
    accounts: Accounts
    findings: Severities
    migrations: list[MigrationLine]
    schemas: Annotated[list[SchemasLine], Field(description="As the last onboarding found them.")]
    seconds: float


@with_config(_STRICT)
class RemediationLine(TypedDict):
    """One step of a remediation, to be run literally."""

    language: Literal["sql", "cli", "cloudformation", "access"]
    text: str
    database: Annotated[
        str | None, Field(description="PostgreSQL database in which SQL has to be run, if that matters.")
    ]
    way: Annotated[int, Field(ge=1, description="All steps of one way are needed; another way does the same instead.")]
    note: Annotated[str, Field(description="What to know before running the step.")]
    user: Annotated[
        str, Field(description="Runs the step: a user of the database, a principal of AWS, or an operator.")
    ]
    client: Annotated[
        str, Field(description="Program for the step: a database's client as a command line, `rdsiam`, the AWS CLI.")
    ]


@with_config(_STRICT)
class SuppressedLine(TypedDict):
    """The entry of access.yaml that accepts a finding."""

    reason: str
    until: str


@with_config(_STRICT)
class FindingLine(TypedDict):
    """One finding."""

    id: Annotated[str, Field(description="The same problem has the same id in every run.")]
    kind: str
    severity: Severity
    database: Annotated[
        str | None, Field(description="ARN; null if the finding is about several databases, or about none.")
    ]
    user: Annotated[str | None, Field(description="Database user, or the ARN of an IAM role, user or policy.")]
    title: str
    evidence: dict[str, Any]
    remediation: list[RemediationLine]
    first_seen: Time | None
    suppressed: SuppressedLine | None


@with_config(_STRICT)
class ResolvedLine(TypedDict):
    """A finding of the last run that no longer exists."""

    id: str
    kind: str
    severity: Severity
    database: str | None
    user: str | None
    title: str
    first_seen: Time | None
    resolved: Time


@with_config(_STRICT)
class OnboardingLine(TypedDict):
    """An onboarding that the audit started."""

    database: Annotated[str, Field(description="ARN.")]
    differences: Annotated[
        list[DriftPart],
        Field(
            description="What differs: `databases` and schemas, `owners` of objects, `users` and their privileges, "
            "`policies` of roles."
        ),
    ]


@with_config(_STRICT)
class Summary(TypedDict):
    """The figures of a run."""

    databases: Count
    audited: Count
    unreachable: Count
    accounts: Count
    passwordless: Count
    share: Annotated[Share | None, Field(description="passwordless / accounts; null if no account was read.")]
    findings: Severities
    suppressed: Count
    new: Count
    migrations: States


@with_config(_STRICT)
class Policies(TypedDict):
    """Whether the account's IAM policies could be read, and if not, why."""

    read: bool
    cause: str | None


@with_config(_STRICT)
class TrendLine(TypedDict):
    """The figures of one run of the whole fleet."""

    id: str
    finished: Time
    share: Share | None
    accounts: Count
    findings: Severities
    unreachable: Count


@with_config(_STRICT)
class Report(TypedDict):
    """The report of one run of the audit."""

    schema_version: Literal[1]
    id: str
    started: Time
    finished: Time
    account: str
    region: str
    scope: Annotated[Literal["all", "some"], Field(description="`some`: only databases that were named.")]
    policies: Policies
    databases: list[DatabaseLine]
    findings: list[FindingLine]
    resolved: list[ResolvedLine]
    onboardings: Annotated[list[OnboardingLine], Field(description="Those that the audit started.")]
    summary: Summary
    trend: list[TrendLine]
    access_version: Annotated[
        str | None, Field(description="Version of access.yaml by which the databases were evaluated.")
    ]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the report; docs/audit-report.schema.json is a copy."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of an rdsiam audit",
        **TypeAdapter(Report).json_schema(),
    }


def json_report(report: Mapping[str, Any]) -> str:
    """Return the report as JSON on one line; the same report gives the same text in whatever order it was collected.

    The text is ASCII: hidden characters in a name are escapes, which every reader decodes.
    """
    ordered = {key: report[key] for key in Report.__annotations__ if key in report} | {
        "databases": sorted(report["databases"], key=lambda each: str(each["arn"])),
        "findings": [_finding(each) for each in sorted(report["findings"], key=order)],
        "resolved": sorted(report["resolved"], key=order),
        "onboardings": sorted(report["onboardings"], key=lambda each: str(each["database"])),
        "trend": sorted(report["trend"], key=lambda each: (each["finished"], each["id"])),
    }
    return json.dumps(ordered, ensure_ascii=True, separators=(",", ":")) + "\n"


def _finding(finding: Mapping[str, Any]) -> dict[str, Any]:
    return {**finding, "evidence": dict(sorted(finding["evidence"].items()))}
