"""Options of one onboarding: what an operator asks for and confirms."""

from collections.abc import Collection
from dataclasses import dataclass

from rdsiam.state.record import Record


@dataclass(frozen=True)
class Options:
    """Options of one onboarding.

    :ivar plan: change nothing; answer with the changes that a run would make.
    :ivar confirmed: exceed the change limit, and give what waits for confirmation.
    :ivar beyond_limit: exceed the change limit; confirm nothing else.
    :ivar drift: digest of the drift for which the audit starts the run; empty if it doesn't.
    :ivar assume_revoked: for a plan, the users to treat as revoked; None for those that the inventory records.
    """

    plan: bool = False
    confirmed: bool = False
    beyond_limit: bool = False
    assume_revoked: frozenset[str] | None = None
    drift: str = ""

    @property
    def unlimited(self) -> bool:
        """Whether the change limit may be exceeded."""
        return self.confirmed or self.beyond_limit

    def revoked(self, record: Record | None) -> Collection[str]:
        """Return the users to treat as revoked."""
        if self.assume_revoked is not None:
            return self.assume_revoked
        return record.revoked if record else ()


#: A run that confirms nothing.
DEFAULT_OPTIONS = Options()
