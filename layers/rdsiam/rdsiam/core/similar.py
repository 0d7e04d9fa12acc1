"""Names that were probably meant by a name that doesn't exist."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["closest", "did_you_mean"]

#: Characters of a wrong name that are compared: no key, command or database has more.
_LONGEST = 64


def closest(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return the known names that are similar to a name, the most similar first; empty if none is.

    :param most: maximum number of names.
    """
    names = {each.lower(): each for each in known}
    return [names[match] for match in get_close_matches(name[:_LONGEST].lower(), names, most)]


def did_you_mean(name: str, known: Iterable[str], most: int = 1) -> str:
    """Return `did you mean orders?`; empty if no known name is similar."""
    similar = closest(name, known, most)
    return f"did you mean {' or '.join(similar)}?" if similar else ""
