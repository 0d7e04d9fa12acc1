"""A real Chromium, the system's, for pages that are opened from a file."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Dialog, Page

from rdsiam.report.page import html_report


class Opened:
    """Pages that are open.

    :ivar requests: every address that a page asked for; `problems`: what the console and dialogs said.
    """

    def __init__(self, browser: Browser, folder: Path) -> None:
        self._browser, self._folder = browser, folder
        self.contexts: list[BrowserContext] = []
        self.requests: list[str] = []
        self.problems: list[str] = []

    def __call__(self, report: dict[str, Any], hash: str = "", **context: Any) -> Page:
        """Open a report's page; `context` is what Playwright's `new_context` takes."""
        file = self._folder / f"report-{len(self.contexts)}.html"
        file.write_text(html_report(report), encoding="utf-8")
        made = self._browser.new_context(**context)
        self.contexts.append(made)
        page = made.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", self._dismiss)
        page.goto(file.as_uri() + hash)
        return page

    def _dismiss(self, dialog: Dialog) -> None:
        self.problems.append(dialog.message)
        dialog.dismiss()
