"""The report as CSV: one record per finding, for spreadsheets."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rdsiam.report import figures

COLUMNS = (
    "id",
    "severity",
    "kind",
    "title",
    "database",
    "identifier",
    "engine",
    "environment",
    "owner",
    "account",
    "user",
    "first_seen",
    "new",
    "suppressed_reason",
    "suppressed_until",
    "evidence",
    "sql",
    "cli",
    "cloudformation",
    "access",
    "run_by",
)
#: Characters that start a formula in a spreadsheet, and their full-width forms; and the quote, which neutralises.
_ACTIVE = frozenset("=+-@\t\r\n＝＋－＠'")


def csv_report(
    report: Mapping[str, Any],
    *,
    environment_tags: Sequence[str] = figures.ENVIRONMENT_TAGS,
    owner_tags: Sequence[str] = figures.OWNER_TAGS,
) -> str:
    """Return the findings as CSV with a header, by RFC 4180, to be written as UTF-8.

    Suppressed findings are included, with reason and end. A cell that a spreadsheet would calculate, or that begins
    with `'`, gets a `'` before it; removing one `'` from each cell that begins with it restores the text.
    """
    out = io.StringIO()
    writer = csv.writer(out, dialect="excel", lineterminator="\r\n")
    writer.writerow(COLUMNS)
    databases = {each["arn"]: each for each in report["databases"]}
    for finding in sorted(report["findings"], key=figures.order):
        database = databases.get(finding["database"], {"arn": finding["database"] or ""})
        suppressed = finding.get("suppressed") or {}
        cells = {
            **{key: finding.get(key) for key in ("id", "severity", "kind", "title", "database", "user", "first_seen")},
            "identifier": database.get("identifier"),
            "engine": database.get("engine"),
            "environment": figures.tag(database, environment_tags),
            "owner": figures.tag(database, owner_tags),
            "account": figures.account(database),
            "new": "yes" if figures.is_new(report, finding) else "no",
            "suppressed_reason": suppressed.get("reason"),
            "suppressed_until": suppressed.get("until"),
            "evidence": json.dumps(dict(sorted(finding["evidence"].items())), ensure_ascii=False),
            **_remediation(finding["remediation"]),
        }
        writer.writerow([neutral(cells.get(column)) for column in COLUMNS])
    return out.getvalue()


def neutral(value: object) -> str:
    """Return a cell that no spreadsheet interprets as a formula.

    Invisible characters at the start don't count: programs skip spaces before `=`. Half a surrogate pair, which UTF-8
    can't hold, is written as an escape.
    """
    text = "" if value is None else str(value).encode("utf-8", "backslashreplace").decode()
    first = text.lstrip(" \u00a0\u200b\u200e\u200f\u2060\ufeff\x00")[:1]
    return f"'{text}" if text and (text[0] in _ACTIVE or first in _ACTIVE) else text


def _remediation(remediations: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the steps of the first way of a remediation by language, several steps one after the other.

    Under `run_by`: the user and the client of each step, in the order of the steps.
    """
    cells: dict[str, list[str]] = {}
    for each in remediations:
        if each["way"] == 1:
            cells.setdefault(each["language"], []).append(each["text"])
            cells.setdefault("run_by", []).append(f"{each['language']}: {figures.runner(each)}")
    return {column: "\n".join(texts) for column, texts in cells.items()}
