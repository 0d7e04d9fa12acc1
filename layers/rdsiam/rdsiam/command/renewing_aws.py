"""AWS for a command that runs for days: credentials are renewed in time, and read again after they were replaced."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rdsiam.command.aws import RENEW, Aws
from rdsiam.command.errors import CredentialsExpired
from rdsiam.errors import RdsiamError
from rdsiam.signer import LIFETIME, Credentials

logger = logging.getLogger("rdsiam.proxy.credentials")  # written as the proxy's other lines
#: botocore says the same with a traceback.
logging.getLogger("botocore.credentials").addHandler(logging.NullHandler())
#: A token ends with the credentials that signed it, so they are renewed with more than its life left.
_LEAST = timedelta(seconds=LIFETIME)
#: The files of credentials are looked at, and a failed renewal is repeated, at most this often.
_PAUSE = timedelta(seconds=5)


@dataclass(frozen=True)
class _Check:
    """The result of the last look at the credentials: they, or the error."""

    at: datetime
    credentials: Credentials | None
    expiry: datetime | None = None
    error: RdsiamError | None = None

    def is_recent(self, now: datetime) -> bool:
        """Tell whether it was a moment ago; after the clock was set back, it was not."""
        return timedelta(0) <= now - self.at < _PAUSE

    def works(self, now: datetime) -> bool:
        """Tell whether the credentials have not expired."""
        return self.credentials is not None and (self.expiry is None or now < self.expiry)


class RenewingAws(Aws):
    """Clients and credentials for one profile and region. Thread-safe.

    All times are the wall clock's: a machine that slept finds its credentials expired when it wakes.
    """

    def __init__(
        self, profile: str | None, region: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(profile, region)
        self._names = profile, region
        self._now = now
        self._lock = threading.Lock()
        self._last: _Check | None = None
        self._files = self._versions()

    def current(self) -> Credentials | None:
        """Return the credentials if they are known to last for a token's life; None if `credentials` has to look."""
        last, now = self._last, self._now()
        if last is None or not last.is_recent(now) or (last.expiry is not None and last.expiry - now <= _LEAST):
            return None
        return last.credentials

    def credentials(self) -> tuple[Credentials, datetime | None]:
        """Return the caller's credentials, renewed if less than a token's life is left.

        :raises Denied: there are no credentials.
        :raises CredentialsExpired: they have expired, and can't be renewed.
        """
        last, now = self._last, self._now()
        works = last is not None and last.works(now)
        if last is None or not last.is_recent(now) or not works:
            # While the credentials still work, one thread renews them, and the others go on.
            if self._lock.acquire(blocking=not works):
                try:
                    last = self._last = self._check(self._last)
                finally:
                    self._lock.release()
            assert last is not None
        if last.error is not None:
            raise last.error.with_traceback(None)
        assert last.credentials is not None
        return last.credentials, last.expiry

    def forget(self, even_recent: bool = True) -> None:
        """Read the credentials anew when they are needed next: AWS says, or may mean, that they have expired.

        :param even_recent: also if they were looked at a moment ago.
        """
        with self._lock:
            last = self._last
            if last is not None and last.error is None and (even_recent or not last.is_recent(self._now())):
                self._last = None
                self._files = ()

    def _report_waiting(self) -> None:
        """Report nothing: the log has no lines for a person who waits."""

    def _check(self, last: _Check | None) -> _Check:
        now = self._now()
        if last is not None and last.is_recent(now) and (last.error is not None or last.works(now)):
            return last  # another thread has looked in the meantime, or a moment ago in vain
        try:
            self._read_changed_files()
            credentials, expiry = super().credentials()
            if expiry is not None and expiry <= now:
                raise CredentialsExpired("your credentials have expired", RENEW)
        except RdsiamError as error:
            if last is not None and last.expiry is not None and last.works(now):
                logger.warning("credentials are not renewed: %s", error)
                return _Check(now, last.credentials, last.expiry)
            return _Check(now, None, error=error)
        return _Check(now, credentials, expiry)

    def _read_changed_files(self) -> None:
        """Begin anew with other files: botocore reads them once."""
        if (files := self._versions()) != self._files:
            Aws.__init__(self, *self._names)
            self._files = files

    def _versions(self) -> tuple[object, ...]:
        """Return the versions of the files with credentials and profiles."""
        versions: list[object] = []
        for name in ("credentials_file", "config_file"):
            try:
                status = Path(str(self._session.get_config_variable(name))).expanduser().stat()
            except OSError:
                versions.append(None)
            else:
                versions.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(versions)
