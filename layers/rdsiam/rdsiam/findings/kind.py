"""What a kind of finding is: how it is called, how bad it is, what shows it and what mends it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rdsiam.access.selection import Attributes
from rdsiam.access.users import DeclaredUser
from rdsiam.aws.iam import HeldPolicy, Holder
from rdsiam.aws.rds import Database
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.remediation import Privileges
from rdsiam.findings.finding import SEVERITIES, Finding, Remediation, Severity, stable_id
from rdsiam.state.escalations import Escalation

#: What a finding of a kind is read from. One of `session` can't be seen to be resolved while nobody can log in.
Source = Literal["rds", "session", "secrets", "iam"]

#: What makes an account easier to attack, or worse to lose, and how much it weighs.
EXPOSURES: Mapping[str, int] = {"privileged": 2, "public": 2, "any-host": 1, "clear-text": 1}
#: From this weight on a finding is one step worse; from the second on, two.
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
    """One problem, before it is a finding.

    :ivar database: what it is about; None for what is about no database in particular.
    :ivar user: as `Finding.user` has it.
    :ivar subject: what tells it from others of its kind, for its id: of a database first of all its resource id.
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

    @property
    def on(self) -> Database:
        """The database, of a kind that is always about one."""
        assert self.database is not None
        return self.database


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    :ivar id: what access.yaml's `suppress` names.
    :ivar title: one line; `{user}` and `{database}` stand for theirs.
    :ivar severity: without exposure.
    :ivar moves: what makes it better or worse, in words.
    :ivar risk: what can happen.
    :ivar why: how it comes about, and why it is wrong.
    :ivar evidence: field → what it says.
    :ivar remedy: makes what mends a case; see `Remediation` for the order.
    :ivar references: addresses of documentation.
    :ivar source: what it is read from.
    """

    id: str
    title: str
    severity: Severity
    moves: str
    risk: str
    why: str
    evidence: Mapping[str, str]
    remedy: Callable[[Case], Sequence[Remediation]]
    references: tuple[str, ...]
    source: Source

    def finding(self, case: Case) -> Finding:
        """Return the finding that a case is."""
        database = case.database
        return Finding(
            id=stable_id(self.id, *case.subject),
            kind=self.id,
            severity=worse(case.severity or self.severity, case.exposure),
            database=database.arn if database else None,
            user=case.user,
            title=self.title.format(user=case.user, database=database.identifier if database else ""),
            evidence=case.evidence,
            remediation=tuple(self.remedy(case)),
        )


def worse(severity: Severity, exposure: Sequence[str]) -> Severity:
    """Return the severity that exposure makes of another: one step worse from weight 2 on, two steps from 4 on."""
    weight = sum(EXPOSURES[one] for one in exposure)
    return SEVERITIES[max(0, SEVERITIES.index(severity) - sum(weight >= step for step in _STEPS))]


#: In words, for the kinds that exposure moves.
BY_EXPOSURE = (
    "One step worse with an administrator or a public endpoint, or with both any host and no TLS; two steps with both "
    "of the first, or one of them and both of the others."
)
FIXED = "Always the same."
