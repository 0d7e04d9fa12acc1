"""Options of pytest, and the cloud that all tests of a worker share."""

import gc
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from xdist.remote import Producer

from localcloud import client
from localcloud.client import RunningCloud
from localcloud.databases.servers.mysql_programs import MISSING, find_mysql
from tests.examples import FACTORS
from tests.ground import keep_data_in_memory
from tests.integration.account import Account
from tests.integration.issuer import Issuer
from tests.sparing import spare_repetitions
from tests.spreading import Durations, Spreading, Together, place_in_order
from tests.terminal import SHELLS, missing
from tests.waiting import growing_pauses

#: The engines in the ids of parameters.
_ENGINE = re.compile(
    r"(?<![a-z])(?:aurora-)?(?:postgresql|postgres\d*(?:-vanilla)?|mariadb|mysql(?:-no-partial)?)(?![a-z])"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose how much is tried, and that measure the files."""
    parser.addoption("--examples", choices=FACTORS, help="how much hypothesis tries; all if exhaustive tests run")
    parser.addoption("--store-durations", action="store_true", help="store how long each file takes, for the spreading")


def pytest_configure(config: pytest.Config) -> None:
    """Choose how much hypothesis tries and where data are; measure the files if this process hears of all tests."""
    keep_data_in_memory()
    spare_repetitions()
    quick = "not exhaustive" in config.getoption("markexpr")
    settings.load_profile(config.getoption("examples") or ("quick" if quick else "all"))
    if config.getoption("store_durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Durations())


@pytest.hookimpl(tryfirst=True)  # before pytest chooses tests by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files last that come last, and mark exhaustive tests."""
    items.sort(key=lambda item: place_in_order(item.nodeid.partition("::")[0]))
    for item in items:
        marker = item.get_closest_marker("exhaustive_on")  # a test's own replaces its module's
        if marker and set(marker.args) & _parameters(item):
            item.add_marker(pytest.mark.exhaustive)


def pytest_collectstart() -> None:
    """Collect no garbage until all tests are there, as next to none arises. Not called where tests are only spread."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep the tests out of what the garbage collector looks through."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests ran on which engine, as not every machine can have each."""
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.stats.get(kind, [])]
    ids = [each.nodeid for each in reports if each.nodeid.startswith("tests/integration/")]
    ran = Counter(engine for each in ids for engine in set(_ENGINE.findall(each.partition("[")[2])))
    if ran:
        counts = ", ".join(f"{engine} {number}" for engine, number in sorted(ran.items()))
        programs = find_mysql()
        mysql = f"MySQL is {programs.label}" if programs else f"no MySQL, as {MISSING}"
        terminalreporter.write_line(f"tests by engine: {counts}; {mysql}")
    skipped = {each.nodeid for each in terminalreporter.stats.get("skipped", []) if "/documentation/" in each.nodeid}
    if absent := [shell for shell in SHELLS if missing(shell) and skipped]:
        terminalreporter.write_line(f"documented commands were NOT tried in {' and '.join(absent)}, as it is missing")


def _parameters(item: pytest.Item) -> set[str]:
    """Return the parts, between hyphens, of what stands in brackets after a test's name."""
    return set(item.name.partition("[")[2].removesuffix("]").split("-"))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Spreading:
    """Spread the tests in our own way."""
    return Spreading(config, log)


@pytest.fixture(scope="session", autouse=True)
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together]:
    """Return the messages between the workers of a run; a worker reports its end last."""
    together = Together(tmp_path_factory)
    yield together
    together.end()


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    """Return the issuer that the cloud's API takes tokens of."""
    made = Issuer()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer, together: Together) -> Iterator[RunningCloud]:
    """Return the cloud that all tests of a worker share; its log is shown when it fails to start."""
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
        pauses = growing_pauses()
        while True:
            result = condition()
            if result:
                return result
            assert time.monotonic() < deadline, f"it did not come true within {limit:.0f} s"
            time.sleep(next(pauses))

    return wait


@pytest.fixture(scope="session")
def owner(cloud) -> Account:
    """Return the account as the cloud starts with it."""
    return Account(cloud)


@pytest.fixture(scope="session")
def account(owner) -> Iterator[Account]:
    """One account for all integration tests."""
    account = owner
    account.shared.add("nothing-of-that-name")
    account.follow_access_yaml(False)
    account.declare("nothing-of-that-name", {"name": "nobody", "privileges": "readonly", "on": ["shop"]})
    yield account
    account.entries.clear()
