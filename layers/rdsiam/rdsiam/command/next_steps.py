"""The first remediation of the worst findings, as lines below the table of an audit."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rdsiam.command.output import visible
from rdsiam.core.arn import Arn
from rdsiam.findings.finding import SEVERITIES

#: Number of findings whose steps are shown, each of another kind.
_SHOWN = 3
#: Maximum number of lines of one step; the report has all.
_LONGEST = 8
_COLUMNS = 80


def next_steps(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the first way of the worst finding of each of the worst kinds: for each step its runner, and the step.

    The first way interrupts no client, if there is such a way.
    """
    worst: dict[str, Mapping[str, Any]] = {}
    for finding in sorted(findings, key=lambda each: SEVERITIES.index(each["severity"])):
        if not finding["suppressed"] and finding["remediation"]:
            worst.setdefault(finding["kind"], finding)
    lines = [line for finding in list(worst.values())[:_SHOWN] for line in _lines(finding)]
    return [*lines, "other ways, and those of other findings: the report"] if lines else []


def _lines(finding: Mapping[str, Any]) -> Iterator[str]:
    place = f" ({Arn.parse(finding['database']).name})" if finding["database"] else ""
    yield visible(f"to fix: {finding['title']}{place}")
    for step in finding["remediation"]:
        if step["way"] == 1:
            yield from _sentence(step)
            text = [*([step["client"]] if step["language"] == "sql" else []), *step["text"].split("\n")]
            yield from (visible(f"    {line}") for line in text[:_LONGEST])
            if len(text) > _LONGEST:
                yield f"    … {len(text) - _LONGEST} more lines"


def _sentence(step: Mapping[str, Any]) -> list[str]:
    """Return the step's runner and its note as lines. The command line of a client is pasted, so it is no part."""
    client = "this client" if step["language"] == "sql" else step["client"]
    database = f", in {step['database']}" if step["database"] else ""
    note = f": {step['note']}" if step["note"] else ""
    text = visible(f"as {step['user']}, with {client}{database}{note}")
    return [f"  {line}" for line in textwrap.wrap(text, _COLUMNS - 2, break_long_words=False, break_on_hyphens=False)]
