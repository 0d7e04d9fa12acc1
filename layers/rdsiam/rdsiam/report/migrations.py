"""The page's table of migrations: which users are on their way from a password to tokens, and how far."""

from collections.abc import Mapping
from typing import Any

from rdsiam.report.formatting import clock, number
from rdsiam.report.markup import Markup, element, join, name

_HEAD = ("Database", "User", "Successor", "State", "Since", "Retired, if nobody logs in")


def migrations(report: Mapping[str, Any]) -> Markup:
    """Return the table, and how many users are in which state; nothing where nobody migrates."""
    rows = [
        element(
            "tr",
            None,
            element("th", {"scope": "row"}, name(database["identifier"])),
            element("td", None, name(one["user"])),
            element("td", None, "in place" if one["successor"] == one["user"] else name(one["successor"])),
            element("td", None, one["state"]),
            element("td", None, clock(one["since"])),
            element("td", None, clock(one["until"]) if one["until"] else "–"),
        )
        for database in report["databases"]
        for one in database["migrations"]
    ]
    if not rows:
        return join()
    states = report["summary"]["migrations"].items()
    counted = ", ".join(f"{number(count)} {state}" for state, count in states if count)
    title = join(element("strong", None, "On the way to tokens: "), counted)
    head = element("tr", None, *(element("th", {"scope": "col"}, each) for each in _HEAD))
    table = element("table", None, element("thead", None, head), element("tbody", None, *rows))
    frame: dict[str, str | int | float | bool | None] = {
        "class": "table-frame",
        "role": "region",
        "aria-label": "Migrations",
        "tabindex": 0,
    }
    whole = element("div", frame, table)
    return element("details", {"class": "runs migrations"}, element("summary", None, title), whole)
