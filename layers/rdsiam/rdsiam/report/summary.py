"""The part of the report's page above the lists: shown immediately and without scripts, as in a mail preview."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rdsiam.core.counts import agreed, counted, number
from rdsiam.findings.finding import SEVERITIES
from rdsiam.report import charts, figures
from rdsiam.report.formatting import clock, day, days, percent
from rdsiam.report.markup import Markup, element, join, name
from rdsiam.report.migrations import migrations
from rdsiam.report.onboardings import onboardings
from rdsiam.report.schemas import schemas

#: Number of groups that are shown before "more".
_SHOWN = 6


def title(report: Mapping[str, Any]) -> str:
    """Return the title of the page, which mail programs show."""
    return f"{percent(report['summary']['share'])} passwordless – rdsiam audit of {day(report['finished'])}"


def run(report: Mapping[str, Any]) -> Markup:
    """Return account, region and time of the audit."""
    return join(
        "Account ", name(report["account"]), " · ", name(report["region"]), " · ",
        element("time", {"datetime": report["finished"]}, clock(report["finished"])),
    )  # fmt: skip


def summary(report: Mapping[str, Any], environment: Mapping[str, str], owner: Mapping[str, str]) -> Markup:
    """Return the part of the page above the lists.

    :param environment: ARN of a database → its environment.
    :param owner: ARN of a database → its owner.
    """
    return join(
        element("section", {"class": "hero", "aria-labelledby": "headline"}, _headline(report), _trend(report)),
        _unknown(report),
        _tiles(report),
        _groups(report, environment, owner),
        migrations(report),
        schemas(report),
        onboardings(report),
    )


def _headline(report: Mapping[str, Any]) -> Markup:
    totals, reads = report["summary"], figures.reads(report)
    left = sum(figures.passwords(each) for each in report["databases"] if each["read"] == "audited")
    databases = sum(1 for each in report["databases"] if each["read"] == "audited" and figures.passwords(each))
    if totals["share"] is None:
        sentence = join("No database user was read, so there is no share.")
    elif left:
        sentence = join(
            element("strong", None, f"{counted(left, 'account')} in {counted(databases, 'database')}"),
            f" can still log in with a password, of {number(totals['accounts'])} in all.",
        )
    else:
        sentence = join(_none_left(totals["accounts"]))
    return element(
        "div",
        {"class": "headline"},
        element(
            "h1",
            {"id": "headline"},
            element("span", {"class": "figure"}, _figure(totals["share"])),
            element("span", {"class": "of"}, "of database users log in without a password"),
        ),
        element("p", {"class": "sentence"}, sentence),
        _change(report),
        element(
            "p",
            {"class": "coverage"},
            _read(reads) + _besides(reads) + ".",
        ),
    )  # fmt: skip


def _none_left(accounts: int) -> str:
    if accounts == 1:
        return "The only account that was read has no password."
    return f"None of the {counted(accounts, 'account')} that were read has a password."


def _read(reads: Mapping[str, int]) -> str:
    """Return `1 of 3 databases was read`."""
    audited = reads["audited"]
    return (
        f"{number(audited)} of {counted(audited + reads['unknown'], 'database')} {agreed(audited, 'was', 'were')} read"
    )


def _figure(share: float | None) -> Markup:
    text = percent(share)
    return join(text[:-1], element("small", None, "%")) if text.endswith("%") else join(text)


def _besides(reads: Mapping[str, int]) -> str:
    others = [(reads["replica"], "replica"), (reads["proxy"], "proxy")]
    words = [counted(count, noun, "proxies" if noun == "proxy" else None) for count, noun in others if count]
    have = agreed(sum(count for count, _ in others), "has", "have")
    return f"; {' and '.join(words)} {have} no users of their own" if words else ""


def _change(report: Mapping[str, Any]) -> Markup:
    """Return the change of the share since the last run and since the first run of the trend."""
    before = [audit for audit in figures.past(report) if audit.get("share") is not None]
    share = report["summary"]["share"]
    if share is None or not before:
        return join()
    compared = [before[-1]] if len(before) == 1 else [before[-1], before[0]]
    written = days([report["finished"], *(audit["finished"] for audit in compared)])
    lines = [_moved(share - audit["share"], f"since {written(audit['finished'])}") for audit in compared]
    return element("ul", {"class": "change"}, *lines)


def _moved(by: float, since: str) -> Markup:
    points = round(abs(by) * 100, 1)
    way = "same" if points == 0 else "up" if by > 0 else "down"
    words = {"same": "No change", "up": f"▲ {points:.1f} points up", "down": f"▼ {points:.1f} points down"}
    return element("li", {"class": way}, element("strong", None, words[way]), f" {since}")


def _trend(report: Mapping[str, Any]) -> Markup:
    runs = [*figures.past(report), {**report["summary"], "id": report["id"], "finished": report["finished"]}]
    points = [(audit["finished"], float(audit["share"])) for audit in runs if audit.get("share") is not None]
    if len(points) < 2:
        words = "The trend begins with the next run." if points else "There is no trend yet."
        return element("figure", {"class": "chart"}, element("p", {"class": "nothing"}, words))
    written = days([points[0][0], points[-1][0]])
    label = (
        f"Share of passwordless users over {counted(len(points), 'run')}: {percent(points[0][1])} on"
        f" {written(points[0][0])}, {percent(points[-1][1])} on {written(points[-1][0])}."
        " The table below has every run."
    )
    return element(
        "figure",
        {"class": "chart"},
        element("figcaption", None, "Passwordless users, run by run"),
        element("div", {"class": "for-wide"}, charts.trend(points, 640, 250, label)),
        element("div", {"class": "for-narrow"}, charts.trend(points, 350, 220, label)),
        _runs(runs),
    )


def _runs(runs: Sequence[Mapping[str, Any]]) -> Markup:
    head = ("Finished", "Passwordless", "Accounts", "Critical", "High", "Medium", "Low", "Not read")
    written = days([audit["finished"] for audit in runs])
    rows = [
        element(
            "tr",
            None,
            element("th", {"scope": "row"}, written(audit["finished"])),
            *(
                element("td", None, each)
                for each in (
                    percent(audit.get("share")),
                    number(audit.get("accounts") or 0),
                    *(number((audit.get("findings") or {}).get(severity, 0)) for severity in SEVERITIES),
                    number(audit.get("unreachable") or 0),
                )
            ),
        )
        for audit in reversed(runs)
    ]
    return element(
        "details",
        {"class": "runs"},
        element("summary", None, "Every run in figures"),
        element(
            "div",
            {"class": "table-frame", "role": "region", "aria-label": "Every run in figures", "tabindex": 0},
            element(
                "table",
                None,
                element("thead", None, element("tr", None, *(element("th", {"scope": "col"}, each) for each in head))),
                element("tbody", None, *rows),
            ),
        ),
    )


def _unknown(report: Mapping[str, Any]) -> Markup:
    """Return the databases that could not be read, as visible as a finding; empty if all were read."""
    unreadable = [each for each in report["databases"] if each["read"] == "unknown"]
    if not unreadable:
        return join()
    reads = figures.reads(report)
    stages = Counter(each.get("stage") or "" for each in unreadable)
    groups = [
        element(
            "details",
            {"class": "stage"},
            element(
                "summary",
                None,
                element("strong", None, number(count)),
                element("span", None, figures.STAGES.get(stage, "the cause is below")),
                element("code", None, name(stage)),
            ),
            element("ul", None, *(_unreadable(each) for each in unreadable if (each.get("stage") or "") == stage)),
        )
        for stage, count in sorted(stages.items(), key=lambda pair: (-pair[1], pair[0]))
    ]
    return element(
        "section",
        {"class": "unknown", "id": "unknown", "aria-labelledby": "unknown-title"},
        element(
            "div",
            {"class": "unknown-head"},
            element("h2", {"id": "unknown-title"},
                    f"{counted(len(unreadable), 'database is', 'databases are')} unknown"),
            element("p", None,
                    f"{_read(reads)}. The users of {agreed(len(unreadable), 'the other one', 'the others')} are "
                    "unknown: they are in no share and no count on this page."),
        ),
        element("div", {"class": "stages"}, *groups),
    )  # fmt: skip


def _unreadable(database: Mapping[str, Any]) -> Markup:
    return element(
        "li",
        None,
        element("strong", None, name(database["identifier"])),
        element("span", {"class": "engine"}, f" {database['engine']} · {database['status']}"),
        element("span", {"class": "cause"}, name(database.get("cause") or "no cause is known")),
    )


def _tiles(report: Mapping[str, Any]) -> Markup:
    totals, compared = report["summary"], bool(figures.past(report))
    severities = [
        element(
            "li",
            {"class": f"tile {severity}"},
            element("a", {"href": f"#severity={severity}"},
                    element("span", {"class": "tile-figure"}, number(totals["findings"][severity])),
                    element("span", {"class": f"severity {severity}"}, severity.capitalize())),
        )
        for severity in SEVERITIES
    ]  # fmt: skip
    others = [
        (number(totals["new"]) if compared else "–", "New since the last run", "#new=1"),
        (number(len(report["resolved"])) if compared else "–", "Resolved since then", "#resolved"),
        (number(totals["suppressed"]), "Suppressed, with a reason", "#suppressed"),
    ]
    return element(
        "section",
        {"class": "tiles", "aria-labelledby": "tiles-title"},
        element("h2", {"id": "tiles-title", "class": "visually-hidden"}, "Findings by severity"),
        element("ul", {"class": "severities"}, *severities),
        element(
            "ul",
            {"class": "others"},
            *(
                element("li", None, element("a", {"href": target}, element("strong", None, figure), f" {words}"))
                for figure, words, target in others
            ),
        ),
    )


def _groups(report: Mapping[str, Any], environment: Mapping[str, str], owner: Mapping[str, str]) -> Markup:
    databases = report["databases"]
    by = [
        ("By engine", figures.grouped(databases, lambda each: each["engine"]), "no engine"),
        ("By environment", figures.grouped(databases, lambda each: environment[each["arn"]]), "no environment tag"),
        ("By owner", figures.grouped(databases, lambda each: owner[each["arn"]]), "no owner tag"),
    ]
    accounts = figures.grouped(databases, figures.account)
    if len(accounts) > 1:  # an installation audits one
        by.append(("By account", accounts, "no account"))
    return element(
        "section",
        {"class": "groups", "aria-labelledby": "groups-title"},
        element("h2", {"id": "groups-title", "class": "visually-hidden"}, "Databases with passwords"),
        *(_group(title, groups, empty) for title, groups, empty in by),
    )


def _group(title: str, groups: Sequence[figures.Group], empty: str) -> Markup:
    rows = [_share(group, empty) for group in groups]
    more = (
        element("details", None,
                element("summary", None, f"{number(len(rows) - _SHOWN)} more"), element("ul", None, *rows[_SHOWN:]))
        if len(rows) > _SHOWN
        else join()
    )  # fmt: skip
    return element("div", {"class": "group"}, element("h3", None, title), element("ul", None, *rows[:_SHOWN]), more)


def _share(group: figures.Group, empty: str) -> Markup:
    if group.accounts:
        words = f"{number(group.passwords)} of {counted(group.accounts, 'account')} with a password"
    else:
        words = "no account was read" if group.unknown else "no accounts"
    return element(
        "li",
        None,
        element("span", {"class": "label"}, name(group.label) if group.label else element("em", None, empty)),
        element("span", {"class": "share"}, percent(group.share)),
        charts.bar(group.share),
        element(
            "span",
            {"class": "detail"},
            words,
            element("span", {"class": "not-read"}, f" · {number(group.unknown)} not read") if group.unknown else "",
        ),
    )


def footer(report: Mapping[str, Any]) -> Markup:
    """Return the last line of the page: the run, and the version of access.yaml."""
    return element(
        "p",
        None,
        "Run ", element("code", None, name(report["id"])),
        " · started ", element("time", {"datetime": report["started"]}, clock(report["started"])),
        " · access.yaml ", element("code", None, name(report.get("access_version") or "unknown")),
        " · This page loads nothing and sends nothing.",
    )  # fmt: skip
