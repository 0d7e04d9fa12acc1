"""A real Chromium, the system's, for pages that are opened from a file."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Dialog, Page

from rdsiam.report.page import html_report


class Opened:
    """Pages that are open.

    The first one of a test, if it asks nothing of its context, is one that all tests of a file share: a page of its own
    costs a second of processor time, another address in it a third.

    :ivar requests: every address that a page asked for; `problems`: what the console and dialogs said.
    """

    def __init__(self, browser: Browser, shared: Page, folder: Path) -> None:
        self._browser, self._shared, self._folder = browser, shared, folder
        self._contexts: list[BrowserContext] = []
        self._opened = 0
        self.requests: list[str] = []
        self.problems: list[str] = []
        self._listeners: dict[Any, Callable[[Any], None]] = {
            "request": lambda request: self.requests.append(request.url),
            "console": lambda message: self.problems.append(message.text),
            "pageerror": lambda error: self.problems.append(str(error)),
            "dialog": self._dismiss,
        }

    def __call__(self, report: dict[str, Any], hash: str = "", **context: Any) -> Page:
        """Open a report's page; `context` is what Playwright's `new_context` takes."""
        file = self._folder / f"report-{self._opened}.html"
        file.write_text(html_report(report), encoding="utf-8")
        page = self._shared
        if context or self._opened:
            self._contexts.append(self._browser.new_context(**context))
            page = self._contexts[-1].new_page()
        self._opened += 1
        for event, listener in self._listeners.items():
            page.on(event, listener)
        page.goto(file.as_uri() + hash)
        return page

    def close(self) -> None:
        """Close the test's own pages, and have the shared one as it was."""
        for context in self._contexts:
            context.close()
        for event, listener in self._listeners.items():
            with contextlib.suppress(KeyError):  # the test has not used it
                self._shared.remove_listener(event, listener)
        self._shared.emulate_media(media="null")

    def _dismiss(self, dialog: Dialog) -> None:
        self.problems.append(dialog.message)
        dialog.dismiss()
