"""Spreads the tests over workers: whole files, the longest first, and a cloud for each worker.

Two files come last. The one that looks through a cloud for what must not be there has a parameter for each worker, and
each worker gets one when it has nothing else left to do. The one that judges what was used in all clouds together goes
to one worker, which waits in it until the others have ended.
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

#: Seconds that each file took when it was last measured, by `make test-all PYTEST=--store-durations`.
DURATIONS_FILE = Path(__file__).parent / "durations.json"
DURATIONS: dict[str, int] = json.loads(DURATIONS_FILE.read_text())
IN_EACH_CLOUD = "tests/integration/security/test_secrets_stay_secret.py"
OF_ALL_CLOUDS = "tests/integration/security/test_permissions_are_used.py"
#: How many workers there are; one where the tests are not spread.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_NAME = os.environ.get("PYTEST_XDIST_WORKER", "here")


class Spreading(LoadFileScheduling):
    """The scheduler: it runs where pytest was started, and says what each worker does next."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return f"{file}[{nodeid.rpartition('[')[2]}" if file == IN_EACH_CLOUD else file

    def _assign_work_unit(self, node: WorkerController) -> None:
        chosen = self._next_of(node)
        assert chosen is not None
        self.workqueue.move_to_end(chosen, last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if self.workqueue and not node.shutting_down and self._next_of(node) is None:
            node.shutdown()
        else:
            super()._reschedule(node)

    def _next_of(self, node: WorkerController) -> str | None:
        return next_of(self.workqueue, self.assigned_work.get(node, {}))


def next_of(waiting: Collection[str], had: Collection[str]) -> str | None:
    """Choose what a worker does next; None when there is nothing for it.

    :param waiting: what nobody has been given yet.
    :param had: what this worker was given.
    """
    in_each = [one for one in waiting if one.startswith(IN_EACH_CLOUD)]
    others = [one for one in waiting if one not in in_each and one != OF_ALL_CLOUDS]
    if others:
        return min(others, key=_rank)
    if in_each and not any(one.startswith(IN_EACH_CLOUD) for one in had):
        return in_each[0]
    return OF_ALL_CLOUDS if OF_ALL_CLOUDS in waiting else None


def place_in_order(file: str) -> int:
    """Return 0, or more for a file that needs what all other files have left behind: the order in one process."""
    return (file == IN_EACH_CLOUD) + 2 * (file == OF_ALL_CLOUDS)


def _rank(file: str) -> tuple[bool, int, str]:
    return file.startswith("tests/unit/"), -DURATIONS.get(file, 0), file


class Durations:
    """A pytest plugin that measures how long each file takes, and stores it at the end."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the duration of one phase of a test to its file's."""
        self._seconds[report.nodeid.partition("::")[0]] += report.duration

    def pytest_sessionfinish(self) -> None:
        """Store the integration tests' files of more than ten seconds; a run of a few files updates these only."""
        measured = {file: round(seconds) for file, seconds in self._seconds.items()}
        root = DURATIONS_FILE.parents[1]
        known = {file: seconds for file, seconds in DURATIONS.items() if (root / file).exists()} | measured
        longest = sorted(
            (file for file in known if known[file] > 10 and "/unit/" not in file and not place_in_order(file)),
            key=lambda file: (-known[file], file),
        )
        DURATIONS_FILE.write_text(json.dumps({file: known[file] for file in longest}, indent=2) + "\n")


class Together:
    """A folder that all workers of a run see."""

    def __init__(self, temporary: pytest.TempPathFactory) -> None:
        base = temporary.getbasetemp()
        self._folder = (base if WORKERS == 1 and _NAME == "here" else base.parent) / "together"
        self._folder.mkdir(exist_ok=True)

    def put(self, name: str, text: str) -> None:
        """Leave a text of this worker for the others."""
        (self._folder / f"{name}-{_NAME}").write_text(text)

    def get(self, name: str) -> list[str]:
        """Return what all workers have left under the name until now."""
        return [file.read_text() for file in sorted(self._folder.glob(f"{name}-*"))]

    def end(self) -> None:
        """Say that this worker has ended."""
        self.put("ended", "")

    def wait_for_the_others(self, seconds: float) -> None:
        """Wait until all other workers have ended."""
        limit = time.monotonic() + seconds
        while len(self.get("ended")) < WORKERS - 1:
            assert time.monotonic() < limit, "the other workers have not ended"
            time.sleep(0.2)
