"""Tables for people: aligned columns that fit the terminal by what matters in them, with colours if they help.

In a file or a pipe every cell is complete. On a terminal that is too narrow, ARNs are shortened to names, then the
columns that matter least are left out, and then the last column continues on further lines. Only a name that is wider
than that is cut. A line on stderr says what is missing.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO
from unicodedata import combining, east_asian_width

#: Shortest width of a column that continues on further lines beside the others.
_BESIDE = 24
#: Least width to which a column is cut.
_LEAST = 6
_GAP = "  "
_ARN = re.compile(r"arn:[^:\s]*:[^:\s]*:[^:\s]*:[^:\s]*:(\S+)")
#: Columns whose words have colours.
_COLOURED = {"severity", "state", "status", "outcome"}
_RED, _YELLOW, _GREEN = "31", "33", "32"
_COLOURS: Mapping[str, str] = {
    **dict.fromkeys(("critical", "high", "FAIL", "failed", "failing", "stuck", "refused", "denied"), _RED),
    **dict.fromkeys(("medium", "UNKNOWN", "overdue", "initial", "incomplete", "malformed"), _YELLOW),
    **dict.fromkeys(("OK", "allowed"), _GREEN),
}


def width(text: str) -> int:
    """Return the number of a terminal's columns that a text takes."""
    return sum(2 if east_asian_width(c) in "WF" else 0 if combining(c) else 1 for c in text)


def coloured(word: str, stream: IO[str]) -> str:
    """Return a word in its colour if the stream is a terminal and the user wants colours (https://no-color.org)."""
    colour = _COLOURS.get(word)
    if colour is None or not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return word
    return f"\x1b[{colour}m{word}\x1b[0m"


@dataclass
class _Column:
    """A column, with the width that it gets."""

    name: str
    cells: list[str]

    @property
    def natural(self) -> int:
        return max(width(self.name), *map(width, self.cells))


def lines(
    rows: Sequence[Sequence[str]], header: Sequence[str], least: Sequence[str], stream: IO[str]
) -> tuple[list[str], list[str]]:
    """Return the lines of a table, and the names of columns that are left out or cut.

    :param rows: printable texts, at least one row. Columns without any text are left out.
    :param least: columns that a narrow terminal leaves out, the least important first.
    :param stream: to write to; its width counts if it is a terminal.
    """
    columns = [_Column(name, list(cells)) for name, cells in zip(header, zip(*rows, strict=True), strict=True)]
    columns = [column for column in columns if any(column.cells)] or columns
    if not stream.isatty():
        return list(_rendered(columns, [column.natural for column in columns], None, stream)), []
    room = shutil.get_terminal_size().columns
    missing: list[str] = []
    if _total(columns) > room:
        for column in columns:
            if column.name in least:  # it is complete or left out
                continue
            column.cells = [_short(cell) for cell in column.cells]
    for name in least:
        leaving = [column for column in columns if column.name == name]
        if _total(columns) <= room or len(columns) == 1:
            break
        columns = [column for column in columns if column not in leaving]
        missing += [column.name for column in leaving]
    widths = [column.natural for column in columns]
    missing += _cut(columns, widths, room)
    return list(_rendered(columns, widths, room, stream)), missing


def _short(cell: str) -> str:
    """Return the name if the cell is an ARN: of a function with its alias, of a role with its kind.

    An ARN inside a sentence or a statement stays, as it may be copied.
    """
    arn = _ARN.fullmatch(cell)
    return cell if arn is None else arn[1].partition(":")[2] or arn[1]


def _total(columns: Sequence[_Column]) -> int:
    return sum(column.natural for column in columns) + len(_GAP) * (len(columns) - 1)


def _cut(columns: Sequence[_Column], widths: list[int], room: int) -> list[str]:
    """Narrow the widest columns but the last until they fit, and return the names of those that are cut."""
    while len(widths) > 1 and sum(widths[:-1]) + len(_GAP) * (len(widths) - 2) > room:
        widest = max(range(len(widths) - 1), key=lambda number: widths[number])
        if widths[widest] <= _LEAST:
            break
        widths[widest] -= 1
    return [column.name for column, given in zip(columns, widths, strict=True) if given < column.natural]


def _rendered(columns: Sequence[_Column], widths: Sequence[int], room: int | None, stream: IO[str]) -> Iterator[str]:
    names = [column.name.upper() for column in columns]
    for number, row in enumerate([names, *zip(*(column.cells for column in columns), strict=True)]):
        cells = [_fit(cell, given) for cell, given in zip(row[:-1], widths, strict=False)]
        if number:
            cells = [
                cell.replace(text, coloured(text, stream), 1) if column.name in _COLOURED and text else cell
                for cell, text, column in zip(cells, row, columns, strict=False)
            ]
        yield from _with_last(_GAP.join(cells), row[-1], sum(widths[:-1]) + len(_GAP) * (len(columns) - 1), room)


def _with_last(start: str, last: str, indent: int, room: int | None) -> Iterator[str]:
    """Yield the line of a row, and the further lines that its last cell takes."""
    if room is None or indent + width(last) <= room:
        yield f"{start}{_GAP if start else ''}{last}".rstrip()
        return
    if room - indent < max(_BESIDE, *map(width, last.split(" "))):
        if start:
            yield start.rstrip()
        indent, start = 4, ""
    first, *others = wrapped(last, max(room - indent, 1))
    yield (f"{start}{_GAP}{first}" if start else _indented(first, indent, room)).rstrip()
    yield from (_indented(part, indent, room).rstrip() for part in others)


def _indented(part: str, indent: int, room: int) -> str:
    """Return a further line of a cell: a word that is too long begins further to the left."""
    return " " * max(min(indent, room - width(part)), 0) + part


def wrapped(text: str, room: int) -> Iterator[str]:
    """Yield lines of a text, broken at spaces only: a word that is too long stays one, as it may be copied."""
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if width(joined) <= room:
            line = joined
            continue
        if line:
            yield line
        line = word
    yield line


def _fit(cell: str, given: int) -> str:
    if width(cell) <= given:
        return cell + " " * (given - width(cell))
    kept = cell
    while width(kept) > given - 1:
        kept = kept[:-1]
    return f"{kept}…" + " " * (given - 1 - width(kept))
