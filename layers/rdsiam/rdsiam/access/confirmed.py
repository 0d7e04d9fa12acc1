"""The access.yaml that is in force for all functions: the newest version, unless that one waits for confirmation.

See docs/decisions/0063-change-limit-of-vending.md.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from rdsiam.access.change_limit import loss
from rdsiam.access.store import AccessStore, Versioned
from rdsiam.errors import AccessFileUnavailable

logger = logging.getLogger(__name__)

#: What to do about a version that waits.
CONFIRM = "if that is intended, run rdsiam access publish FILE --confirm; otherwise rdsiam access rollback VERSION"


def waits(version: str) -> str:
    """Return the reason why a version is not in force."""
    return f"version {version} of access.yaml waits for confirmation, and the applied one counts until then"


class ConfirmedAccess:
    """Keeps to the applied version of access.yaml while the newest one exceeds the change limit unconfirmed.

    A confirmed version that was used, and that no reconcile has recorded yet, counts as the applied one: the logins
    that it took don't come back with the version that follows it.

    Thread-safe. The applied version is read together with the first file, and later only if the file has changed, or
    while a version waits.

    :param applied: returns the applied version; None if there is none.
    :param max_age: seconds for which a version that waits is kept waiting without asking for the applied one again.
    """

    def __init__(
        self,
        newest: AccessStore,
        applied: Callable[[], str | None],
        max_age: float = 60,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._newest = newest
        self._applied = applied
        self._max_age = max_age
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        #: The newest version when that was decided, and the version that is used; the same if none waits.
        self._decided: tuple[Versioned, Versioned] | None = None
        self._decided_at = 0.0
        #: The last confirmed version that was used.
        self._confirmed: Versioned | None = None

    def current(self) -> Versioned:
        """Return the version that is in force now.

        :raises AccessFileUnavailable: S3 or the inventory could not be asked: nobody is allowed anything.
        :raises AccessFileInvalid: the newest version is invalid. No other one is used.
        """
        return self._newest_and_used()[1]

    def waiting(self) -> Versioned | None:
        """Return the newest version if it waits for confirmation; None if it is in force.

        :raises AccessFileUnavailable: as `current` does.
        :raises AccessFileInvalid: as `current` does.
        """
        newest, used = self._newest_and_used()
        return None if newest is used else newest

    def _newest_and_used(self) -> tuple[Versioned, Versioned]:
        with self._lock:
            reading = _Reading(self._applied) if self._decided is None else None
            waits = self._decided is not None and self._decided[0] is not self._decided[1]
            newest = self._newest.current(anew=waits)
            asked_at = self._clock()
            again = waits and asked_at - self._decided_at >= self._max_age
            if self._decided is None or newest is not self._decided[0] or again:
                self._decided = newest, self._decide(newest, reading or _Reading(self._applied))
                self._decided_at = asked_at
            return self._decided

    def _decide(self, newest: Versioned, reading: "_Reading") -> Versioned:
        """Return the version to use: the newest one, or the applied one if the newest waits for confirmation."""
        if newest.confirmed:
            self._confirmed = newest
            return newest
        version = reading.result()
        applied = None if version in (None, newest.version) else self._version(version)
        if applied is not None and self._confirmed is not None and self._confirmed.published > applied.published:
            applied = self._confirmed
        if applied is None:
            return newest
        change = loss(applied.file, newest.file, self._now())
        if not change.needs_confirmation:
            return newest
        logger.warning(
            "version %s of access.yaml waits for confirmation, and %s is used: %s",
            newest.version,
            applied.version,
            change,
        )
        return applied

    def _version(self, version: str | None) -> Versioned | None:
        kept = next((each for each in self._decided or () if each.version == version), None)
        return kept or self._newest.version(version or "")


class _Reading:
    """The applied version, read in a thread of its own, so that it takes no time beside the file."""

    def __init__(self, applied: Callable[[], str | None]) -> None:
        self._read = applied
        self._version: str | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="applied version")
        self._thread.start()

    def result(self) -> str | None:
        """Return the applied version.

        :raises AccessFileUnavailable: it could not be read.
        """
        self._thread.join()
        if self._error is not None:
            raise AccessFileUnavailable(
                f"the applied version of access.yaml can't be read: {type(self._error).__name__}; "
                "nobody is allowed anything until it can"
            ) from self._error
        return self._version

    def _run(self) -> None:
        try:
            self._version = self._read()
        except Exception as error:
            self._error = error
