"""The report's page in a real Chromium: it shows, filters and copies, and hostile names stay words."""

import re
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import expect

from bench.sample_report import sample
from tests.reports import HOSTILE, report_with

REPORT = sample(40, 200)
#: Numbers of hostile names that `make test` opens: a script, an attribute, a change of direction, half a character, a
#: name of JavaScript's own, a long one.
REPRESENTATIVE = {0, 3, 7, 13, 19, 23}
OPEN = [finding for finding in REPORT["findings"] if not finding["suppressed"]]
OWNERS = {database["arn"]: database["tags"]["owner"] for database in REPORT["databases"]}


def shown(page):
    """Return the severity and title of the findings that are listed."""
    rows = page.locator("#findings-list > li")
    return [(row.locator(".severity").inner_text(), row.locator(".what > bdi").inner_text()) for row in rows.all()]


def fitting(page):
    return int(re.findall(r"^[\d,]+", page.locator("#findings-status").inner_text())[0].replace(",", ""))


# --- filters ----------------------------------------------------------------------------------------------------------


def test_all_open_findings_are_counted_and_the_first_are_listed_worst_first(opened):
    page = opened(REPORT)
    assert fitting(page) == len(OPEN)
    assert shown(page) == [(each["severity"].capitalize(), each["title"]) for each in OPEN[:50]]
    assert not opened.problems


def test_by_severity(opened):
    page = opened(REPORT)
    for severity in ("Critical", "High", "Medium", "Low"):
        choice = page.get_by_role("checkbox", name=re.compile(f"^{severity}"))
        choice.check()
        assert fitting(page) == REPORT["summary"]["findings"][severity.lower()]
        assert {each for each, _ in shown(page)} == {severity}
        choice.uncheck()


def test_by_two_kinds_together(opened):
    page = opened(REPORT)
    for kind in ("tls not enforced", "missing user"):
        page.get_by_role("checkbox", name=re.compile(f"^{kind}")).check()
    wanted = [each for each in OPEN if each["kind"] in {"tls-not-enforced", "missing-user"}]
    assert fitting(page) == len(wanted) > 0
    assert [title for _, title in shown(page)] == [each["title"] for each in wanted[:50]]


def test_by_owner(opened):
    page = opened(REPORT)
    page.get_by_label("Owner", exact=True).select_option("payments")
    wanted = [each for each in OPEN if OWNERS.get(each["database"]) == "payments"]
    assert fitting(page) == len(wanted) > 0


def test_by_database(opened):
    page = opened(REPORT)
    arn = next(each["database"] for each in OPEN if each["database"])
    identifier = arn.split(":")[-1]
    page.get_by_label("Database", exact=True).fill(identifier)
    wanted = [each for each in OPEN if each["database"] and identifier in each["database"].split(":")[-1]]
    expect(page.locator("#findings-status")).to_contain_text(f"{len(wanted)} of")


def test_by_words_of_title_evidence_and_remediation(opened):
    page = opened(REPORT)
    for words, wanted in {
        "PASSWORD null": [each for each in OPEN if any("PASSWORD NULL" in fix["text"] for fix in each["remediation"])],
        "caching_sha2": [each for each in OPEN if each["evidence"].get("plugin") == "caching_sha2_password"],
        "nothing has this": [],
    }.items():
        page.get_by_role("searchbox", name="Search").fill(words)
        expect(page.locator("#findings-status")).to_contain_text(f"{len(wanted)} of")
    expect(page.get_by_text("No finding matches these filters.")).to_be_visible()


def test_filters_narrow_each_other_and_are_cleared_together(opened):
    page = opened(REPORT)
    page.get_by_role("checkbox", name=re.compile("^High")).check()
    page.get_by_label("Owner", exact=True).select_option("payments")
    wanted = [each for each in OPEN if each["severity"] == "high" and OWNERS.get(each["database"]) == "payments"]
    assert fitting(page) == len(wanted)
    page.get_by_role("button", name="Clear all").click()
    assert fitting(page) == len(OPEN)
    assert not page.get_by_role("checkbox", name=re.compile("^High")).is_checked()


def test_the_figure_beside_a_choice_is_what_choosing_it_shows(opened):
    page = opened(REPORT)
    page.get_by_label("Owner", exact=True).select_option("payments")
    option = page.locator("#filters .option", has_text="High")
    figure = int(option.locator(".count").inner_text())
    option.locator("input").check()
    assert fitting(page) == figure


def test_the_address_keeps_the_view(opened):
    page = opened(REPORT)
    page.get_by_role("checkbox", name=re.compile("^Medium")).check()
    page.get_by_label("Owner", exact=True).select_option("platform")
    count, address = fitting(page), page.evaluate("location.hash")
    assert parse_qs(address[1:]) == {"severity": ["medium"], "owner": ["platform"]}
    again = opened(REPORT, address)
    assert fitting(again) == count
    assert again.get_by_label("Owner", exact=True).input_value() == "platform"


def test_a_hostile_address_filters_at_most(opened):
    page = opened(REPORT, "#text=<img src=x onerror=alert(1)>&kind=__proto__&owner=constructor&severity=bad")
    assert fitting(page) == 0
    assert page.locator("#chosen img").count() == 0
    assert not opened.problems


def test_a_severity_at_the_top_leads_to_its_findings(opened):
    page = opened(REPORT)
    page.locator(".tile.high a").click()
    assert {each for each, _ in shown(page)} == {"High"}
    expect(page.locator("#findings")).to_be_focused()


def test_more_are_shown_on_request_and_the_keyboard_goes_on_there(opened):
    page = opened(REPORT)
    page.locator("#findings-more").press("Enter")
    assert len(shown(page)) == 100
    expect(page.locator("#findings-list > li").nth(50).locator("summary")).to_be_focused()


# --- databases, unknown, suppressed, resolved -------------------------------------------------------------------------


def test_databases_come_with_most_passwords_left_first_and_can_be_sorted(opened):
    page = opened(REPORT)
    audited = sorted(
        (each for each in REPORT["databases"] if each["read"] == "audited"),
        key=lambda each: -each["accounts"]["password"],
    )
    cells = page.locator("#databases-rows tr td:nth-child(2)").all_inner_texts()
    assert [int(cell.split()[0]) for cell in cells] == [each["accounts"]["password"] for each in audited[: len(cells)]]
    page.get_by_role("button", name="Database", exact=True).click()
    names = page.locator(".database-name").all_inner_texts()
    assert names == sorted(each["identifier"] for each in REPORT["databases"])[: len(names)]
    assert page.locator("#databases-head th").first.get_attribute("aria-sort") == "ascending"


@pytest.mark.parametrize("by", ["identifier", "owner", "engine and environment"])
def test_a_database_far_down_the_list_is_found_by_words(opened, by):
    report = sample(300, 20)
    last = min(report["databases"], key=lambda each: (each["accounts"] or {}).get("password") or 0)
    wanted = {
        "identifier": last["identifier"],
        "owner": last["tags"]["owner"].upper(),
        "engine and environment": f"{last['engine']} {last['identifier'][:4]}",
    }[by]
    page = opened(report)
    page.get_by_label("Find a database").fill(wanted)
    expect(page.locator("#databases-status")).to_contain_text("of 300 databases match")
    if page.locator("#databases-all").is_visible():
        page.locator("#databases-all").click()
    assert last["identifier"] in page.locator("#databases-rows .database-name").all_inner_texts()
    for row in page.locator("#databases-rows tr").all_inner_texts()[:5]:
        assert wanted.split()[0].lower() in row.lower()


def test_a_search_for_a_database_without_a_match_says_so_and_ends(opened):
    page = opened(REPORT)
    search = page.get_by_label("Find a database")
    search.fill("</script> no such database")
    expect(page.get_by_text("No database matches.")).to_be_visible()
    expect(page.locator("#databases-status")).to_have_text("0 of 40 databases match")
    search.fill("")
    expect(page.get_by_text("No database matches.")).to_be_hidden()
    assert page.locator("#databases-rows tr").count() == 12


def test_one_match_has_a_singular(opened):
    page = opened(REPORT)
    page.get_by_label("Find a database").fill(REPORT["databases"][0]["identifier"])
    expect(page.locator("#databases-status")).to_have_text("1 of 40 databases matches")


def test_all_databases_are_shown_with_one_click(opened):
    page = opened(sample(300, 20))
    page.get_by_role("button", name="Show all 300").click()
    assert page.locator("#databases-rows tr").count() == 300


def test_a_suppressed_finding_is_found_by_its_reason(opened):
    report = sample(60, 300)
    for index, finding in enumerate(each for each in report["findings"]):
        if index < 100:
            finding["suppressed"] = {"reason": f"ticket {index:03}", "until": "2027-01-01T00:00:00Z"}
    page = opened(report)
    page.get_by_label("Find a suppressed finding").fill("ticket 099")
    expect(page.locator("#suppressed-status")).to_contain_text("1 of 1")
    expect(page.locator("#suppressed-list > li")).to_have_count(1)


def test_a_database_leads_to_its_findings(opened):
    page = opened(REPORT)
    row = page.locator("#databases-rows tr").first
    identifier, count = row.locator(".database-name").inner_text(), int(row.get_by_role("button").inner_text())
    row.get_by_role("button").click()
    assert fitting(page) == count
    assert all(where.startswith(identifier) for where in page.locator("#findings-list .where").all_inner_texts())


def test_unknown_databases_are_in_sight_with_their_cause(opened):
    page = opened(REPORT)
    unread = [each for each in REPORT["databases"] if each["read"] == "unknown"]
    expect(page.get_by_role("heading", name=f"{len(unread)} databases are unknown")).to_be_visible()
    for stage in page.locator(".stage > summary").all():
        stage.click()
    for each in unread:
        expect(page.locator(".stage li", has_text=each["cause"]).filter(has_text=each["identifier"])).to_be_visible()


def test_suppressed_findings_stand_apart_with_reason_and_end(opened):
    page = opened(REPORT)
    suppressed = [each for each in REPORT["findings"] if each["suppressed"]]
    assert suppressed
    texts = page.locator("#suppressed-list .accepted").all_inner_texts()
    assert len(texts) == len(suppressed)
    for text, finding in zip(texts, suppressed, strict=True):
        assert text.startswith(f"{finding['suppressed']['reason']} – until ")
    assert page.locator("#resolved-list > li").count() == len(REPORT["resolved"])


def test_a_thousand_databases_and_five_thousand_findings_are_all_there(opened):
    report = sample(1000, 5000)
    page = opened(report)
    assert fitting(page) == 5000
    assert page.locator("#databases-count").inner_text() == "1,000"
    page.get_by_role("searchbox", name="Search").fill("no such words anywhere")
    expect(page.locator("#findings-status")).to_contain_text("0 of 5,000")


# --- copying ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ['ALTER ROLE "a" PASSWORD NULL;\nGRANT rds_iam TO "a";', "a\u202eb\u200b 'c' </script>", " \ttab\n\n"]
)
def test_the_clipboard_gets_exactly_the_remediation(opened, text):
    report = report_with("x")
    report["findings"][0]["remediation"] = [
        {"language": "access", "text": "another", "database": None, "user": "a publisher", "client": "rdsiam"},
        {"language": "sql", "text": text, "database": "orders", "user": "boss", "client": "psql"},
    ]
    page = opened(report)
    page.locator("#findings-list summary").first.click()
    button = page.get_by_role("button", name="Copy the SQL")
    button.click()
    expect(button).to_have_text("Copied")
    expect(page.locator("#said")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == text


def test_a_remediation_that_hides_something_says_so(opened):
    report = report_with("x")
    report["findings"][0]["remediation"] = [
        {"language": "sql", "text": "DROP USER a\u202eb", "database": None, "user": "boss", "client": "psql"}
    ]
    page = opened(report)
    page.locator("#findings-list summary").first.click()
    expect(page.get_by_text("contains hidden characters")).to_be_visible()
    assert page.locator("pre").inner_text() == "DROP USER aU+202Eb"


# --- hostile names ----------------------------------------------------------------------------------------------------


@pytest.mark.exhaustive_on(*(str(number) for number in range(len(HOSTILE)) if number not in REPRESENTATIVE))
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_words_and_ask_for_nothing(opened, text):
    page = opened(report_with(text))
    for summary in page.locator("summary:visible").all():
        summary.click()
    page.get_by_role("searchbox", name="Search").fill("x")
    page.wait_for_timeout(200)
    assert page.evaluate("window.broken") is None
    assert page.evaluate("document.scripts.length") == 2
    assert page.locator("img, iframe, object, embed, link, [onerror], [onload], [style]").count() == 0
    assert not opened.problems
    assert len(opened.requests) == 1
    assert opened.requests[0].startswith("file:")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_hides_in_a_name_is_marked_in_lists_and_in_the_head(opened):
    page = opened(report_with("a\u202eb\u200b\U000e0041\u3164 "))
    marks = ["U+202E", "U+200B", "U+E0041", "U+3164", "␠"]
    for place in (".group >> nth=1 >> bdi", ".stage strong bdi", ".database-name bdi", "#findings-list .what > bdi"):
        assert page.locator(place).first.locator(".mark").all_text_contents() == marks, place


def test_the_policy_is_enforced_not_just_written(opened):
    page = opened(REPORT)
    refused = page.evaluate(
        """async () => {
          const refused = [];
          document.addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
          const image = document.createElement("img");
          image.src = "https://example.com/x.png";
          document.body.append(image);
          try { document.body.innerHTML = "<p>"; } catch { refused.push("innerHTML"); }
          document.body.setAttribute("style", "color: red");
          try { await fetch("https://example.com"); } catch { refused.push("fetch"); }
          await new Promise((done) => setTimeout(done, 100));
          return refused;
        }"""
    )
    assert {"img-src", "innerHTML", "style-src-attr", "connect-src", "fetch"} <= set(refused)
