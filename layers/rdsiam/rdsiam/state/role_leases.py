"""Leases of IAM roles: one run at a time reads and writes a role's policies, since IAM has no conditional writes.

They are items of InventoryTable like the leases of servers. PolicyFunction takes them at its beginning and gives them
back at its end. Stacks of other regions have policies of their own, so they need no common lease.
"""

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from rdsiam.errors import LeaseTaken, RdsiamError
from rdsiam.state.leases import Lease, Leases

#: A quarter of a minute more than PolicyFunction may run.
SECONDS = 75
#: For this long a withdrawal that found the lease taken keeps all other runs from taking it.
_PRECEDENCE = 60
_PAUSE = 0.25
#: Seconds after which IAM shows every change, whoever made it; in fact it takes fewer.
_VISIBLE = 20


def policies_of(resource_id: str) -> str:
    """Return the subject of the lease of a database's policies, whatever roles have them."""
    return f"policies:{resource_id}"


class ChangesNotVisible(RdsiamError):
    """IAM doesn't show yet what the last run has written into a role's policies; it is tried again."""

    code = "changes-not-visible"


@dataclass
class Written:
    """The policies that the last runs have written: what IAM shows may be older, and is no basis for a change.

    :ivar versions: ARN of a policy → its version, 0 if it was deleted, and when it was written, in milliseconds.
    """

    versions: dict[str, tuple[int, int]] = field(default_factory=dict)
    now: Callable[[], float] = time.time

    @classmethod
    def of(cls, leases: Collection[Lease]) -> "Written":
        """Return what the last holders of these leases have written, if IAM may not show it yet.

        Whoever holds the leases of several roles notes all that it knows in each: the latest note of a policy counts.
        """
        written = cls()
        for lease in leases:
            for line in lease.note.splitlines():
                arn, version, at = line.split()
                latest = int(at) >= written.versions.get(arn, (0, 0))[1]
                if latest and written._milliseconds() - int(at) < 1000 * _VISIBLE:
                    written.versions[arn] = int(version), int(at)
        return written

    def add(self, arn: str, version: int) -> None:
        """Add a policy that this run has written."""
        self.versions[arn] = version, self._milliseconds()

    def _milliseconds(self) -> int:
        return int(1000 * self.now())

    def check(self, role: str, prefix: str, shown: Mapping[str, int]) -> None:
        """See that IAM shows what was written.

        :param prefix: of the ARNs of the role's policies.
        :param shown: ARN of an attached policy → its version.
        :raises ChangesNotVisible: it shows an older state.
        """
        for arn, (version, _) in self.versions.items():
            if arn.startswith(prefix) and (shown.get(arn, 0) < version or (version == 0 and arn in shown)):
                raise ChangesNotVisible(
                    f"IAM does not show the last change of {role} yet; this run tries again by itself"
                )

    def note(self) -> str:
        """Return this for the next holder."""
        return "\n".join(f"{arn} {version} {at}" for arn, (version, at) in sorted(self.versions.items()))


class RoleLeases:
    """Leases of roles. A run that withdraws logins takes precedence over one that adds some.

    :param patience: seconds for which `hold` tries; the caller tries again later, as a run needs a second or two.
    """

    def __init__(
        self,
        leases: Leases,
        patience: float = 1.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._leases = leases
        self._patience = patience
        self._pause = pause

    @contextmanager
    def hold(self, roles: Collection[str], holder: str, withdraws: bool = False) -> Iterator[Written]:
        """Hold the leases of all these roles, and return what the runs before have just written.

        :param holder: describes the run; no other run takes its lease over before it has expired.
        :param withdraws: other runs wait until this one had its turn.
        :raises LeaseTaken: another run has one of them; then none is held.
        """
        unique = f"{holder}, {secrets.token_hex(4)}"
        deadline = time.monotonic() + self._patience
        while True:
            leases: list[Lease] = []
            written = Written()
            with ExitStack() as held:
                try:
                    for role in sorted(roles):  # in one order, so that two runs never keep each other waiting
                        lease = self._leases.take_named(role, unique, SECONDS, _PRECEDENCE if withdraws else 0)
                        held.callback(self._release, lease, written)
                        leases.append(lease)
                except LeaseTaken:
                    if time.monotonic() >= deadline:
                        raise
                else:
                    written.versions |= Written.of(leases).versions
                    yield written
                    return
            self._pause(_PAUSE)

    def _release(self, lease: Lease, written: Written) -> None:
        """Give a lease back, with a note of what was written just now."""
        self._leases.release(lease, written.note() or lease.note)
