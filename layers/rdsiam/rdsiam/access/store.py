"""The current access.yaml from S3, at most a minute old; on any doubt there is none."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from rdsiam.access.document import MAX_BYTES
from rdsiam.access.model import AccessFile, parse
from rdsiam.core import times
from rdsiam.errors import AccessFileInvalid, AccessFileUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

#: The metadata of the object by which its publisher exceeds the change limit of vending. It comes
#: with the object: it needs no call and no other writer, and is about no other version.
CONFIRMED: Mapping[str, str] = {"rdsiam-confirmed": "true"}


class Versioned(NamedTuple):
    """The file, and which one it is.

    :ivar version: the object's version id, or its ETag where the bucket is not versioned: decisions record it.
    :ivar confirmed: its publisher has confirmed that it takes most callers' logins.
    :ivar published: when it was published, RFC 3339; empty if S3's client doesn't say.
    """

    file: AccessFile
    version: str
    confirmed: bool = False
    published: str = ""


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

    def current(self, anew: bool = False) -> Versioned:
        """Return the file as it was at most `max_age` seconds ago.

        :param anew: ask for the object even if its ETag is the same: its metadata may be another.
        :raises AccessFileUnavailable: S3 could not be asked, refused, or has no such object.
        :raises AccessFileInvalid: the object breaks the rules of access.yaml, which is found out once for each version
            of it. The previous version is not used.
        """
        with self._lock:
            if self._current is None or self._clock() - self._checked_at >= self._max_age:
                self._refresh(anew)
            current = self._current
        assert current is not None
        if isinstance(current, AccessFileInvalid):
            raise AccessFileInvalid(current.problems, current.version)  # a new one: a traceback belongs to one request
        return current

    def version(self, version: str) -> Versioned | None:
        """Return an earlier version of the file; None if it is gone, may not be read, or is invalid.

        :raises AccessFileUnavailable: S3 could not be asked.
        """
        try:
            response = self._s3.get_object(Bucket=self._bucket, Key=self._key, VersionId=version)
            return _versioned(parse(self._read(response)), version, response)
        except ClientError as error:
            # S3 says "denied" of what is missing to those who may not list.
            if 400 <= error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) < 500:
                logger.warning("version %s of access.yaml can't be read: %s", version, error.response["Error"]["Code"])
                return None
            raise self._unavailable(error.response["Error"].get("Code", "unknown")) from error
        except BotoCoreError as error:
            raise self._unavailable(type(error).__name__) from error
        except AccessFileInvalid:
            logger.warning("version %s of access.yaml is invalid", version)
            return None

    def names_user(self, name: str) -> bool:
        """Return whether the file names a user with a password so, or a clone of one; False if it can't be read."""
        try:
            return name in self.current().file.users_with_passwords
        except (AccessFileInvalid, AccessFileUnavailable) as error:
            logger.warning("the names of users are unknown: %s", error)
            return False

    def _refresh(self, anew: bool) -> None:
        asked_at = self._clock()  # before the answer, which may be as old as this
        response = self._get("" if anew else self._etag)
        if response is not None:
            name = _name(response)
            if not self._is_current(name, response):
                try:
                    # If the object can't be read, the time stays, so that the old one is not used.
                    self._current = _versioned(parse(self._read(response)), name, response)
                except AccessFileInvalid as error:
                    self._current = AccessFileInvalid(error.problems, name)
            self._etag = response["ETag"]
        self._checked_at = asked_at

    def _is_current(self, name: str, response: Any) -> bool:
        """Return whether S3's response is the cached file, by the id of its version: versions never change."""
        has_id = name == response.get("VersionId")
        return has_id and isinstance(self._current, Versioned) and self._current.version == name

    def _get(self, etag: str) -> Any:
        """Return S3's response with the object; None if it is still the cached one."""
        condition = {"IfNoneMatch": etag} if self._current and etag else {}
        try:
            return self._s3.get_object(Bucket=self._bucket, Key=self._key, **condition)  # type: ignore[arg-type]
        except ClientError as error:
            if condition and error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 304:
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


def _name(response: Any) -> str:
    """Return the name of an object's version: its id, or its ETag if it has none."""
    version = response.get("VersionId")
    # S3 names the version "null" where versioning is off or was when the object was written.
    return str(version) if version and version != "null" else str(response["ETag"]).strip('"')


def _versioned(file: AccessFile, name: str, response: Any) -> Versioned:
    confirmed = CONFIRMED.items() <= dict(response.get("Metadata", {})).items()
    modified = response.get("LastModified")
    return Versioned(file, name, confirmed, times.text(modified) if modified else "")
