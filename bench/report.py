"""The speed of the report's page: written by the function, and shown by a real Chromium."""

import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from bench.browser import launch
from bench.result import Result
from bench.sample_report import sample
from rdsiam.report.page import html_report

DATABASES, FINDINGS, ROUNDS = 1_000, 5_000, 5
LIMIT = 2_000.0  # milliseconds
_TIMES = """() => {
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return paint ? [paint.startTime, performance.getEntriesByName("rdsiam-ready")[0].startTime] : null;
}"""


def run() -> list[Result]:
    """Measure a page of 1,000 databases and 5,000 findings: medians of 5 loads from a file, each in a new context.

    First paint is the browser's own figure (first-contentful-paint); the lists are there when the page's script ends.
    """
    report = sample(DATABASES, FINDINGS)
    started = time.perf_counter()
    page = html_report(report)
    written = (time.perf_counter() - started) * 1000
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright, launch(playwright) as browser:
        file = Path(folder) / "report.html"
        file.write_text(page, encoding="utf-8")
        paints, lists = zip(*(_load(browser, file) for _ in range(ROUNDS)), strict=True)
    paint, ready = statistics.median(paints), statistics.median(lists)
    size = len(page.encode()) / FINDINGS
    return [
        Result("report-first-paint", paint, "ms", "2 s, the promise", LIMIT, paint / LIMIT, at_most=1),
        Result("report-lists-shown", ready, "ms", "2 s", LIMIT, ready / LIMIT),
        Result("report-written", written, "ms", "2 s", LIMIT, written / LIMIT),
        Result("report-bytes-a-finding", size, "B", "1 KB", 1024, size / 1024),
    ]


def _load(browser: Browser, file: Path) -> tuple[float, float]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_function(f"({_TIMES})() !== null")
    paint, ready = page.evaluate(_TIMES)
    context.close()
    return paint, ready
