"""From the policies that allow `rds-db:connect` to what is wrong with them; no I/O.

Every resource of every statement has one verdict: fine, or the one thing that is most wrong with it. Resources of one
statement with the same verdict are one finding.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rdsiam.access.model import AccessFile, DeclaredUser
from rdsiam.access.selection import select
from rdsiam.audit.suppressions import suppress
from rdsiam.aws.iam import HeldPolicy, Holder
from rdsiam.aws.iam_statements import (
    allows,
    covers_connect,
    denies,
    glob,
    is_connect,
    is_explicit,
    is_mistaken,
    keys,
    statements,
    texts,
)
from rdsiam.aws.rds import Database, ResourceIds
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.errors import AccessFileInvalid
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import SEVERITIES, Finding, Severity
from rdsiam.findings.kind import Case

_RESOURCE_ID = re.compile("(db|cluster|prx)-[A-Za-z0-9]+")
_WILDCARDS = re.compile("[*?]")
_VARIABLE = re.compile(r"\$\{[^}]*\}")
#: Keys of conditions that AWS's guide says `rds-db:connect` doesn't support; lower case, as IAM compares keys.
UNSUPPORTED = frozenset({"aws:sourceip", "aws:sourcevpc", "aws:sourcevpce", "aws:useragent", "aws:referer"})
#: Reported in public to fail (aws-cli#5271), or to work.
FAILS = frozenset({"aws:currenttime"})
WORKS = frozenset({"aws:tokenissuetime"})


@dataclass(frozen=True)
class Place:
    """What is judged: the databases of one account and region.

    :ivar connect_role: ARN of ConnectRole, which logs in as the users that are vended.
    :ivar own: ARNs of the stack's other roles.
    """

    partition: str
    region: str
    account: str
    connect_role: str | None = None
    own: frozenset[str] = frozenset()

    def arn(self, resource_id: str, user: str) -> str:
        """Return the ARN that a login needs."""
        return f"arn:{self.partition}:rds-db:{self.region}:{self.account}:dbuser:{resource_id}/{user}"


def judge_iam(
    holders: Iterable[Holder],
    resource_ids: ResourceIds,
    access: AccessFile,
    databases: Mapping[str, Database],
    place: Place,
    at: datetime,
    operators: Collection[str] = (),
    users: Mapping[str, Collection[str]] | None = None,
) -> tuple[Finding, ...]:
    """Return all that is wrong with who may log in, worst first; what access.yaml accepts is marked so.

    :param holders: from `iam_reading.holders`; each is looked at once, so that an iterator will do.
    :param databases: resource id → database, of all that are audited.
    :param operators: the stack's parameter Operators, whose roles and users may log in as anybody; `*` allowed.
    :param users: resource id → names in the database's catalogs, where they were read.
    """
    judge = _Judge(resource_ids, access, databases, place, operators, users or {})
    found = [finding for holder in holders for finding in judge.holder(holder)]
    found.sort(key=lambda one: (SEVERITIES.index(one.severity), one.kind, one.user or "", one.id))
    return suppress(found, {one.arn: select(one, None) for one in databases.values()}, access, at)


@dataclass(frozen=True)
class _Verdict:
    """What is wrong with one resource of a statement; `kind` None where nothing is.

    :ivar fixed: what to write instead; None where it has to go.
    """

    resource: str
    kind: str | None = None
    why: str = ""
    resource_id: str | None = None
    fixed: str | None = None
    anybody: bool = False


class _Judge:
    """Judges holders. What access.yaml declares is looked up once for each database."""

    def __init__(
        self,
        resource_ids: ResourceIds,
        access: AccessFile,
        databases: Mapping[str, Database],
        place: Place,
        operators: Collection[str],
        users: Mapping[str, Collection[str]],
    ) -> None:
        self._ids = resource_ids
        self._access = access
        self._databases = databases
        self._place = place
        self._operators = operators
        self._users = users
        self._declared: dict[str, Mapping[str, DeclaredUser]] = {}
        self._by_name = {arn.rpartition(":")[2]: one for one, arn in resource_ids.known.items()}

    def holder(self, holder: Holder) -> Iterator[Finding]:
        """Yield what is wrong with what a holder may."""
        denied = [one for policy in holder.policies for one in statements(policy.document) if denies(one)]
        for policy in holder.policies:
            seen: dict[str, int] = {}
            for number, statement in enumerate(statements(policy.document)):
                if not allows(statement):
                    continue
                # Not the number: it changes when a statement before it goes.
                name = str(statement.get("Sid") or json.dumps(statement.get("Action", statement.get("NotAction"))))
                seen[name] = seen.get(name, 0) + 1
                key = (policy.arn or policy.name, name, str(seen[name]))
                yield from self._statement(holder, policy, statement, number, key, denied)

    def _statement(
        self,
        holder: Holder,
        policy: HeldPolicy,
        statement: Mapping[str, Any],
        number: int,
        key: tuple[str, ...],
        denied: list[Mapping[str, Any]],
    ) -> Iterator[Finding]:
        verdicts = [self._verdict(holder, one, statement) for one in self._effective(statement, denied)]
        if holder.arn in self._place.own and _never_manager(denied, self._place):
            verdicts = [one for one in verdicts if one.kind != "wildcard-connect-policy"]
        by_kind: dict[str, list[_Verdict]] = {}
        for verdict in verdicts:
            if verdict.kind is not None:
                by_kind.setdefault(verdict.kind, []).append(verdict)
        about = {
            "holder_type": holder.type,
            "policy": policy.arn or policy.name,
            "statement": statement.get("Sid") or number,
            "boundary": holder.boundary,
        }
        condition = statement.get("Condition") or {}
        more = {
            "holder": holder,
            "policy": policy,
            "mended": self._mended(holder, policy, denied),
            "deny": self._deny(holder),
        }

        def finding(
            kind: str, resources: list[_Verdict], evidence: dict[str, Any], severity: Severity | None
        ) -> Finding:
            ids = {one.resource_id for one in resources}
            only = self._databases.get(ids.pop() or "") if len(ids) == 1 else None
            subject = (self._place.account, self._place.region, holder.arn, *key)
            case = Case(only, holder.arn, subject, about | evidence, severity=severity, more=more)
            return KINDS[kind].finding(case)

        for kind, some in sorted(by_kind.items()):
            evidence: dict[str, Any] = {"resources": sorted({one.resource for one in some})}
            severity: Severity | None = None
            if kind == "wildcard-connect-policy":
                operator = self._is_operator(holder)
                anybody = any(one.anybody for one in some)
                evidence |= {"anybody": anybody, "operator": operator, "condition": sorted(set(keys(condition)))}
                severity = "medium" if operator or not anybody else "critical"
            else:
                evidence |= {"why": sorted({one.why for one in some})}
            yield finding(kind, some, evidence, severity)
        if verdicts and condition and is_explicit(statement):
            found = {one.lower(): one for one in keys(condition)}
            bad = [found[one] for one in sorted(found.keys() & (UNSUPPORTED | FAILS))]
            state = "never-matches" if bad else "works" if found.keys() <= WORKS else "unproven"
            severity = None if bad else "low"
            evidence = {"keys": sorted(found.values()), "verdict": state, "resources": texts(statement, "Resource")}
            if state != "works":
                yield finding("condition-on-connect-policy", verdicts, evidence, severity)

    def _effective(self, statement: Mapping[str, Any], denied: list[Mapping[str, Any]]) -> list[str]:
        """Return the resources that are left of a statement after what is denied."""
        resources = texts(statement, "Resource") or ["*"]
        for deny in denied:
            excepted = texts(deny, "NotResource")
            if not excepted:
                everything = texts(deny, "Resource")
                resources = [one for one in resources if not any(_covers(pattern, one) for pattern in everything)]
                continue
            # All but these is denied: of a wildcard those remain that it matches.
            resources = [
                left
                for one in resources
                for left in (excepted if _has_wildcard(one) else [one])
                if (glob(one, left) if _has_wildcard(one) else any(glob(pattern, one) for pattern in excepted))
            ]
        return list(dict.fromkeys(resources))

    def _verdict(self, holder: Holder, resource: str, statement: Mapping[str, Any]) -> _Verdict:
        """Return the verdict about one resource."""
        kind = "wrong-connect-arn"
        mistaken = not covers_connect(statement)
        pattern = _VARIABLE.sub("*", resource)
        probe = self._place.arn("db-PROBE", MANAGER)
        parts = pattern.split(":", 5)
        literal = len(parts) == 6 and not any(_has_wildcard(one) for one in parts[:3])
        if not literal or parts[2] != "rds-db":
            if not mistaken and not literal and self._reaches(pattern):
                return _Verdict(resource, "wildcard-connect-policy", anybody=glob(resource, probe))
            if not is_explicit(statement) or _has_others(statement):
                return _Verdict(resource)  # it is about the statement's other actions
            if literal and parts[2] == "rds":
                return _Verdict(resource, kind, "`rds:` names databases to administer; logins need `rds-db:`")
            return _Verdict(resource, kind, "no ARN of a database user")
        if parts[1] != self._place.partition:
            return _Verdict(resource, kind, f"partition {parts[1]}, where databases are in {self._place.partition}")
        if not glob(parts[4], self._place.account):
            return _Verdict(resource, kind, "another account's: log in by a role of the database's account")
        if not glob(parts[3], self._place.region):
            return _Verdict(resource)  # judged in its region
        family, _, rest = parts[5].partition(":")
        if family != "dbuser" and glob(pattern, probe):
            return _Verdict(resource, "wildcard-connect-policy", anybody=glob(resource, probe))
        resource_id, slash, user = rest.partition("/")
        if family != "dbuser":
            why = f"`{family}:`, where `dbuser:` is needed"
            return self._corrected(holder, resource, why, resource_id, user)
        if not slash or not user or not resource_id:
            if "*" in rest:  # it spans the slash too
                anybody = any(glob(resource, self._place.arn(one, MANAGER)) for one in ("db-PROBE", *self._ids.known))
                return _Verdict(resource, "wildcard-connect-policy", anybody=anybody)
            return _Verdict(resource, kind, "the user is missing: `dbuser:<resource id>/<user>`")
        if mistaken:
            return self._corrected(
                holder, resource, "`rds:connect` doesn't exist; it is `rds-db:connect`", resource_id, user
            )
        anybody = glob(user, MANAGER) and pattern == resource
        if _has_wildcard(resource_id):
            if holder.arn in self._place.own and user in {MANAGER, AUDITOR}:
                return _Verdict(resource)  # as the template has it
            return _Verdict(resource, "wildcard-connect-policy", anybody=anybody)
        if not _RESOURCE_ID.fullmatch(resource_id):
            known = self._by_name.get(resource_id, "")
            why = "an identifier, where the resource id is needed"
            return self._corrected(holder, resource, why, known, user)
        if resource_id in self._ids.members:
            cluster = self._ids.members[resource_id]
            fixed = self._corrected(holder, resource, f"a member's id; logins need {cluster}", cluster, user)
            return _Verdict(resource, "member-resource-id", fixed.why, cluster, fixed.fixed)
        if resource_id not in self._ids.known:
            if parts[3] != self._place.region:
                return _Verdict(resource)  # it may be one of another region
            return _Verdict(resource, "stale-resource-id", f"{resource_id} is no database any more")
        if _has_wildcard(user):
            return _Verdict(resource, "wildcard-connect-policy", resource_id=resource_id, anybody=anybody)
        return self._known(holder, resource, resource_id, user)

    def _reaches(self, pattern: str) -> bool:
        """Tell whether a pattern whose first parts are wildcards matches a database user's ARN."""
        before, _, user = pattern.rpartition("/")
        resource_id = before.rpartition(":")[2]
        users, ids = ({made, _WILDCARDS.sub("x", text)} for made, text in ((MANAGER, user), ("db-PROBE", resource_id)))
        return any(glob(pattern, self._place.arn(one, name)) for one in ids for name in users)

    def _known(self, holder: Holder, resource: str, resource_id: str, user: str) -> _Verdict:
        """Judge a well-formed grant on a database that exists."""
        if resource_id not in self._databases:
            return _Verdict(resource)  # one that rdsiam leaves alone
        if self._wants(holder, resource_id, user):
            return _Verdict(resource, resource_id=resource_id)
        if holder.arn in self._place.own and user in {MANAGER, AUDITOR}:
            return _Verdict(resource)
        names = {*self._users.get(resource_id, ()), *self._of(resource_id)}
        same = sorted(one for one in names if one != user and one.lower() == user.lower())
        if user not in names and same:
            why = f"the database knows {same[0]}, and compares case"
            fixed = self._place.arn(resource_id, same[0]) if self._wants(holder, resource_id, same[0]) else None
            return _Verdict(resource, "user-name-case", why, resource_id, fixed)
        return _Verdict(resource, "undeclared-connect-grant", "access.yaml lets it not log in so", resource_id)

    def _corrected(self, holder: Holder, resource: str, why: str, resource_id: str, user: str) -> _Verdict:
        """Return the verdict on a wrong ARN, with the right one where access.yaml declares that."""
        wanted = bool(resource_id and user) and self._wants(holder, resource_id, user)
        fixed = self._place.arn(resource_id, user) if wanted else None
        known = resource_id if resource_id in self._databases else None
        return _Verdict(resource, "wrong-connect-arn", why, known, fixed)

    def _wants(self, holder: Holder, resource_id: str, user: str) -> bool:
        """Tell whether access.yaml lets the holder log in as that user itself."""
        declared = self._of(resource_id).get(user)
        if declared is None or holder.type != "role":
            return False
        return holder.arn in declared.roles or (holder.arn == self._place.connect_role and bool(declared.callers))

    def _of(self, resource_id: str) -> Mapping[str, DeclaredUser]:
        if resource_id not in self._declared:
            database = self._databases.get(resource_id)
            try:
                users = self._access.declared(select(database, None)) if database else ()
            except AccessFileInvalid:
                users = ()  # the database has a finding of its own; nobody is let in by an invalid file
            self._declared[resource_id] = {user.name: user for user in users}
        return self._declared[resource_id]

    def _is_operator(self, holder: Holder) -> bool:
        return any(glob(pattern, holder.arn) for pattern in self._operators)

    def _mended(self, holder: Holder, policy: HeldPolicy, denied: list[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Return the policy without all that is wrong in it; None where that would change more than logins.

        A statement that allows logins as a part of more (`*`, NotAction) can't be mended by changing it.
        """
        mended: list[Any] = []
        for statement in statements(policy.document):
            if not allows(statement):
                mended.append(statement)
                continue
            if not is_explicit(statement) or "NotResource" in statement:
                if any(self._verdict(holder, one, statement).kind for one in self._effective(statement, denied)):
                    return None
                mended.append(statement)
                continue
            others = [one for one in texts(statement, "Action") if not is_connect(one) and not is_mistaken(one)]
            verdicts = [self._verdict(holder, one, statement) for one in texts(statement, "Resource")]
            good = [one.resource if one.kind is None else one.fixed for one in verdicts]
            left = list(dict.fromkeys(one for one in good if one is not None))
            if others:
                mended.append({**statement, "Action": others})
                left = [one for one in left if ":dbuser:" in one]
            if left:
                named = {"Sid": statement["Sid"]} if "Sid" in statement and not others else {}
                condition = statement.get("Condition") or {}
                kept = {"Condition": condition} if condition and {k.lower() for k in keys(condition)} <= WORKS else {}
                mended.append({**named, "Effect": "Allow", "Action": "rds-db:connect", "Resource": left, **kept})
        return {**policy.document, "Statement": mended}

    def _deny(self, holder: Holder) -> Mapping[str, Any]:
        """Return a policy that takes from the holder all logins but those that access.yaml gives it."""
        wanted = sorted(
            self._place.arn(one, user)
            for one in self._databases
            for user in self._of(one)
            if self._wants(holder, one, user)
        )
        what: dict[str, Any] = {"NotResource": wanted} if wanted else {"Resource": "*"}
        statement = {"Sid": "NoDatabaseLogins", "Effect": "Deny", "Action": "rds-db:connect", **what}
        return {"Version": "2012-10-17", "Statement": [statement]}


def _has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


def _has_others(statement: Mapping[str, Any]) -> bool:
    """Tell whether the statement has actions that are not about logins to databases."""
    return any(not one.lower().startswith("rds-db:") and not is_mistaken(one) for one in texts(statement, "Action"))


def _covers(pattern: str, other: str) -> bool:
    """Tell whether a pattern matches all that another matches; `?` stands for one character, never for a `*`."""
    return glob(pattern, other) and not ("?" in pattern and "*" in other)


def _never_manager(denied: list[Mapping[str, Any]], place: Place) -> bool:
    """Tell whether logins as rdsiam's own users are denied: then a role of ours may be anybody else."""
    patterns = [pattern for one in denied for pattern in texts(one, "Resource")]
    return all(any(_covers(pattern, place.arn("*", user)) for pattern in patterns) for user in (MANAGER, AUDITOR))
