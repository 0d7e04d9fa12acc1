"""One run over the policies of a database's roles: what access.yaml declares, and what the roles have room for."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database
from rdsiam.core.changes import MissingPart
from rdsiam.core.counts import counted
from rdsiam.policies.iam_policies import ConnectPolicies
from rdsiam.policies.role_policies import RolePlan, RolePolicies
from rdsiam.policies.shards import Assignment, ConnectRoles, assign, for_new_database
from rdsiam.state.role_leases import Written

#: Maximum number of logins that a reason names.
_NAMED = 10
_QUOTA = "have AWS raise the quota L-0DA4ABF3, policies of a role, to 20, and set the stack's parameter PoliciesPerRole"
_SECOND_ROLE = f"declare a second role for some databases in access.yaml, or {_QUOTA}"
_LOWER = "set the stack's parameter PoliciesPerRole to the account's quota L-0DA4ABF3, or have AWS raise it"
_MORE_SHARDS = f"raise the stack's parameter ConnectRoleShards (10 at most), or {_QUOTA}"


@dataclass(frozen=True)
class Scope:
    """The databases whose policies are written together.

    The resource id that policies named until now may be that of a database with another name: it was renamed, or
    switched over from blue to green. Then its policies are written too, so that withdrawing the old name spares them.

    :ivar roles: ARNs of roles that hold policies for the database that was asked for, as the inventory has them.
    :ivar resource_ids: of these databases, and the one that policies named until now.
    :ivar shards: ARN of a database → the recorded shards of its vended users.
    :ivar stale: whether a `dbuser` ARN names one of these databases, or the former one.
    """

    roles: frozenset[str]
    databases: tuple[Database, ...]
    resource_ids: frozenset[str]
    shards: Mapping[str, Mapping[str, int]]
    stale: Callable[[str], bool]


@dataclass(frozen=True)
class Logins:
    """The logins that access.yaml declares for one database.

    :ivar by_role: ARN of a role that signs tokens itself → `dbuser` ARNs.
    :ivar vended: users for whom VendFunction signs.
    """

    database: Database
    by_role: Mapping[str, frozenset[str]]
    vended: frozenset[str]

    def arns(self, users: Iterable[str]) -> frozenset[str]:
        """Return the `dbuser` ARNs of these users."""
        return frozenset(self.database.connect_arn(user) for user in users)


@dataclass(frozen=True)
class Wanted:
    """The logins of all databases of a scope, each vended user in its shard of ConnectRole.

    :ivar by_role: ARN of a role → `dbuser` ARNs.
    :ivar shards: ARN of a database → the shards of its vended users.
    """

    by_role: Mapping[str, frozenset[str]]
    shards: Mapping[str, Assignment]

    def roles_of(self, logins: Logins, roles: ConnectRoles) -> frozenset[str]:
        """Return the roles with logins on one database."""
        numbers = set(self.shards[logins.database.arn].shards.values())
        return frozenset(logins.by_role) | {role for number in numbers if (role := roles.role(number))}


class Run:
    """One run over the roles of a scope: each role is read once.

    :param written: what the runs before have just written, under the leases of the roles; None for a plan.
    """

    def __init__(
        self,
        policies: ConnectPolicies,
        connect_roles: ConnectRoles,
        scope: Scope,
        logins: Sequence[Logins],
        written: Written | None = None,
    ) -> None:
        self._policies = policies
        self._connect_roles = connect_roles
        self._scope = scope
        self._logins = logins
        self._written = Written() if written is None else written
        self._read = cache(self._read_role)
        self._missing: list[MissingPart] = []

    def _read_role(self, role: str) -> RolePolicies:
        read = self._policies.read(role)
        self._written.check(role, read.prefix, read.shown)
        return read

    def assign(self) -> Wanted:
        """Return the logins of each role, each vended user in its shard."""
        by_role: dict[str, frozenset[str]] = {}
        for each in self._logins:
            for role, arns in each.by_role.items():
                by_role[role] = by_role.get(role, frozenset()) | arns
        shards: dict[str, Assignment] = {}
        for each in self._logins:
            assignment = assign(
                each.vended,
                self._scope.shards.get(each.database.arn, {}),
                self._connect_roles,
                partial(self._unplaced, each, by_role),
                self._order,
            )
            shards[each.database.arn] = assignment
            for number in set(assignment.shards.values()):
                role = self._connect_roles.arns[number - 1]
                by_role[role] = by_role.get(role, frozenset()) | each.arns(assignment.of(number))
            self._note_unplaced(each, assignment)
        return Wanted(by_role, shards)

    def _unplaced(
        self, logins: Logins, by_role: Mapping[str, frozenset[str]], number: int, users: frozenset[str]
    ) -> frozenset[str]:
        """Return those of these users for whom a shard has no room."""
        role = self._connect_roles.arns[number - 1]
        unplaced = self.plan(role, by_role.get(role, frozenset()) | logins.arns(users)).unplaced
        return frozenset(user for user in users if logins.database.connect_arn(user) in unplaced)

    def _order(self) -> list[int]:
        if len(self._connect_roles.arns) == 1:
            return [1]
        attached = {
            number: len(self._policies.attached(role)) for number, role in enumerate(self._connect_roles.arns, 1)
        }
        return for_new_database(attached, self._policies.per_role)

    def plan(self, role: str, wanted: frozenset[str]) -> RolePlan:
        """Plan the policies of a role."""
        return self._read(role).converge(self._scope.stale, wanted)

    def plans(self, wanted: Wanted) -> Mapping[str, RolePlan]:
        """Return the plan of each role; roles that only lose logins come last, as their users may get another role."""
        roles = sorted({*wanted.by_role, *self._scope.roles}, key=lambda role: (role not in wanted.by_role, role))
        return {role: self.plan(role, wanted.by_role.get(role, frozenset())) for role in roles}

    def apply(self, role: str, plan: RolePlan) -> RolePlan:
        """Make the changes of a plan, and note what was not done."""
        done = self._read(role).apply(plan, self._written.add)
        self.note(role, done)
        return done

    def note(self, role: str, plan: RolePlan) -> None:
        """Note the logins for which a role has no room."""
        if not plan.unplaced:
            return
        logins, room = _named(plan.unplaced), self._read(role).describe_room()
        remedy = _MORE_SHARDS if role in self._connect_roles.arns else _SECOND_ROLE
        if plan.quota:
            reason, remedy = f"{role}: IAM refuses a policy for {logins}: {plan.quota}", _LOWER
        else:
            reason = f"{role} has no room for {logins}: {room}"
        self._missing.append(MissingPart(role, reason, remedy))

    def _note_unplaced(self, logins: Logins, assignment: Assignment) -> None:
        if not assignment.unplaced:
            return
        count = len(self._connect_roles.arns)
        reason = (
            f"ConnectRole has no room for {_named(logins.arns(assignment.unplaced))} in its {counted(count, 'shard')}"
        )
        self._missing.append(MissingPart(logins.database.arn, reason, _MORE_SHARDS))

    @property
    def missing(self) -> tuple[MissingPart, ...]:
        """The parts that were not done, or can't be done."""
        return tuple(self._missing)


def logins_of(database: Database, users: Iterable[DeclaredUser]) -> Logins:
    """Return the declared logins: of roles that sign tokens themselves, and of vended users."""
    by_role: dict[str, set[str]] = {}
    vended = set()
    for user in users:
        for role in user.roles:
            by_role.setdefault(role, set()).add(database.connect_arn(user.name))
        if user.callers:
            vended.add(user.name)
    return Logins(database, {role: frozenset(arns) for role, arns in by_role.items()}, frozenset(vended))


def _named(arns: Collection[str]) -> str:
    """Return logins as a text."""
    logins = sorted(arn.partition(":dbuser:")[2] for arn in arns)
    more = f" and {len(logins) - _NAMED} more" if len(logins) > _NAMED else ""
    return f"{', '.join(logins[:_NAMED])}{more}"
