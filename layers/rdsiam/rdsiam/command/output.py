"""Shows rows as a table, JSON or CSV. Whatever comes from a database is shown so that a terminal does nothing of it."""

import csv
import io
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import click

Format = Literal["table", "json", "csv"]


def progress(line: str) -> None:
    """Tell a person what goes on: on stderr, so that data stays alone on stdout."""
    click.echo(visible(line), err=True)


def visible(text: str) -> str:
    """Return text in which nothing but printable characters is left: no escape sequence, no change of direction."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show(rows: Iterable[Sequence[Any]], header: Sequence[str], form: Format) -> None:
    """Write rows to stdout."""
    listed = [[("" if cell is None else str(cell)) for cell in row] for row in rows]
    if form == "json":
        click.echo(json.dumps([dict(zip(header, row, strict=True)) for row in listed], indent=2))
    elif form == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([[_no_formula(cell) for cell in row] for row in listed])
        click.echo(text.getvalue(), nl=False)
    else:
        _table(listed, header)


def tell_incomplete(answer: Mapping[str, Any]) -> None:
    """Tell what a run has not done, and what to do about it."""
    for part in answer.get("incomplete") or []:
        progress(f"not done: {part['what']}: {part['reason']}")
        progress(f"  → {part['remedy']}")


def _table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *shown, strict=True)]
    # The last column takes what is left of a terminal's width; into a file it is whole.
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - sum(width + 2 for width in widths[:-1])
        widths[-1] = min(widths[-1], max(room, 20))
    for row in [[name.upper() for name in header], *shown]:
        cells = [_fit(cell, width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _fit(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else cell[: width - 1] + "…"


def _no_formula(cell: str) -> str:
    """Keep a spreadsheet from running a cell."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
