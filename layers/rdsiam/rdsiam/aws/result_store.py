"""Large results of runs, as objects of ResultBucket: lists of answers, and results of steps.

An object is named by the SHA-256 of its content. So a step that is repeated, or that two processes run, replaces no
content that a checkpoint or an answer refers to; and a text that was changed since is not accepted.
"""

import hashlib
import logging
from typing import Any
from urllib.parse import urlsplit

from rdsiam.errors import ResultUnavailable

logger = logging.getLogger(__name__)


class ResultStore:
    """The results of one function.

    :param folder: the function's own; the template lets no other function write there.
    """

    def __init__(self, s3: Any, bucket: str, folder: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._folder = folder

    def put(self, name: str, text: str) -> str:
        """Store JSON, and return its address, `s3://<bucket>/<folder>/<name>-<sha256>.json`."""
        body = text.encode()
        key = f"{self._folder}/{name}-{hashlib.sha256(body).hexdigest()}.json"
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/json")
        address = f"s3://{self._bucket}/{key}"
        logger.info("stored %d bytes at %s", len(body), address)
        return address

    def get(self, address: str) -> str:
        """Return a text that this function, or a function that it invokes, has stored.

        :raises ResultUnavailable: the address is of another bucket, or the content is not what was stored.
        """
        if urlsplit(address).netloc != self._bucket:
            raise ResultUnavailable(f"{address}: not in {self._bucket}")
        return read(self._s3, address)


def read(s3: Any, address: str) -> str:
    """Return the text at an address that a function has answered.

    :raises ResultUnavailable: the content is not what was stored.
    """
    parts = urlsplit(address)
    if parts.scheme != "s3":
        raise ResultUnavailable(f"{address}: no address of S3")
    body: bytes = s3.get_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))["Body"].read()
    if not parts.path.endswith(f"-{hashlib.sha256(body).hexdigest()}.json"):
        raise ResultUnavailable(f"{address}: its content is not what was stored")
    return body.decode()
