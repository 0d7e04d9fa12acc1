"""The system's Chromium, started so that it asks nobody for anything: for bench, picture and tests of the page."""

import shutil

from playwright.sync_api import Browser, Playwright

#: Nothing of its own over the network, no GPU; the user data directory is Playwright's own, new for each start.
ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def launch(playwright: Playwright) -> Browser:
    """Start it, headless.

    :raises RuntimeError: there is none; scripts/setup installs it.
    """
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        raise RuntimeError("Chromium is missing: run scripts/setup")
    # It runs as root in containers, where its own sandbox can't be made.
    return playwright.chromium.launch(executable_path=found, headless=True, chromium_sandbox=False, args=ARGUMENTS)
