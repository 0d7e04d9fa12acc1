"""The current access.yaml from S3, at most a minute old; on any doubt there is none."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from rdsiam.access.document import MAX_BYTES
from rdsiam.access.model import AccessFile, parse
from rdsiam.errors import AccessFileInvalid, AccessFileUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Versioned:
    """The file, and which one it is.

    :ivar version: the object's version id, or its ETag where the bucket is not versioned: decisions record it.
    """

    file: AccessFile
    version: str


class AccessStore:
    """Keeps the current access.yaml; any number of threads may share it, and one of them refreshes it.

    :param key: of the object in the bucket.
    :param max_age: seconds for which the file is used without asking S3 again. Then one conditional GET asks; an
        answer other than the file or "not modified" means that nobody is allowed anything.
    :param clock: seconds, never going back.
    """

    def __init__(
        self,
        s3_client: "S3Client",
        bucket: str,
        key: str = "access.yaml",
        max_age: float = 60,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._s3 = s3_client
        self._bucket = bucket
        self._key = key
        self._max_age = max_age
        self._clock = clock
        self._lock = threading.Lock()
        #: What the object with `_etag` was read as: a file, or why there is none.
        self._current: Versioned | AccessFileInvalid | None = None
        self._etag = ""
        self._checked_at = 0.0

    def current(self) -> Versioned:
        """Return the file as it was at most `max_age` seconds ago.

        :raises AccessFileUnavailable: S3 could not be asked, refused, or has no such object.
        :raises AccessFileInvalid: the object breaks the rules of access.yaml, which is found out once for each version
            of it. The previous version is not used.
        """
        with self._lock:
            if self._current is None or self._clock() - self._checked_at >= self._max_age:
                self._refresh()
            current = self._current
        assert current is not None
        if isinstance(current, AccessFileInvalid):
            raise AccessFileInvalid(current.problems, current.version)  # a new one: a traceback belongs to one request
        return current

    def names_user(self, name: str) -> bool:
        """Return whether the file names a user with a password so, or a clone of one; False if it can't be read."""
        try:
            return name in self.current().file.users_with_passwords
        except (AccessFileInvalid, AccessFileUnavailable) as error:
            logger.warning("the names of users are unknown: %s", error)
            return False

    def _refresh(self) -> None:
        asked_at = self._clock()  # before the answer, which may be as old as this
        response = self._get()
        if response is not None:
            etag = response["ETag"]
            version = response.get("VersionId")
            # S3 names the version "null" where versioning is off or was when the object was written.
            name = version if version and version != "null" else etag.strip('"')
            try:
                # If the object can't be read, the time stays, so that the old one is not used.
                self._current = Versioned(parse(self._read(response)), name)
            except AccessFileInvalid as error:
                self._current = AccessFileInvalid(error.problems, name)
            self._etag = etag
        self._checked_at = asked_at

    def _get(self) -> Any:
        """Return S3's response with the object; None if it is still the cached one."""
        condition = {"IfNoneMatch": self._etag} if self._current else {}
        try:
            return self._s3.get_object(Bucket=self._bucket, Key=self._key, **condition)  # type: ignore[arg-type]
        except ClientError as error:
            if self._current and error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 304:
                return None
            raise self._unavailable(error.response["Error"].get("Code", "unknown")) from error
        except BotoCoreError as error:
            raise self._unavailable(type(error).__name__) from error

    def _read(self, response: Any) -> str:
        if response["ContentLength"] > MAX_BYTES:
            raise AccessFileInvalid([f"line 1: the file is larger than {MAX_BYTES:,} bytes"])
        try:
            content: bytes = response["Body"].read()
            return content.decode()
        except UnicodeDecodeError:
            raise AccessFileInvalid(["line 1: the file is not valid Unicode"]) from None
        except (BotoCoreError, OSError) as error:
            raise self._unavailable(type(error).__name__) from error

    def _unavailable(self, problem: str) -> AccessFileUnavailable:
        return AccessFileUnavailable(
            f"s3://{self._bucket}/{self._key} can't be read: {problem}; nobody is allowed anything until it can"
        )
