"""The page's table of schemas: those that levels open in PostgreSQL databases."""

from collections.abc import Mapping
from typing import Any

from rdsiam.core.counts import counted, number
from rdsiam.report.markup import Markup, element, join, name

_HEAD = ("Instance or cluster", "Database", "Schemas", "Open to levels")


def schemas(report: Mapping[str, Any]) -> Markup:
    """Return the table; empty if no schema is known."""
    lines = [(database["identifier"], line) for database in report["databases"] for line in database["schemas"]]
    if not lines:
        return join()
    rows = [
        element(
            "tr",
            None,
            element("th", {"scope": "row"}, name(identifier)),
            element("td", None, name(line["database"])),
            element("td", None, number(line["count"])),
            element("td", None, _names(line)),
        )
        for identifier, line in lines
    ]
    title = join(
        element("strong", None, "Schemas that levels open: "),
        f"{counted(sum(line['count'] for _, line in lines), 'schema')} in {counted(len(lines), 'database')}",
    )
    head = element("tr", None, *(element("th", {"scope": "col"}, each) for each in _HEAD))
    table = element("table", None, element("thead", None, head), element("tbody", None, *rows))
    frame: dict[str, str | int | float | bool | None] = {
        "class": "table-frame",
        "role": "region",
        "aria-label": "Schemas that levels open",
        "tabindex": 0,
    }
    whole = element("div", frame, table)
    return element("details", {"class": "runs migrations schemas"}, element("summary", None, title), whole)


def _names(line: Mapping[str, Any]) -> Markup:
    """Return the first schemas, and how many more there are."""
    parts: list[Markup | str] = []
    for schema in line["schemas"]:
        parts += [name(schema), " "]
    more = line["count"] - len(line["schemas"])
    return join(*parts, f"and {number(more)} more" if more else "")
