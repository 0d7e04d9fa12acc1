"""The end of a program's log, for the message about its failure: the file is removed with the cloud."""

import re
from pathlib import Path

_LINES = 3
_LONGEST = 600
_PROBLEM = re.compile("error|fatal|panic|fail|cannot|can't|no space|denied|missing|not found", re.IGNORECASE)


def last_lines(log: Path) -> str:
    """Return the last lines of a log that name a problem, or else the last lines, as the end of a sentence.

    :return: for example `: initdb: error: …`; empty if the log is empty or there is none.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if _PROBLEM.search(line)]
    return f": {' | '.join((named or lines)[-_LINES:])[:_LONGEST]}" if lines else ""
