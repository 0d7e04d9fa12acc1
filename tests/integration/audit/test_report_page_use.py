"""The report's page for its readers: by keyboard, on small screens, on paper, without scripts."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from bench.sample_report import sample

REPORT = sample(40, 200)
OPEN = [finding for finding in REPORT["findings"] if not finding["suppressed"]]


def test_the_page_can_be_used_by_the_keyboard_alone(opened):
    page = opened(REPORT)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the findings")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#findings-list summary')"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Copy"
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == OPEN[0]["remediation"][0]["text"]


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1440, "light"),
        pytest.param(390, "dark", marks=pytest.mark.exhaustive),  # test_contrast.py has the colours of both
        pytest.param(1440, "dark", marks=pytest.mark.exhaustive),
        pytest.param(390, "light", marks=pytest.mark.exhaustive),
    ],
)
def test_the_page_has_no_fault_that_axe_knows(opened, scheme, width):
    page = opened(sample(20, 30), color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page.locator("#findings-list summary").first.click()
    page.locator(".stage > summary").first.click()
    found = Axe().run(
        page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    assert [(each["id"], each["nodes"][0]["html"]) for each in found.response["violations"]] == []


def test_the_page_is_dark_if_the_reader_prefers_dark(opened):
    grounds = [
        opened(REPORT, color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert grounds == ["rgb(246, 247, 248)", "rgb(14, 17, 20)"]


@pytest.mark.parametrize("width", [390, 320])
def test_the_page_fits_a_small_screen(opened, width):
    page = opened(REPORT, viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    expect(page.locator("#filters")).to_be_hidden()
    page.get_by_text("Filters", exact=True).click()
    expect(page.locator("#filters")).to_be_visible()


def test_paper_gets_every_finding_that_fits_opened_and_no_controls(opened):
    page = opened(REPORT, color_scheme="dark")
    page.get_by_role("checkbox", name=re.compile("^Critical")).check()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("#findings-list details[open]").count() == REPORT["summary"]["findings"]["critical"]
    assert page.locator("#databases-rows tr").count() == len(REPORT["databases"])
    expect(page.locator("#findings-list .fix pre").first).to_be_visible()
    for hidden in ("#filters", "#findings-more", ".fix-head button >> nth=0"):
        expect(page.locator(hidden)).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#findings-list details[open]").count() == 0


def test_paper_says_if_it_does_not_have_all(opened):
    page = opened(sample(100, 700))
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    expect(page.get_by_text("The first 500 of 700 are printed")).to_be_visible()


def test_paper_gets_a_summary_of_a_large_fleet(opened):
    report = sample(120, 300)
    page = opened(report)
    assert page.get_by_label("On paper").input_value() == "summary"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    expect(page.locator("#findings-list")).to_be_hidden()
    expect(page.get_by_role("heading", name="Findings by kind")).to_be_visible()
    expect(page.get_by_text("The first 25 of 120 databases are printed")).to_be_visible()
    assert page.locator("#databases-rows tr:visible").count() == 25


def test_the_reader_chooses_what_is_printed(opened):
    page = opened(REPORT)
    assert page.get_by_label("On paper").input_value() == "all"
    page.get_by_label("On paper").select_option("summary")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    expect(page.locator("#findings-list")).to_be_hidden()
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.get_by_label("On paper").select_option("all")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    expect(page.locator("#findings-list .fix pre").first).to_be_visible()
    assert page.locator("#databases-rows tr:visible").count() == len(REPORT["databases"])


@pytest.mark.parametrize("choice", ["summary", "all"])
def test_no_column_on_paper_is_squeezed(opened, choice):
    """No text of a table, a card or a line has less room than its longest word, on A4 with its margins."""
    page = opened(sample(40, 60), viewport={"width": 688, "height": 1000})
    page.get_by_label("On paper").select_option(choice)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    for narrow in (".group .label", "#databases-rows td:first-child", ".what", ".headline h1", ".kinds th"):
        widths = page.eval_on_selector_all(narrow, "all => all.map((each) => each.getBoundingClientRect().width)")
        assert not widths or all(width == 0 or width >= 100 for width in widths), narrow


def test_the_page_becomes_a_pdf(opened):
    assert opened(sample(20, 40)).pdf().startswith(b"%PDF")


def test_without_scripts_the_page_shows_the_headline_and_the_unknown_databases(opened):
    page = opened(REPORT, java_script_enabled=False)
    expect(page.get_by_role("heading", level=1)).to_contain_text("of database users log in without a password")
    expect(page.locator("#unknown-title")).to_be_visible()
    expect(page.get_by_text("The lists of databases and findings need JavaScript.")).to_be_visible()
    expect(page.locator("noscript p")).to_be_visible()
    expect(page.get_by_role("heading", name="Findings by kind")).to_be_visible()
    expect(page.locator(".find").first).to_be_hidden()
