"""The report as one HTML page that loads nothing: a headline to forward, and all findings to work through.

`summary` writes the part above the lists. The browser makes the lists from the data in the page, by `assets/report.js`.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rdsiam.report import figures
from rdsiam.report.kinds import kinds as table_of_kinds
from rdsiam.report.markup import Markup, join
from rdsiam.report.summary import footer, run, summary, title

_ASSETS = Path(__file__).with_name("assets")
#: Fields of a database, and of a finding, that the lists show.
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
        "title": join(title(report)),
        "style": style,
        "script": script,
        "run": run(report),
        "summary": summary(report, environment, owner),
        "kinds": table_of_kinds(report, kinds or {}),
        "footer": footer(report),
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
