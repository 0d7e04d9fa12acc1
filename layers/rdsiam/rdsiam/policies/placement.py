"""Placement of logins in policies: exact `dbuser` ARNs in as few policies as possible, each ARN where it is; no I/O."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

#: Quota of IAM: characters of a managed policy, without white space.
MAX_POLICY = 6144


@dataclass(frozen=True)
class Placement:
    """The contents of a role's policies.

    :ivar documents: policy documents, in the order of the policies that there are; further ones are new.
    :ivar unplaced: ARNs for which there is no room.
    """

    documents: tuple[str, ...]
    unplaced: frozenset[str] = frozenset()


def place(held: Sequence[Iterable[str]], wanted: Collection[str], room: int) -> Placement:
    """Place `wanted` in policies that allow `rds-db:connect`.

    An ARN stays in the policy that has it, so that every moment of a change has it in some policy; a new ARN goes to a
    policy with room. The last policy is dissolved if the others have room for its ARNs: they are written first.

    :param held: the ARNs that each policy allows now; these stay, even if there are more policies than `room`.
    :param room: number of policies that the role may have.
    """
    bins: list[_Bin] = []
    new = set(wanted)
    for arns in held:
        bins.append(_Bin())
        for arn in new.intersection(arns):
            bins[-1].add(arn)
        new -= bins[-1].arns
    unplaced = set()
    for arn in sorted(new):
        if _put([arn], bins):
            continue
        if len(bins) < room:
            bins.append(_Bin())
            bins[-1].add(arn)
        else:
            unplaced.add(arn)
    while bins and _put(bins[-1].arns, bins[:-1]):
        bins.pop()
    return Placement(tuple(document(each.arns) for each in bins), frozenset(unplaced))


def document(arns: Iterable[str]) -> str:
    """Return the policy document that allows logins on these ARNs."""
    statement = {"Sid": "LogIn", "Effect": "Allow", "Action": "rds-db:connect", "Resource": sorted(arns)}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, separators=(",", ":"))


class _Bin:
    """A policy that is filled.

    :ivar free: characters that are left.
    """

    def __init__(self) -> None:
        self.arns: set[str] = set()
        self.free = MAX_POLICY - len(document([])) + 1

    def add(self, arn: str) -> None:
        """Add an ARN, whether there is room for it or not."""
        self.arns.add(arn)
        self.free -= _length(arn)


def _put(arns: Iterable[str], bins: Sequence[_Bin]) -> bool:
    """Put all these ARNs into the first bins with room for them; return False, and put none, if there is too little."""
    free = [each.free for each in bins]
    places: list[tuple[_Bin, str]] = []
    for arn in sorted(arns):
        length = _length(arn)
        number = next((number for number, left in enumerate(free) if left >= length), None)
        if number is None:
            return False
        free[number] -= length
        places.append((bins[number], arn))
    for each, arn in places:
        each.add(arn)
    return True


@lru_cache(10_000)
def _length(arn: str) -> int:
    """Return the number of characters of an ARN in a document, with its comma."""
    return len(json.dumps(arn)) + 1
