"""Words and figures for people; hidden characters in a name become visible."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

#: Further characters that show as nothing or as a space: variation selectors, fillers, the blank of Braille.
_BLANK = re.compile("[\u115f\u1160\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
#: Control, format (bidirectional overrides, zero-width), surrogate, private, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def hidden(character: str) -> bool:
    """Tell whether a character is invisible or changes how others look. Plain spaces and letters are not hidden."""
    category = unicodedata.category(character)
    return category in _HIDDEN or (category == "Zs" and character != " ") or _BLANK.match(character) is not None


def pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Split a text into visible pieces, and marks for hidden characters.

    :return: pairs: whether the piece is a mark, and its text. Marks are `U+202E` for a hidden character, `␠` for a
        space at the start or the end of the text, and `empty` for an empty text.
    """
    if not text:
        yield True, "empty"
        return
    inside = text.strip(" ")
    before = len(text) - len(text.lstrip(" "))
    for _ in range(before):
        yield True, "␠"
    shown = ""
    for character in inside:
        if hidden(character):
            if shown:
                yield False, shown
            yield True, f"U+{ord(character):04X}"
            shown = ""
        else:
            shown += character
    if shown:
        yield False, shown
    for _ in range(len(text) - len(inside) - before):
        yield True, "␠"


def visible(text: str) -> str:
    """Return a text on one line, with `<U+202E>` in place of each hidden character."""
    return "".join(f"<{each}>" if mark else each for mark, each in pieces(text)) if text else ""


def shortened(text: str, limit: int) -> str:
    """Return a text of at most `limit` bytes in UTF-8, with `…` at the end if it was cut."""
    if len(text.encode()) <= limit:
        return text
    return text.encode()[: limit - len("…".encode())].decode(errors="ignore") + "…"


def percent(share: float | None) -> str:
    """Return a share as `87.4%`.

    Rounded down, so that 100% means all; a small share is `<0.1%`, not 0%. Without a share: `–`.
    """
    if share is None:
        return "–"
    tenths = int(share * 1000 + 1e-9)
    if tenths == 0 and share > 0:
        return "<0.1%"
    return f"{tenths // 10}%" if tenths % 10 == 0 and tenths in {0, 1000} else f"{tenths / 10:.1f}%"


def moment(time: str) -> datetime:
    """Return an RFC 3339 time as a datetime in UTC.

    :raises ValueError: the text is not a time.
    """
    return datetime.fromisoformat(time).astimezone(UTC)


def day(time: str) -> str:
    """Return a time as `2 March 2026`."""
    at = moment(time)
    return f"{at.day} {at:%B %Y}"


def days(times: Sequence[str]) -> Callable[[str], str]:
    """Return how these times are written: `2 March 2026`, or with the clock if two of them are on one day."""
    return day if len({day(time) for time in times}) == len(times) else clock


def clock(time: str) -> str:
    """Return a time as `2 March 2026, 14:05 UTC`."""
    return f"{day(time)}, {moment(time):%H:%M} UTC"
