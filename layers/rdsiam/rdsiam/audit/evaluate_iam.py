"""Evaluation of the IAM policies that allow `rds-db:connect`; no I/O.

A holder is an IAM user, group or role with such a policy. Each resource of each statement gets one verdict (see
`iam_rules`). Resources of one statement that have the same kind of problem become one finding.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from rdsiam.access.model import AccessFile
from rdsiam.access.selection import select
from rdsiam.audit.deployment import Deployment
from rdsiam.audit.iam_corrections import WORKING_KEYS, corrected_statement, deny_all_but
from rdsiam.audit.iam_grants import Grant, Resource, Verdict, has_wildcard
from rdsiam.audit.iam_logins import DeclaredLogins, Fleet
from rdsiam.audit.iam_rules import WILDCARD, evaluate
from rdsiam.audit.lost_logins import LostLogins
from rdsiam.audit.suppressions import suppress
from rdsiam.aws.iam import HeldPolicy, Holder
from rdsiam.aws.iam_statements import allows, denies, glob, is_explicit, keys, statements, texts
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import Finding, Severity, worst_first
from rdsiam.findings.kind import Case, PolicyChange

#: Condition keys that `rds-db:connect` doesn't support, according to AWS's guide; lower case, since IAM ignores case.
_UNSUPPORTED_KEYS = frozenset({"aws:sourceip", "aws:sourcevpc", "aws:sourcevpce", "aws:useragent", "aws:referer"})
#: Condition keys that fail according to a public report (aws-cli#5271).
_FAILING_KEYS = frozenset({"aws:currenttime"})


def evaluate_iam(
    holders: Iterable[Holder], access: AccessFile, fleet: Fleet, deployment: Deployment, at: datetime
) -> tuple[Finding, ...]:
    """Return the findings about IAM policies, worst first; findings that access.yaml accepts are marked as suppressed.

    :param holders: see `aws.iam.holders`; read once.
    :param at: time of the audit, with a time zone.
    """
    declared = DeclaredLogins(access, fleet, deployment)
    lost = LostLogins(fleet, deployment)
    findings: list[Finding] = []
    for holder in holders:
        findings += _Evaluation(holder, fleet, deployment, declared).findings()
        lost.look_at(holder)
    findings += lost.findings()
    databases = {database.arn: select(database, None) for database in fleet.databases.values()}
    return suppress(sorted(findings, key=worst_first), databases, access, at)


@dataclass(frozen=True)
class _Statement:
    """A statement that allows logins.

    :ivar number: the statement's position in the policy, from 0.
    :ivar key: identifies the statement from run to run: the policy, the statement's Sid or actions, and a count among
        statements with the same. The number is no part of it: it changes if another statement is removed.
    """

    policy: HeldPolicy
    document: Mapping[str, Any]
    number: int
    key: tuple[str, ...]

    @property
    def condition(self) -> Mapping[str, Any]:
        return self.document.get("Condition") or {}


@dataclass(frozen=True)
class _Evaluation:
    """The evaluation of one holder's policies."""

    holder: Holder
    fleet: Fleet
    deployment: Deployment
    declared: DeclaredLogins

    def findings(self) -> Iterator[Finding]:
        """Yield the findings of all statements."""
        for statement in self._statements():
            yield from self._of_statement(statement)

    def _statements(self) -> Iterator[_Statement]:
        for policy in self.holder.policies:
            counts: dict[str, int] = {}
            for number, document in enumerate(statements(policy.document)):
                if not allows(document):
                    continue
                name = str(document.get("Sid") or json.dumps(document.get("Action", document.get("NotAction"))))
                counts[name] = counts.get(name, 0) + 1
                key = (policy.arn or policy.name, name, str(counts[name]))
                yield _Statement(policy, document, number, key)

    @cached_property
    def _denials(self) -> list[Mapping[str, Any]]:
        """The holder's statements that deny logins under no condition."""
        return [
            statement
            for policy in self.holder.policies
            for statement in statements(policy.document)
            if denies(statement)
        ]

    def _of_statement(self, statement: _Statement) -> Iterator[Finding]:
        verdicts = self._verdicts(statement.document)
        by_kind: dict[str, list[Verdict]] = {}
        for verdict in verdicts:
            if verdict.kind is not None:
                by_kind.setdefault(verdict.kind, []).append(verdict)
        for kind, of_kind in sorted(by_kind.items()):
            yield self._of_resources(kind, statement, of_kind)
        if verdicts and statement.condition and is_explicit(statement.document):
            yield from self._of_condition(statement, verdicts)

    def _verdicts(self, statement: Mapping[str, Any]) -> list[Verdict]:
        """Return the verdicts on the resources that a statement allows and no other statement denies.

        Wildcards of the stack's roles are right if these roles are denied the users of rdsiam.
        """
        verdicts = [self._verdict(resource, statement) for resource in self._not_denied(statement)]
        if self.holder.arn in self.deployment.stack_roles and self._denies_own_users:
            return [verdict for verdict in verdicts if verdict.kind != WILDCARD]
        return verdicts

    def _verdict(self, resource: str, statement: Mapping[str, Any]) -> Verdict:
        parsed = Resource.parse(resource)
        return evaluate(Grant(parsed, self.holder, statement, self.fleet, self.deployment, self.declared))

    @cached_property
    def _denies_own_users(self) -> bool:
        """Whether the holder is denied logins as rdsiam_manager and rdsiam_auditor on all databases.

        With these denials, a role of the stack may have a policy for logins as all other users.
        """
        patterns = [pattern for denial in self._denials for pattern in texts(denial, "Resource")]
        arns = [self.deployment.user_arn("*", user) for user in (MANAGER, AUDITOR)]
        return all(any(_covers(pattern, arn) for pattern in patterns) for arn in arns)

    def _not_denied(self, statement: Mapping[str, Any]) -> list[str]:
        """Return the resources of a statement that no other statement denies."""
        resources = texts(statement, "Resource") or ["*"]
        for denial in self._denials:
            excepted = texts(denial, "NotResource")
            if excepted:
                resources = [left for resource in resources for left in _within(resource, excepted)]
            else:
                denied = texts(denial, "Resource")
                resources = [text for text in resources if not any(_covers(pattern, text) for pattern in denied)]
        return list(dict.fromkeys(resources))

    def _of_resources(self, kind: str, statement: _Statement, verdicts: list[Verdict]) -> Finding:
        evidence: dict[str, Any] = {"resources": sorted({verdict.resource for verdict in verdicts})}
        if kind != WILDCARD:
            whys = sorted({verdict.why for verdict in verdicts})
            return self._finding(kind, statement, verdicts, evidence | {"why": whys})
        operator = any(glob(pattern, self.holder.arn) for pattern in self.deployment.operators)
        any_user = any(verdict.any_user for verdict in verdicts)
        condition = sorted(set(keys(statement.condition)))
        evidence |= {"anybody": any_user, "operator": operator, "condition": condition}
        severity: Severity = "medium" if operator or not any_user else "critical"
        return self._finding(kind, statement, verdicts, evidence, severity)

    def _of_condition(self, statement: _Statement, verdicts: list[Verdict]) -> Iterator[Finding]:
        names = {key.lower(): key for key in keys(statement.condition)}
        if names.keys() <= WORKING_KEYS:
            return
        never_matches = bool(names.keys() & (_UNSUPPORTED_KEYS | _FAILING_KEYS))
        evidence = {
            "keys": sorted(names.values()),
            "verdict": "never-matches" if never_matches else "unproven",
            "resources": texts(statement.document, "Resource"),
        }
        severity: Severity | None = None if never_matches else "low"
        yield self._finding("condition-on-connect-policy", statement, verdicts, evidence, severity)

    def _finding(
        self,
        kind: str,
        statement: _Statement,
        verdicts: list[Verdict],
        evidence: Mapping[str, Any],
        severity: Severity | None = None,
    ) -> Finding:
        policy = statement.policy
        resource_ids = {verdict.resource_id for verdict in verdicts}
        database = self.fleet.databases.get(resource_ids.pop() or "") if len(resource_ids) == 1 else None
        origin = {
            "holder_type": self.holder.type,
            "policy": policy.arn or policy.name,
            "statement": statement.document.get("Sid") or statement.number,
            "boundary": self.holder.boundary,
        }
        change = PolicyChange(self.holder, policy, self._corrected(policy), self._deny)
        case = Case(
            database,
            self.holder.arn,
            (self.deployment.account, self.deployment.region, self.holder.arn, *statement.key),
            {**origin, **evidence},
            severity=severity,
            policy_change=change,
        )
        return KINDS[kind].finding(case)

    def _corrected(self, policy: HeldPolicy) -> Mapping[str, Any] | None:
        """Return the policy without its problems; None if the correction would change other permissions than logins.

        That is so for a statement that covers logins as part of a wider pattern, such as `*` or NotAction.
        """
        corrected: list[Mapping[str, Any]] = []
        for statement in statements(policy.document):
            if not allows(statement):
                corrected.append(statement)
            elif is_explicit(statement) and "NotResource" not in statement:
                verdicts = [self._verdict(resource, statement) for resource in texts(statement, "Resource")]
                corrected += corrected_statement(statement, verdicts)
            elif any(self._verdict(resource, statement).kind for resource in self._not_denied(statement)):
                return None
            else:
                corrected.append(statement)
        return {**policy.document, "Statement": corrected}

    @cached_property
    def _deny(self) -> Mapping[str, Any]:
        """A policy that denies the holder all logins except the logins that access.yaml gives the holder."""
        return deny_all_but(self.declared.arns_of(self.holder))


def _covers(pattern: str, other: str) -> bool:
    """Tell whether a pattern matches all texts that another pattern matches.

    The other pattern is matched as if it were a text. A `?` would match its `*`, which stands for more than one
    character, so patterns with these two never count.
    """
    return glob(pattern, other) and not ("?" in pattern and "*" in other)


def _within(resource: str, excepted: list[str]) -> list[str]:
    """Return the part of a resource that is still allowed if a Deny has the excepted resources as NotResource."""
    if has_wildcard(resource):
        return [exception for exception in excepted if glob(resource, exception)]
    return [resource] if any(glob(pattern, resource) for pattern in excepted) else []
