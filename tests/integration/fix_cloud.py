"""Fixtures of the integration tests: one cloud for all that a worker does."""

import time
from collections.abc import Callable, Iterator

import pytest

from localcloud import client
from localcloud.client import RunningCloud
from tests.integration.fix_issuer import Issuer
from tests.spreading import Together


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer, together: Together) -> Iterator[RunningCloud]:
    """The cloud that all tests of a worker share; its log is shown when it fails to start."""
    log = tmp_path_factory.mktemp("cloud") / "cloud.log"
    parameters = ("SecurityHub=on", f"OidcIssuer={issuer.url}")
    with client.start(*(part for one in parameters for part in ("--parameter", one)), log=log) as running:
        running.client("securityhub").enable_security_hub()
        yield running
        together.put("statements", (running.directory / "statements.jsonl").read_text())


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], object]], object]:
    """Call something until it returns what is true, for 20 s at most, and return that."""

    def wait(condition: Callable[[], object], limit: float = 20.0) -> object:
        deadline = time.monotonic() + limit
        while True:
            result = condition()
            if result:
                return result
            assert time.monotonic() < deadline, f"it did not come true within {limit:.0f} s"
            time.sleep(0.05)

    return wait
