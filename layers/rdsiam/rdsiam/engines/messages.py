"""Words that the messages of all engines share."""

from collections.abc import Sequence

#: Maximum number of names that a message lists.
_NAMED = 3
#: Maximum length of a server's answer, and of its end, which says where the server failed.
_LONGEST, _END = 1_000, 300


def listed(names: Sequence[str]) -> str:
    """Return names for a message: the first three, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def one_line(answer: str) -> str:
    """Return a server's answer as one line of printable characters; a long one loses its middle.

    A function of an owner may raise an error of any length, with control characters of terminals.
    """
    line = " ".join("".join(character if character.isprintable() else " " for character in answer).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - _END - 3]} … {line[-_END:]}"
