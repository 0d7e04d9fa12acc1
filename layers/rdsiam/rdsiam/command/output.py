"""Output of commands: data as a table, JSON or CSV on stdout, progress on stderr.

Text from databases and AWS is escaped, so that a terminal or a spreadsheet executes none of it.
"""

import csv
import io
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import click

Format: TypeAlias = Literal["table", "json", "csv", "text"]


def progress(line: str) -> None:
    """Write a line for people to stderr; stdout holds data only."""
    click.echo(visible(line), err=True)


def visible(text: str) -> str:
    """Escape everything unprintable: terminal sequences, line breaks, changes of direction."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True)
class Output:
    """Form of a command's data, and whether it reports progress."""

    form: Format
    quiet: bool = False

    def progress(self, line: str) -> None:
        """Write a line for people to stderr, unless --quiet is given."""
        if not self.quiet:
            progress(line)

    def show(self, rows: Iterable[Sequence[object]], header: Sequence[str], document: object = None) -> None:
        """Write rows to stdout; an empty table is left out.

        :param document: written instead of the rows if the form is JSON.
        """
        cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
        if self.form == "json":
            objects = [dict(zip(header, row, strict=True)) for row in cells]
            click.echo(json.dumps(objects if document is None else document, indent=2))
        elif self.form == "csv":
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(header)
            writer.writerows([[_no_formula(cell) for cell in row] for row in cells])
            click.echo(text.getvalue(), nl=False)
        elif cells:
            _table(cells, header)


def _table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    escaped = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *escaped, strict=True)]
    # On a terminal the last column is cut at the right edge; in a file it is complete.
    if sys.stdout.isatty():
        rest = shutil.get_terminal_size().columns - sum(width + 2 for width in widths[:-1])
        widths[-1] = min(widths[-1], max(rest, 20))
    for row in [[name.upper() for name in header], *escaped]:
        cells = [_fit(cell, width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _fit(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else cell[: width - 1] + "…"


def _no_formula(cell: str) -> str:
    """Quote a cell that a spreadsheet would run as a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
