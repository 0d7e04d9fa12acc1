"""Kinds of findings: title, severity, evidence, remediation; and the cases from which findings are made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rdsiam.access.selection import Attributes
from rdsiam.access.users import DeclaredUser
from rdsiam.aws.iam import HeldPolicy, Holder
from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.remediation import Privileges
from rdsiam.findings.finding import SEVERITIES, Finding, Remediation, Severity, stable_id
from rdsiam.state.escalations import Escalation

#: Where findings of a kind come from. Findings of `session` stay open while the database can't be read.
Source = Literal["rds", "session", "secrets", "iam"]

#: Properties that make an account easier to attack, or worse to lose → their weight.
EXPOSURES: Mapping[str, int] = {"privileged": 2, "public": 2, "any-host": 1, "clear-text": 1}
#: Weights from which a finding is one step, and two steps, more severe.
_STEPS = (2, 4)


@dataclass(frozen=True)
class PolicyChange:
    """Two remediations of a policy: the policy corrected, or a Deny beside it.

    :ivar corrected: the policy without all that is wrong in it; None if that would change more than logins.
    :ivar deny: a policy that denies the holder all logins but those that access.yaml gives it.
    """

    holder: Holder
    policy: HeldPolicy
    corrected: Mapping[str, Any] | None
    deny: Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """One problem, from which its kind makes a finding.

    :ivar database: None if the problem is about several databases, or about none.
    :ivar user: as in `Finding.user`.
    :ivar subject: identifies the problem among those of its kind; of a database its resource id comes first.
    :ivar evidence: the fields that the kind lists.
    :ivar accounts: the accounts that have to be changed.
    :ivar declared: the user's declaration in access.yaml; None if there is none.
    :ivar managed: onboarding may change the user: rdsiam manages it, or it is declared with `adopt: true`.
    :ivar exposure: those of `EXPOSURES` that apply.
    :ivar severity: if it differs from that of the kind.
    :ivar schemas: databases (PostgreSQL) or schemas (MySQL) of the server.
    :ivar accepted_until: the end of a suppression that a remediation proposes.
    :ivar lacking: declared privileges that a remediation has to grant.
    :ivar surplus: privileges that a remediation has to revoke.
    :ivar escalation: a way in which a user can act as an administrator.
    :ivar recorded_attributes: the database's attributes before they changed; None if none were recorded.
    :ivar policy_change: of a finding in an IAM policy.
    :ivar title: if it differs from that of the kind; with the same replacements.
    :ivar keeps_password: why the user can't migrate to tokens; empty if it can.
    :ivar successor: the user that replaces it, by access.yaml; None if there is none.
    :ivar rotates: access.yaml has its password rotated.
    :ivar secrets: the secrets that hold its password.
    :ivar unadministered: rdsiam_manager may not change it.
    """

    database: Database | None
    user: str | None
    subject: tuple[str, ...]
    evidence: Mapping[str, Any] = field(default_factory=dict)
    accounts: tuple[AccountFacts, ...] = ()
    declared: DeclaredUser | None = None
    managed: bool = False
    exposure: tuple[str, ...] = ()
    severity: Severity | None = None
    schemas: tuple[str, ...] = ()
    accepted_until: str = ""
    lacking: Privileges = ()
    surplus: Privileges = ()
    escalation: Escalation | None = None
    recorded_attributes: Attributes | None = None
    policy_change: PolicyChange | None = None
    title: str = ""
    keeps_password: str = ""
    successor: str | None = None
    rotates: bool = False
    secrets: tuple[SecretFacts, ...] = ()
    unadministered: bool = False

    @property
    def on(self) -> Database:
        """The database of a case that is about one."""
        assert self.database is not None
        return self.database


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    :ivar id: named by `suppress` in access.yaml.
    :ivar title: one line; `{user}`, `{database}` and fields of the evidence are replaced.
    :ivar severity: without exposure.
    :ivar severity_rule: how severity differs from case to case, in words.
    :ivar risk: what can happen.
    :ivar why: how the problem arises, and why it is one.
    :ivar evidence: field → its meaning.
    :ivar remedy: makes the remediation of a case; see `Remediation` for the order of steps.
    :ivar references: addresses of documentation.
    :ivar source: where findings come from.
    """

    id: str
    title: str
    severity: Severity
    severity_rule: str
    risk: str
    why: str
    evidence: Mapping[str, str]
    remedy: Callable[[Case], Sequence[Remediation]]
    references: tuple[str, ...]
    source: Source

    def finding(self, case: Case) -> Finding:
        """Return the finding of a case."""
        database = case.database
        names = {"user": case.user, "database": database.identifier if database else ""}
        return Finding(
            id=stable_id(self.id, *case.subject),
            kind=self.id,
            severity=more_severe(case.severity or self.severity, case.exposure),
            database=database.arn if database else None,
            user=case.user,
            title=(case.title or self.title).format_map({**case.evidence, **names}),
            evidence=case.evidence,
            remediation=tuple(self.remedy(case)),
        )


def more_severe(severity: Severity, exposure: Sequence[str]) -> Severity:
    """Return a severity after exposure: one step more from weight 2, two steps more from weight 4."""
    weight = sum(EXPOSURES[name] for name in exposure)
    return SEVERITIES[max(0, SEVERITIES.index(severity) - sum(weight >= step for step in _STEPS))]


#: The rule of kinds whose severity depends on exposure.
BY_EXPOSURE = (
    "One step more severe with an administrator or a public endpoint, or with both any host and no TLS; two steps with "
    "both an administrator and a public endpoint, or with one of them and both any host and no TLS."
)
#: The rule of kinds that have one severity.
FIXED = "Always the same."
