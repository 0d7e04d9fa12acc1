"""The report as one HTML page that loads nothing: a headline to forward, and all findings to work through.

The part above the lists is written here, so that it shows immediately and without scripts (a mail preview). The browser
makes the lists from the data in the page, by `assets/report.js`.
"""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rdsiam.findings.finding import SEVERITIES
from rdsiam.report import charts, figures
from rdsiam.report.formatting import clock, counted, day, number, percent
from rdsiam.report.markup import Markup, element, join, name
from rdsiam.report.migrations import migrations
from rdsiam.report.schemas import schemas

_ASSETS = Path(__file__).with_name("assets")
#: Number of groups that are shown before "more".
_SHOWN = 6


@dataclass(frozen=True)
class KindText:
    """Texts about a kind of findings.

    :ivar title: a few words.
    :ivar why: why the findings matter, in one or two sentences.
    """

    title: str
    why: str = ""


def html_report(
    report: Mapping[str, Any],
    *,
    kinds: Mapping[str, KindText] | None = None,
    environment_tags: Sequence[str] = figures.ENVIRONMENT_TAGS,
    owner_tags: Sequence[str] = figures.OWNER_TAGS,
) -> str:
    """Return the page; see `html_chunks`."""
    return "".join(html_chunks(report, kinds=kinds, environment_tags=environment_tags, owner_tags=owner_tags))


def html_chunks(
    report: Mapping[str, Any],
    *,
    kinds: Mapping[str, KindText] | None = None,
    environment_tags: Sequence[str] = figures.ENVIRONMENT_TAGS,
    owner_tags: Sequence[str] = figures.OWNER_TAGS,
) -> Iterator[str]:
    """Yield the page piece by piece: about 1 KB for each finding, to be written as UTF-8.

    :param report: the JSON report, as a dictionary.
    :param kinds: texts by kind; a kind without a text shows its id.
    :param environment_tags: tags that name a database's environment, by priority; case does not matter.
    :param owner_tags: tags that name a database's owner, by priority.
    """
    style, script = _asset("report.css"), _asset("report.js")
    environment = {each["arn"]: figures.tag(each, environment_tags) for each in report["databases"]}
    owner = {each["arn"]: figures.tag(each, owner_tags) for each in report["databases"]}
    parts = {
        "policy": Markup(_policy(style, script)),
        "title": join(_title(report)),
        "style": style,
        "script": script,
        "run": _run(report),
        "summary": _summary(report, environment),
        "footer": _footer(report),
    }
    for piece in re.split(r"(\{\{[a-z]+\}\})", _asset("report.html")):
        if piece == "{{data}}":
            yield from _data(report, kinds or {}, environment, owner)
        else:
            yield parts[piece[2:-2]] if piece.startswith("{{") else piece


@cache
def _asset(file: str) -> Markup:
    return Markup((_ASSETS / file).read_text(encoding="utf-8"))


def _policy(style: str, script: str) -> str:
    """Return the content security policy: only these texts may run and style, and nothing may be loaded or sent."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# --- The part above the lists -----------------------------------------------------------------------------------------


def _title(report: Mapping[str, Any]) -> str:
    return f"{percent(report['summary']['share'])} passwordless – rdsiam audit of {day(report['finished'])}"


def _run(report: Mapping[str, Any]) -> Markup:
    return join(
        "Account ", name(report["account"]), " · ", name(report["region"]), " · ",
        element("time", {"datetime": report["finished"]}, clock(report["finished"])),
    )  # fmt: skip


def _summary(report: Mapping[str, Any], environment: Mapping[str, str]) -> Markup:
    return join(
        element("section", {"class": "hero", "aria-labelledby": "headline"}, _headline(report), _trend(report)),
        _unknown(report),
        _tiles(report),
        _groups(report, environment),
        migrations(report),
        schemas(report),
    )


def _headline(report: Mapping[str, Any]) -> Markup:
    summary, reads = report["summary"], figures.reads(report)
    left = sum(figures.passwords(each) for each in report["databases"] if each["read"] == "audited")
    databases = sum(1 for each in report["databases"] if each["read"] == "audited" and figures.passwords(each))
    if summary["share"] is None:
        sentence = join("No database user was read, so there is no share.")
    elif left:
        sentence = join(
            element("strong", None, f"{counted(left, 'account')} in {counted(databases, 'database')}"),
            f" can still log in with a password, of {number(summary['accounts'])} in all.",
        )
    else:
        sentence = join(f"None of the {counted(summary['accounts'], 'account')} that were read has a password.")
    return element(
        "div",
        {"class": "headline"},
        element(
            "h1",
            {"id": "headline"},
            element("span", {"class": "figure"}, _figure(summary["share"])),
            element("span", {"class": "of"}, "of database users log in without a password"),
        ),
        element("p", {"class": "sentence"}, sentence),
        _change(report),
        element(
            "p",
            {"class": "coverage"},
            f"{number(reads['audited'])} of {counted(reads['audited'] + reads['unknown'], 'database')} were read"
            + _besides(reads) + ".",
        ),
    )  # fmt: skip


def _figure(share: float | None) -> Markup:
    text = percent(share)
    return join(text[:-1], element("small", None, "%")) if text.endswith("%") else join(text)


def _besides(reads: Mapping[str, int]) -> str:
    others = [(reads["replica"], "replica"), (reads["proxy"], "proxy")]
    words = [counted(count, one, "proxies" if one == "proxy" else None) for count, one in others if count]
    return f"; {' and '.join(words)} have no users of their own" if words else ""


def _change(report: Mapping[str, Any]) -> Markup:
    """Return the change of the share since the last run and since the first run of the trend."""
    before = [run for run in figures.past(report) if run.get("share") is not None]
    share = report["summary"]["share"]
    if share is None or not before:
        return join()
    lines = [_moved(share - before[-1]["share"], f"since {day(before[-1]['finished'])}")]
    if len(before) > 1:
        lines.append(_moved(share - before[0]["share"], f"since {day(before[0]['finished'])}"))
    return element("ul", {"class": "change"}, *lines)


def _moved(by: float, since: str) -> Markup:
    points = round(abs(by) * 100, 1)
    way = "same" if points == 0 else "up" if by > 0 else "down"
    words = {"same": "No change", "up": f"▲ {points:.1f} points up", "down": f"▼ {points:.1f} points down"}
    return element("li", {"class": way}, element("strong", None, words[way]), f" {since}")


def _trend(report: Mapping[str, Any]) -> Markup:
    runs = [*figures.past(report), {**report["summary"], "id": report["id"], "finished": report["finished"]}]
    points = [(run["finished"], float(run["share"])) for run in runs if run.get("share") is not None]
    if len(points) < 2:
        words = "The trend begins with the next run." if points else "There is no trend yet."
        return element("figure", {"class": "chart"}, element("p", {"class": "nothing"}, words))
    label = (
        f"Share of passwordless users over {counted(len(points), 'run')}: {percent(points[0][1])} on"
        f" {day(points[0][0])}, {percent(points[-1][1])} on {day(points[-1][0])}. The table below has every run."
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
    rows = [
        element(
            "tr",
            None,
            element("th", {"scope": "row"}, day(run["finished"])),
            *(
                element("td", None, each)
                for each in (
                    percent(run.get("share")),
                    number(run.get("accounts") or 0),
                    *(number((run.get("findings") or {}).get(severity, 0)) for severity in SEVERITIES),
                    number(run.get("unreachable") or 0),
                )
            ),
        )
        for run in reversed(runs)
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
    unread = [each for each in report["databases"] if each["read"] == "unknown"]
    if not unread:
        return join()
    reads = figures.reads(report)
    stages = Counter(each.get("stage") or "" for each in unread)
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
            element("ul", None, *(_unread(each) for each in unread if (each.get("stage") or "") == stage)),
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
                    f"{counted(len(unread), 'database is', 'databases are')} unknown"),
            element("p", None,
                    f"{number(reads['audited'])} of {counted(reads['audited'] + len(unread), 'database')} were read. "
                    "The users of the others are unknown: they are in no share and no count on this page."),
        ),
        element("div", {"class": "stages"}, *groups),
    )  # fmt: skip


def _unread(database: Mapping[str, Any]) -> Markup:
    return element(
        "li",
        None,
        element("strong", None, name(database["identifier"])),
        element("span", {"class": "engine"}, f" {database['engine']} · {database['status']}"),
        element("span", {"class": "cause"}, name(database.get("cause") or "no cause is known")),
    )


def _tiles(report: Mapping[str, Any]) -> Markup:
    summary, compared = report["summary"], bool(figures.past(report))
    severities = [
        element(
            "li",
            {"class": f"tile {severity}"},
            element("a", {"href": f"#severity={severity}"},
                    element("span", {"class": "tile-figure"}, number(summary["findings"][severity])),
                    element("span", {"class": f"severity {severity}"}, severity.capitalize())),
        )
        for severity in SEVERITIES
    ]  # fmt: skip
    others = [
        (number(summary["new"]) if compared else "–", "New since the last run", "#new=1"),
        (number(len(report["resolved"])) if compared else "–", "Resolved since then", "#resolved"),
        (number(summary["suppressed"]), "Suppressed, with a reason", "#suppressed"),
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


def _groups(report: Mapping[str, Any], environment: Mapping[str, str]) -> Markup:
    databases = report["databases"]
    by = [
        ("By engine", figures.grouped(databases, lambda each: each["engine"]), "no engine"),
        ("By environment", figures.grouped(databases, lambda each: environment[each["arn"]]), "no environment tag"),
        ("By account", figures.grouped(databases, figures.account), "no account"),
    ]
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


def _footer(report: Mapping[str, Any]) -> Markup:
    return element(
        "p",
        None,
        "Run ", element("code", None, name(report["id"])),
        " · started ", element("time", {"datetime": report["started"]}, clock(report["started"])),
        " · access.yaml ", element("code", None, name(report.get("access_version") or "unknown")),
        " · This page loads nothing and sends nothing.",
    )  # fmt: skip


# --- The data of the lists --------------------------------------------------------------------------------------------

_OF_A_DATABASE = ("arn", "identifier", "engine", "engine_version", "kind", "status", "read", "stage", "cause", "public")
_OF_A_FINDING = (
    "id",
    "kind",
    "severity",
    "database",
    "user",
    "title",
    "evidence",
    "remediation",
    "first_seen",
    "suppressed",
)


def _data(
    report: Mapping[str, Any], kinds: Mapping[str, KindText], environment: Mapping[str, str], owner: Mapping[str, str]
) -> Iterator[str]:
    """Yield the data as JSON that can't end the element around it."""
    used = {finding["kind"] for finding in report["findings"]}
    head = {
        "finished": report["finished"],
        "compared": bool(figures.past(report)),
        "kinds": {each: {"title": kinds[each].title, "why": kinds[each].why} for each in sorted(used & set(kinds))},
        "resolved": sorted(report["resolved"], key=figures.order),
    }
    yield f'{{"head":{_json(head)},"databases":['
    yield from _items(
        {key: each.get(key) for key in _OF_A_DATABASE}
        | {
            "account": figures.account(each),
            "environment": environment[each["arn"]],
            "owner": owner[each["arn"]],
            "accounts": each.get("accounts"),
            "findings": each.get("findings"),
        }
        for each in report["databases"]
    )
    yield '],"findings":['
    yield from _items(
        {key: each.get(key) for key in _OF_A_FINDING} | {"new": figures.is_new(report, each)}
        for each in sorted(report["findings"], key=figures.order)
    )
    yield "]}"


def _items(items: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for index, item in enumerate(items):
        yield ("," if index else "") + _json(item)


def _json(value: object) -> str:
    """Return JSON in ASCII without characters that have a meaning in HTML."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
