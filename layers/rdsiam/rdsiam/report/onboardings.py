"""The page's table of onboardings that the audit started."""

from collections.abc import Mapping
from typing import Any

from rdsiam.core.counts import counted
from rdsiam.findings.differences import TEXTS
from rdsiam.report.markup import Markup, element, join, name

_HEAD = ("Instance or cluster", "Not as the last onboarding left it")


def onboardings(report: Mapping[str, Any]) -> Markup:
    """Return the table; empty if the audit started none."""
    lines = report["onboardings"]
    if not lines:
        return join()
    identifiers = {database["arn"]: database["identifier"] for database in report["databases"]}
    rows = [
        element(
            "tr",
            None,
            element("th", {"scope": "row"}, name(identifiers.get(line["database"], line["database"]))),
            element("td", None, ", ".join(TEXTS[part] for part in line["differences"])),
        )
        for line in lines
    ]
    title = join(element("strong", None, "Onboardings that this audit started: "), counted(len(lines), "database"))
    head = element("tr", None, *(element("th", {"scope": "col"}, each) for each in _HEAD))
    table = element("table", None, element("thead", None, head), element("tbody", None, *rows))
    frame: dict[str, str | int | float | bool | None] = {
        "class": "table-frame",
        "role": "region",
        "aria-label": "Onboardings that this audit started",
        "tabindex": 0,
    }
    return element(
        "details", {"class": "runs migrations"}, element("summary", None, title), element("div", frame, table)
    )
