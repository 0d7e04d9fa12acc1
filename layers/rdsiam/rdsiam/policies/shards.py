"""Shards of ConnectRole: a role holds the logins of some 700 vended users, so a fleet may need several such roles.

A vended user of a database has one shard, which the inventory records and VendFunction assumes. It stays there for as
long as the shard exists and has its login: more shards move nobody.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: Part of a shard's policies that new databases may take; the rest is for more users of the databases that it has.
_FOR_NEW_DATABASES = 0.8


@dataclass(frozen=True)
class ConnectRoles:
    """ConnectRole and its further shards, as many as the stack's parameter ConnectRoleShards says.

    :ivar arns: their ARNs; a shard's number is its position, from 1, which stays if the role is created again.
    """

    arns: tuple[str, ...]

    def role(self, number: int) -> str | None:
        """Return the ARN of a shard, or None if the stack doesn't have it."""
        return self.arns[number - 1] if 0 < number <= len(self.arns) else None

    @property
    def numbers(self) -> range:
        """The numbers of all shards."""
        return range(1, len(self.arns) + 1)


@dataclass(frozen=True)
class Assignment:
    """The shards of a database's vended users.

    :ivar shards: user → number of its shard.
    :ivar unplaced: users for which no shard has room.
    """

    shards: Mapping[str, int]
    unplaced: frozenset[str] = frozenset()

    def of(self, number: int) -> frozenset[str]:
        """Return the users of a shard."""
        return frozenset(user for user, shard in self.shards.items() if shard == number)


def assign(
    users: frozenset[str],
    recorded: Mapping[str, int],
    roles: ConnectRoles,
    unplaced: Callable[[int, frozenset[str]], frozenset[str]],
    order: Callable[[], Sequence[int]],
) -> Assignment:
    """Assign each vended user of a database to a shard.

    :param recorded: user → number of the shard, as the inventory has it.
    :param unplaced: returns those of the given users for whom a shard has no room; never a user whose login it has.
    :param order: returns the shards in the order in which a new database tries them; called only if a user needs it.
    """
    shards: dict[str, int] = {}
    for number in roles.numbers:
        own = frozenset(user for user in users if recorded.get(user) == number)
        if own:
            shards |= dict.fromkeys(own - unplaced(number, own), number)
    remaining = users - set(shards)
    if remaining:
        # Users of one database are together where they can be.
        for number in dict.fromkeys([*sorted(set(shards.values())), *order()]):
            if not remaining:
                break  # no shard is read that isn't needed
            own = frozenset(user for user, shard in shards.items() if shard == number)
            placed = remaining - unplaced(number, own | remaining)
            shards |= dict.fromkeys(placed, number)
            remaining -= placed
    return Assignment(shards, remaining)


def for_new_database(attached: Mapping[int, int], per_role: int) -> list[int]:
    """Return the shards in the order in which a new database tries them.

    The first shards are filled first, up to a part of their policies; beyond it, those with the fewest come first.

    :param attached: number of a shard → number of policies that it has.
    :param per_role: number of policies that a role may have.
    """
    full = math.ceil(_FOR_NEW_DATABASES * per_role)
    return sorted(attached, key=lambda number: (attached[number] if attached[number] >= full else 0, number))
