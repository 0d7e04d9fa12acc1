"""Roles that lost logins which onboarding had given them; no I/O."""

from collections.abc import Iterator

from rdsiam.audit.deployment import Deployment
from rdsiam.audit.drift import MISSING_GRANT, Login
from rdsiam.audit.iam_logins import Fleet
from rdsiam.aws.iam import Holder
from rdsiam.aws.iam_statements import covers_connect, glob, statements, texts
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import Finding
from rdsiam.findings.kind import Case


class LostLogins:
    """The logins that onboarding gave, without those that a policy of their role allows."""

    def __init__(self, fleet: Fleet, deployment: Deployment) -> None:
        self._fleet = fleet
        self._deployment = deployment
        #: Role → the `dbuser` ARNs that it lacks, each with resource id and user.
        self._lost: dict[str, dict[str, tuple[str, str]]] = {}
        for resource_id, logins in fleet.logins.items():
            for login in logins:
                if role := self._role(login):
                    arn = deployment.user_arn(resource_id, login.user)
                    self._lost.setdefault(role, {})[arn] = (resource_id, login.user)

    def _role(self, login: Login) -> str | None:
        """Return the role that has the login; None for a shard that the stack doesn't have."""
        shards = self._deployment.connect_roles
        return login.role or (shards[login.shard - 1] if 0 < login.shard <= len(shards) else None)

    def look_at(self, holder: Holder) -> None:
        """Take out the logins that a holder's policies allow. A statement with a condition may never match."""
        lost = self._lost.get(holder.arn)
        if not lost:
            return
        for policy in holder.policies:
            for statement in statements(policy.document):
                if statement.get("Effect") != "Allow" or not covers_connect(statement) or statement.get("Condition"):
                    continue
                excepted, patterns = texts(statement, "NotResource"), set(texts(statement, "Resource"))
                wildcards = [pattern for pattern in patterns if "*" in pattern or "?" in pattern]
                for arn in list(lost):
                    named = arn in patterns or any(glob(pattern, arn) for pattern in wildcards)
                    if named or (excepted and not any(glob(pattern, arn) for pattern in excepted)):
                        del lost[arn]

    def findings(self) -> Iterator[Finding]:
        """Yield a finding for each role and database, once all holders were looked at."""
        for role, lost in sorted(self._lost.items()):
            users: dict[str, list[str]] = {}
            for resource_id, user in lost.values():
                users.setdefault(resource_id, []).append(user)
            for resource_id, names in sorted(users.items()):
                evidence = {
                    "users": sorted(names),
                    "resources": sorted(self._deployment.user_arn(resource_id, name) for name in names),
                }
                database = self._fleet.databases[resource_id]
                yield KINDS[MISSING_GRANT].finding(Case(database, role, (resource_id, role), evidence))
