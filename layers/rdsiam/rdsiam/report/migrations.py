"""The page's table of migrations: users that move from a password to tokens, and their states."""

from collections.abc import Mapping
from typing import Any

from rdsiam.core.counts import number
from rdsiam.report.formatting import clock
from rdsiam.report.markup import Markup, element, join, name

_HEAD = ("Database", "User", "Successor", "State", "Since", "Retired if unused")


def migrations(report: Mapping[str, Any]) -> Markup:
    """Return the table, and the number of users in each state; empty if no user migrates."""
    rows = [
        element(
            "tr",
            None,
            element("th", {"scope": "row"}, name(database["identifier"])),
            element("td", None, name(migration["user"])),
            element("td", None, _successor(migration)),
            element("td", None, migration["state"]),
            element("td", None, clock(migration["since"])),
            element("td", None, clock(migration["until"]) if migration["until"] else "–"),
        )
        for database in report["databases"]
        for migration in database["migrations"]
    ]
    if not rows:
        return join()
    states = report["summary"]["migrations"].items()
    counted = ", ".join(f"{number(count)} {state}" for state, count in states if count)
    title = join(element("strong", None, "Migrating to tokens: "), counted)
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


def _successor(migration: Mapping[str, Any]) -> Markup:
    if migration["successor"] == migration["user"]:
        return join("in place")
    return name(migration["successor"])
