"""Lines of text for people: wrapped to the width of their terminal, with everything that may be copied kept whole."""

import os
import re
import shutil
from collections.abc import Iterator
from typing import IO

from rdsiam.command import tables

#: Commands of this program, whose names distinguish `rdsiam ls` from a sentence about rdsiam.
COMMANDS = [
    "access",
    "audit",
    "completion",
    "config",
    "decisions",
    "doctor",
    "env",
    "exec",
    "ls",
    "migrate",
    "mysql",
    "onboard",
    "proxy",
    "psql",
    "reconcile",
    "report",
    "revoke",
    "rotate",
    "token",
]
_PROGRAM = (
    rf"rdsiam (?:{'|'.join(COMMANDS)})\b|aws [a-z0-9-]+ [a-z]|make [a-z]|pip install |export [A-Z]|eval |"
    r"(?:psql|mysql) [-\"']|(?:ALTER|CALL|CREATE|DROP|GRANT|REVOKE|SELECT|SET) "
)
#: Quoted text, an entry of access.yaml, or a command with its arguments, which ends with its part of the sentence.
_WHOLE = re.compile(
    rf"`[^`]*`|\{{[^}}]*\}}+|(?<![\w-])(?:{_PROGRAM})(?:\"[^\"]*\"|(?<=[ =])'[^']*'|(?![;,](?: |$)| [(\[]|[):] |\. ).)*"
)
_START = re.compile(r"( *)(→ )?")
#: In place of a space that is no place to break at. It isn't printable, so no visible text has it.
_BOUND = "\ue000"
_LEAST = 20


def lines(text: str, stream: IO[str]) -> list[str]:
    """Return the lines of a visible text; one line if the stream is no terminal.

    An indented text, such as an entry of access.yaml, stays as it is, unless an arrow marks it as advice.
    """
    start = _START.match(text)
    assert start is not None
    if not stream.isatty() or (start[1] and not start[2]) or text.startswith("- "):
        return [text]
    return list(_wrapped(text[start.end() :], start[0], columns(stream)))


def columns(stream: IO[str]) -> int:
    """Return the width of the terminal that a stream writes to."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or shutil.get_terminal_size().columns
    except OSError:
        return shutil.get_terminal_size().columns


def beside(start: str, text: str, stream: IO[str]) -> list[str]:
    """Return the lines of a text that begins beside another text, and continues below itself.

    A line that would be too long, as a command is kept whole, begins further to the left.
    """
    if not stream.isatty():
        return [f"{start}{text}"]
    return list(_wrapped(text, start, columns(stream)))


def _wrapped(text: str, start: str, room: int) -> Iterator[str]:
    indent = tables.width(start) or 2
    bound = _WHOLE.sub(lambda match: match[0].replace(" ", _BOUND), text)
    for number, part in enumerate(tables.wrapped(bound, max(room - indent, _LEAST))):
        line = part.replace(_BOUND, " ")
        lead = indent if number else len(start) - len(start.lstrip())
        line = line if number else f"{start.lstrip()}{line}"
        yield " " * max(min(lead, room - tables.width(line)), 0) + line
