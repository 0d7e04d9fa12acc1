"""Leases of IAM roles: one run at a time reads and writes a role's policies, since IAM has no conditional writes.

They are items of InventoryTable like the leases of servers. PolicyFunction takes them at its beginning and gives them
back at its end. Stacks of other regions have policies of their own, so they need no common lease.
"""

import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager

from rdsiam.errors import LeaseTaken
from rdsiam.state.leases import Leases

#: A quarter of a minute more than PolicyFunction may run.
SECONDS = 75
#: For this long a withdrawal that found the lease taken keeps all other runs from taking it.
_PRECEDENCE = 60
_PAUSE = 0.25


class RoleLeases:
    """Leases of roles. Whoever withdraws logins goes before whoever gives some.

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
    def hold(self, roles: Collection[str], holder: str, withdraws: bool = False) -> Iterator[None]:
        """Hold the leases of all these roles.

        :param holder: describes the run; no other run takes its lease over before it has expired.
        :param withdraws: other runs wait until this one had its turn.
        :raises LeaseTaken: another run has one of them; then none is held.
        """
        unique = f"{holder}, {secrets.token_hex(4)}"
        deadline = time.monotonic() + self._patience
        while True:
            with ExitStack() as held:
                try:
                    for role in sorted(roles):  # in one order, so that two runs never keep each other waiting
                        lease = self._leases.take_named(role, unique, SECONDS, _PRECEDENCE if withdraws else 0)
                        held.callback(self._leases.release, lease)
                except LeaseTaken:
                    if time.monotonic() >= deadline:
                        raise
                else:
                    yield
                    return
            self._pause(_PAUSE)
