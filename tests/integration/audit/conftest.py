"""Servers that are no databases, and a browser for the report's page."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from bench.browser import launch
from tests.integration.audit.browser import Opened
from tests.integration.audit.strangers import Behaviour, Stranger


@pytest.fixture
def make_stranger() -> Iterator[Callable[[Behaviour], Stranger]]:
    """Make servers that are no databases."""
    made: list[Stranger] = []

    def make(behave: Behaviour) -> Stranger:
        made.append(Stranger(behave))
        return made[-1]

    yield make
    for stranger in made:
        stranger.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for a file of tests."""
    with sync_playwright() as playwright, launch(playwright) as browser:
        yield browser


@pytest.fixture(scope="module")
def shared_page(chromium: Browser) -> Iterator[Page]:
    """One page for the tests of a file that ask nothing of its context."""
    context = chromium.new_context(permissions=["clipboard-read", "clipboard-write"])
    yield context.new_page()
    context.close()


@pytest.fixture
def opened(chromium: Browser, shared_page: Page, tmp_path: Path) -> Iterator[Opened]:
    """Open reports as pages, and record their messages and requests."""
    opened = Opened(chromium, shared_page, tmp_path)
    yield opened
    opened.close()
