"""Fixtures live in files named after what they provide."""

from collections.abc import Iterator

import pytest
from xdist.remote import Producer

from tests.spreading import Spreading, Together

pytest_plugins = [
    "tests.integration.fix_issuer",
    "tests.integration.fix_cloud",
    "tests.integration.fix_fleet",
    "tests.integration.fix_account",
    "tests.integration.fix_browser",
    "tests.integration.fix_engines",
    "tests.integration.fix_passwords",
    "tests.integration.fix_rotation",
    "tests.integration.fix_dying",
    "tests.integration.fix_strangers",
    "tests.integration.fix_tokens",
    "tests.sam.fix_build",
    "tests.sam.fix_local",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test of a known fault has to fail, and by what it asserts: when it passes, it moves to where it belongs."""
    asserted = (AssertionError, pytest.fail.Exception)
    for item in items:
        for fault in item.iter_markers("known_fault"):
            item.add_marker(pytest.mark.xfail(raises=asserted, strict=True, reason=": ".join(fault.args)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Spreading:
    """Spread the tests in our own way."""
    return Spreading(config, log)


@pytest.fixture(scope="session", autouse=True)
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together]:
    """What the workers of a run tell each other; that one has ended is told when all else has been put away."""
    together = Together(tmp_path_factory)
    yield together
    together.end()
