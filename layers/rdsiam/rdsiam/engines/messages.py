"""Words that the messages of all engines share."""

from collections.abc import Sequence

#: Maximum number of names that a message lists.
_NAMED = 3


def listed(names: Sequence[str]) -> str:
    """Return names for a message: the first three, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
