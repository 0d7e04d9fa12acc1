"""Output of commands: data as a table, JSON or CSV on stdout, progress on stderr.

Text from databases and AWS is escaped, so that a terminal or a spreadsheet executes none of it.
"""

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import click

from rdsiam.command import tables, wrapping
from rdsiam.report.formatting import hidden

Format: TypeAlias = Literal["table", "json", "csv", "text"]


def progress(line: str) -> None:
    """Write a line for people to stderr, wrapped to its terminal; stdout holds data only."""
    for part in wrapping.lines(visible(line), sys.stderr):
        click.echo(part, err=True)


def visible(text: str) -> str:
    """Escape everything unprintable or invisible: terminal sequences, line breaks, changes of direction, fillers."""
    return "".join(c if c.isprintable() and not hidden(c) else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True)
class Output:
    """Form of a command's data, and whether it reports progress."""

    form: Format
    quiet: bool = False

    def progress(self, line: str) -> None:
        """Write a line for people to stderr, unless --quiet is given."""
        if not self.quiet:
            progress(line)

    def show(
        self,
        rows: Iterable[Sequence[object]],
        header: Sequence[str],
        document: object = None,
        least: Sequence[str] = (),
    ) -> None:
        """Write rows to stdout; an empty table is left out, and so are columns of a table that are empty.

        :param document: written instead of the rows if the form is JSON.
        :param least: columns that a table leaves out on a narrow terminal, the least important first.
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
            shown, missing = tables.lines([[visible(cell) for cell in row] for row in cells], header, least, sys.stdout)
            for line in shown:
                click.echo(line)
            if missing:
                self.progress(f"too wide for this terminal: {', '.join(missing)}; --output json shows all")


def _no_formula(cell: str) -> str:
    """Quote a cell that a spreadsheet would run as a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
