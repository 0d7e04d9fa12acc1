"""The page of the report: only its own script runs, whatever the names of databases and users."""

import base64
import hashlib
import json
import re
from datetime import datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.sample_report import sample
from rdsiam.report import charts
from rdsiam.report.formatting import hidden, percent, visible
from rdsiam.report.kinds import kinds
from rdsiam.report.markup import Markup, element, join, name
from rdsiam.report.page import _ASSETS, KindText, html_chunks, html_report
from tests.examples import at_most
from tests.reports import ACCOUNT, HOSTILE, names, report_with

CSS = (_ASSETS / "report.css").read_text(encoding="utf-8")
JS = (_ASSETS / "report.js").read_text(encoding="utf-8")


class Page(HTMLParser):
    """A page as a browser's parser reads it: elements with their attributes, texts, and raw texts by element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[Any, ...]]] = []
        self.texts: list[str] = []
        self.raw: dict[str, list[str]] = {}
        self.comments: list[str] = []
        self._open: tuple[str, dict[str, Any]] | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self._open = (tag, dict(attrs))
        # Marks stand for characters that hide: how many there are depends on the name.
        if ("class", "mark") not in attrs:
            self.elements.append((tag, tuple(sorted(attrs))))

    def handle_data(self, data):
        if self._open and self._open[0] in {"script", "style"}:
            self.raw.setdefault(self._open[1].get("id", self._open[0]), []).append(data)
        else:
            self.texts.append(data)

    def handle_endtag(self, _tag):
        self._open = None

    def handle_comment(self, data):
        self.comments.append(data)


def policy_of(page):
    metas = [dict(attributes) for tag, attributes in page.elements if tag == "meta"]
    text = next(meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy")
    return {part.split()[0]: part.split()[1:] for part in text.split("; ")}


def data_of(page):
    return json.loads("".join(page.raw["report"]))


HARMLESS = Page(html_report(report_with("harmless")))


@settings(max_examples=at_most(60))
@given(names)
@example("harmless")
def test_a_name_adds_no_element_and_no_attribute(text):
    page = Page(html_report(report_with(text)))
    assert page.elements == HARMLESS.elements
    assert not page.comments


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_complete_in_the_data_and_never_markup(text):
    page = Page(html_report(report_with(text)))
    assert page.elements == HARMLESS.elements
    assert [finding["title"] for finding in data_of(page)["findings"]] == [text] * 3
    assert data_of(page)["findings"][0]["remediation"][0]["text"] == text


@settings(max_examples=at_most(60))
@given(names)
def test_the_data_has_no_html_and_the_page_has_no_hidden_characters(text):
    page = html_report(report_with(text))
    inside = re.findall(r'<script type="application/json" id="report">(.*?)</script>', page, re.DOTALL)[0]
    assert not set("<>&") & set(inside)
    assert inside.isascii()
    assert page.encode()  # no half of a surrogate pair is left
    body = page.split("</style>")[1].split('<script type="application/json"')[0]
    assert not {character for character in body if hidden(character)} - {"\n"}


def test_the_content_security_policy_allows_only_the_texts_of_the_page():
    page = Page(html_report(report_with("x")))
    policy = policy_of(page)
    for directive, text in (("script-src", page.raw["script"]), ("style-src", page.raw["style"])):
        digest = base64.b64encode(hashlib.sha256("".join(text).encode()).digest()).decode()
        assert policy.pop(directive) == [f"'sha256-{digest}'"]
    assert policy == {
        "default-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["'none'"],
    }


def test_the_page_loads_nothing():
    page = Page(html_report(sample(40, 120)))
    assert {tag for tag, _ in page.elements} & {
        "img",
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "video",
        "audio",
    } == set()
    for _, attributes in page.elements:
        for key, value in attributes:
            assert key not in {"src", "srcset", "style", "action", "xlink:href"}
            assert not key.startswith("on")
            assert key != "href" or value.startswith("#")
    assert not re.search(r"url\(|@import|@font-face|</style", CSS)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|fetch\(|XMLHttpRequest|sendBeacon|"
        r"WebSocket|import\(|https?:(?!//www\.w3\.org/2000/svg)|</script|<!--|localStorage",
        JS,
    )


def test_the_headline_has_share_remaining_passwords_and_databases_read():
    words = " ".join("".join(Page(html_report(sample(200, 300))).texts).split())
    assert "of database users log in without a password" in words
    assert re.search(r"\d+ accounts in \d+ databases can still log in with a password, of [\d,]+ in all\.", words)
    assert re.search(r"\d+ of \d+ databases were read", words)
    assert re.search(r"▲ \d+\.\d points up since 23 February 2026", words)


def test_unreadable_databases_are_named_with_stage_and_cause_above_the_lists():
    report = sample(200, 300)
    words = "".join(Page(html_report(report)).texts)
    unread = [each for each in report["databases"] if each["read"] == "unknown"]
    assert unread
    assert f"{len(unread)} databases are unknown" in words
    for each in unread:
        assert each["identifier"] in words
        assert visible(each["cause"]) in words


def test_the_page_of_a_fleet_that_was_read_completely_has_no_unknown_section():
    report = report_with("x")
    report["databases"] = [each for each in report["databases"] if each["read"] != "unknown"]
    assert "unknown-title" not in html_report(report)


def test_the_first_run_has_no_trend_and_nothing_new():
    report = report_with("x") | {"trend": []}
    page = Page(html_report(report))
    assert "The trend begins with the next run." in page.texts
    assert not data_of(page)["head"]["compared"]
    assert not any(finding["new"] for finding in data_of(page)["findings"])


def test_a_fleet_without_accounts_and_without_databases_has_a_page():
    report = report_with("x") | {"databases": [], "findings": [], "resolved": [], "trend": []}
    report["summary"] = report["summary"] | {"share": None, "accounts": 0}
    assert "No database user was read" in html_report(report)


def test_the_tags_that_name_environment_and_owner_can_be_chosen():
    report = report_with("x")
    report["databases"][0]["tags"] = {"Tier": "gold", "SQUAD": "blue", "env": "prod"}
    chosen = data_of(Page(html_report(report, environment_tags=["tier"], owner_tags=["squad"])))["databases"][0]
    assert (chosen["environment"], chosen["owner"]) == ("gold", "blue")
    usual = data_of(Page(html_report(report)))["databases"][0]
    assert (usual["environment"], usual["owner"]) == ("prod", "")


def test_the_page_has_the_texts_of_kinds_that_occur():
    kinds = {"user-without-iam": KindText("Password login", "It never expires."), "other": KindText("Other")}
    assert data_of(Page(html_report(report_with("x"), kinds=kinds)))["head"]["kinds"] == {
        "user-without-iam": {"title": "Password login", "why": "It never expires."}
    }


def test_the_page_comes_in_small_pieces():
    report = sample(100, 1000)
    pieces = list(html_chunks(report))
    assert "".join(pieces) == html_report(report)
    assert max(map(len, pieces)) < 100_000


@pytest.mark.parametrize(
    ("share", "words"),
    [(None, "–"), (0.0, "0%"), (0.0001, "<0.1%"), (0.5, "50.0%"), (0.9999, "99.9%"), (1.0, "100%"), (0.29, "29.0%")],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share, words):
    assert percent(share) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\u202eb", "a<U+202E>b"),
        (" a ", "␠a␠"),
        ("a b", "a b"),
        ("\U000e0041", "<U+E0041>"),
        ("\n", "<U+000A>"),
        ("", ""),
    ],
)
def test_hidden_characters_in_a_name_are_shown(text, words):
    assert visible(text).replace("<␠>", "␠") == words


@given(names)
def test_elements_escape_their_text(text):
    page = Page(element("p", {"class": text}, text, name(text)))
    assert [tag for tag, _ in page.elements] == ["p", "bdi"]


@pytest.mark.parametrize(
    ("tag", "attributes"),
    [
        ("script", {}),
        ("iframe", {}),
        ("p onclick", {}),
        ("p", {"onclick": "x"}),
        ("p", {"style": "x"}),
        ("a", {"href": "javascript:x"}),
        ("a", {"href": "https://example.com"}),
        ("p", {"a b": "x"}),
    ],
)
def test_elements_that_could_run_or_load_something_are_refused(tag, attributes):
    with pytest.raises(ValueError, match="in a report"):
        element(tag, attributes)


def test_only_markup_is_not_escaped():
    assert join("<b>", Markup("<i>")) == "&lt;b&gt;<i>"


@pytest.mark.parametrize(
    "shares", [(0.0, 1.0), (1.0, 1.0), (0.0, 0.0), (0.999, 1.0), (0.5, 0.51, 0.2), (0.3, 0.3000001)]
)
def test_a_trend_stays_inside_its_frame(shares):
    points = [(f"2026-01-{day + 1:02}T00:00:00Z", share) for day, share in enumerate(shares)]
    page = Page(charts.trend(points, 640, 250, "label"))
    line = next(dict(attributes)["points"] for tag, attributes in page.elements if tag == "polyline")
    for pair in line.split():
        across, down = map(float, pair.split(","))
        assert 0 <= across <= 640
        assert 0 <= down <= 250
    texts = [text for text in page.texts if text.endswith("%")]
    assert len(set(texts)) > 1


def test_two_runs_at_one_time_have_a_trend():
    assert "NaN" not in charts.trend([("2026-01-01T00:00:00Z", 0.5)] * 2, 640, 250, "label")


@pytest.mark.parametrize(
    ("times", "labels"),
    [
        (["2026-03-02T05:14:07Z", "2026-03-02T09:00:00Z", "2026-03-02T21:30:59Z"], ["05:14", "09:00", "21:30"]),
        (["2026-03-02T05:14:07Z", "2026-03-02T05:14:50Z"], ["05:14"]),
        (["2026-03-02T05:14:07Z"] * 3, ["05:14"]),
        (["2026-03-02T23:00:00Z", "2026-03-03T01:00:00Z"], ["2 Mar", "3 Mar"]),
        (["2026-03-02T01:00:00Z", "2026-03-02T12:00:00Z", "2026-03-03T01:00:00Z"], ["2 Mar", "3 Mar"]),
        (
            ["2025-03-02T01:00:00Z", "2025-09-02T12:00:00Z", "2026-03-02T01:00:00Z"],
            ["Mar 2025", "Sep 2025", "Mar 2026"],
        ),
    ],
)
def test_no_two_labels_of_the_axis_are_alike(times, labels):
    svg = charts.trend([(time, 0.5) for time in times], 640, 250, "label")
    assert re.findall(r'text-anchor="middle">([^<]+)<', svg) == labels


@settings(max_examples=at_most(50))
@given(st.lists(st.datetimes(datetime(2020, 1, 1), datetime(2029, 1, 1)), min_size=2, max_size=12))
def test_labels_of_any_times_are_different(moments):
    points = [(f"{moment:%Y-%m-%dT%H:%M:%SZ}", 0.5) for moment in sorted(moments)]
    for width in (350, 640):
        found = re.findall(r'text-anchor="middle">([^<]+)<', charts.trend(points, width, 250, "label"))
        assert found
        assert len(set(found)) == len(found)


def test_runs_of_one_day_have_their_time():
    report = report_with("x")
    report["trend"] = [
        report["trend"][0] | {"id": f"{hour}", "finished": f"2026-03-02T0{hour}:10:00Z"} for hour in (1, 2)
    ]
    words = " ".join("".join(Page(html_report(report)).texts).split())
    assert "since 2 March 2026, 02:10 UTC" in words
    assert "since 2 March 2026, 01:10 UTC" in words
    assert words.count("2 March 2026, 02:10 UTC") >= 2  # in the table of all runs, too


# --- numbers and words ------------------------------------------------------------------------------------------------


def words_of(read, unknown=0, accounts=1, passwords=0, replicas=0):
    """Return the words of a page about these numbers of databases and accounts."""
    report = report_with("x")
    audited, other, replica = report["databases"]
    share = (accounts - passwords) / accounts
    report["databases"] = [
        *({**audited, "arn": f"arn:aws:rds:eu-central-1:123456789012:db:a{index}",
           "accounts": {"total": accounts, "iam": accounts - passwords, "password": passwords, "unusable": 0}}
          for index in range(read)),
        *({**other, "arn": f"arn:aws:rds:eu-central-1:123456789012:db:u{index}"} for index in range(unknown)),
        *({**replica, "arn": f"arn:aws:rds:eu-central-1:123456789012:db:r{index}"} for index in range(replicas)),
    ]  # fmt: skip
    report["summary"] |= {"accounts": accounts, "share": share}
    return " ".join("".join(Page(html_report(report)).texts).split())


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ({"read": 1}, "The only account that was read has no password."),
        ({"read": 1, "accounts": 2}, "None of the 2 accounts that were read has a password."),
        ({"read": 1, "passwords": 1}, "1 account in 1 database can still log in with a password, of 1 in all."),
        ({"read": 1}, "1 of 1 database was read."),
        ({"read": 1, "unknown": 2}, "1 of 3 databases was read. The users of the others are unknown"),
        ({"read": 2, "unknown": 1}, "2 of 3 databases were read. The users of the other one are unknown"),
        ({"read": 1, "unknown": 1}, "1 database is unknown"),
        ({"read": 2, "unknown": 2}, "2 databases are unknown"),
        ({"read": 1, "replicas": 1}, "1 of 1 database was read; 1 replica has no users of their own."),
        ({"read": 2, "replicas": 2}, "2 of 2 databases were read; 2 replicas have no users of their own."),
    ],
)
def test_sentences_agree_with_their_numbers(numbers, sentence):
    assert sentence in words_of(**numbers)


def test_databases_are_grouped_by_owner():
    report = report_with("team <a>")
    page = Page(html_report(report))
    assert "By owner" in page.texts
    report["databases"][0]["tags"] = {}
    assert "no owner tag" in "".join(Page(html_report(report)).texts)


def test_databases_are_grouped_by_account_if_there_are_several():
    report = report_with("team")
    assert "By account" not in Page(html_report(report)).texts
    report["databases"][0]["arn"] = report["databases"][0]["arn"].replace(ACCOUNT, "999999999999")
    assert "By account" in Page(html_report(report)).texts


def test_the_page_has_its_findings_by_kind_without_a_script():
    report = sample(40, 200)
    words = "".join(Page(html_report(report).partition("<script")[0]).texts)
    for finding in report["findings"]:
        assert finding["suppressed"] or finding["kind"] in words
    assert "Findings by kind" not in html_report(report_with("x") | {"findings": []})


def test_findings_of_a_kind_are_counted_by_severity_and_database():
    text = kinds(report_with("x"), {"user-without-iam": KindText("Users without IAM")})
    rows = re.findall("<tr>(.*?)</tr>", text)
    cells = [re.sub("<[^>]+>", "|", row).strip("|") for row in rows]
    assert [re.sub(r"\|+", "|", row) for row in cells] == [
        "Finding|Severity|Findings|Databases",
        "Users without IAM|critical|1|1",
        "x|low|1|IAM",
    ]


def test_a_page_without_a_script_says_so_at_once():
    page = html_report(report_with("x"))
    assert re.search(r"<noscript><p[^>]*><strong>JavaScript is off here\.", page)
    assert page.index("Findings by kind") < page.index("<noscript>")
