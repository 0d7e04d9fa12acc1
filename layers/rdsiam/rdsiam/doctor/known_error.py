"""An error message of a server, driver or tool, its likely cause, and what to do."""

import re
from dataclasses import dataclass
from enum import IntEnum


class Certainty(IntEnum):
    """The certainty with which a text tells its cause."""

    CAUSE = 1
    """The text names the cause."""
    SYMPTOM = 2
    """The text has a few possible causes."""
    REMARK = 3
    """The text is general, or follows from another error that stands beside it."""


@dataclass(frozen=True)
class KnownError:
    """An error message and its explanation.

    :ivar pattern: a regular expression, searched for in upper and lower case.
    :ivar cause: the likely cause.
    :ivar fixes: what to do, the likeliest first; commands if there are any.
    """

    pattern: str
    cause: str
    fixes: tuple[str, ...]
    certainty: Certainty = Certainty.CAUSE

    def matches(self, text: str) -> bool:
        """Tell whether a text contains this error."""
        return re.search(self.pattern, text, re.IGNORECASE | re.DOTALL) is not None


def number(*codes: int) -> str:
    """Return a pattern for MySQL's error numbers as clients write them; a port or a process id isn't one."""
    return rf"(?:error|\berrno|\bcode|\(|\[|\A)\W{{0,4}}(?:{'|'.join(map(str, codes))})\b"
