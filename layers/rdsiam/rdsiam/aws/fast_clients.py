"""The few AWS calls of the token path, made as boto3's clients make them, without loading botocore and its models.

Same names, arguments, answers and errors: who uses them can't tell, but for the third of a second that a cold start
saves. What is not plain (another source of credentials, FIPS endpoints, a proxy, a CA of one's own) boto3 does.
"""

import contextlib
import io
import json
import os
import random
import ssl
import time
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, ResponseStreamingError

from rdsiam.aws.sigv4 import encoded, signed
from rdsiam.errors import EndpointUnreachable
from rdsiam.signer import Credentials

#: Three attempts of at most 2 s to connect and 3 s to be answered end within a function's 10 s in all but the worst
#: case. Every call here may be repeated: two read, one has a condition, one makes credentials.
_ATTEMPTS, _CONNECT_SECONDS, _READ_SECONDS = 3, 2.0, 3.0
_LARGEST_ANSWER = 4 * 1024 * 1024
_THROTTLED = (b"ProvisionedThroughputExceeded", b"RequestLimitExceeded", b"SlowDown", b"Throttling")
#: Settings that boto3 follows and this does not.
_NOT_PLAIN = (
    "AWS_CA_BUNDLE",
    "AWS_PROFILE",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "https_proxy",
    "http_proxy",
)


def client(service: str) -> Any:
    """Return a client of `dynamodb`, `s3` or `sts` for the region and credentials of the environment.

    It has the calls of the token path only; boto3's, which has all, where the environment asks for what is not plain.
    Any number of threads may share it. Errors are botocore's, ClientError for whatever AWS answers, and
    EndpointUnreachable as `clients.client` raises it.
    """
    environment = os.environ
    if environment.get("AWS_ACCESS_KEY_ID") and not any(environment.get(name) for name in _NOT_PLAIN):
        keys = Credentials(
            environment["AWS_ACCESS_KEY_ID"],
            environment["AWS_SECRET_ACCESS_KEY"],
            environment.get("AWS_SESSION_TOKEN"),
        )
        return _CLIENTS[service](keys, environment["AWS_REGION"])
    from rdsiam.aws import clients

    return clients.client(service)


class DynamoDb:
    """GetItem and PutItem."""

    def __init__(self, credentials: Credentials, region: str) -> None:
        self._endpoint = _Endpoint("dynamodb", credentials, region)

    def get_item(self, **request: Any) -> dict[str, Any]:
        """Return the answer of GetItem; values as DynamoDB writes them, binary ones are not decoded."""
        return self._call("GetItem", request)

    def put_item(self, **request: Any) -> dict[str, Any]:
        """Return the answer of PutItem."""
        return self._call("PutItem", request)

    def _call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"DynamoDB_20120810.{operation}"}
        status, _, content = self._endpoint.send("POST", "/", headers, json.dumps(request).encode())
        if status == 200:
            answer: dict[str, Any] = json.loads(content)
            return answer
        try:
            told = json.loads(content)
        except ValueError:
            told = {}
        code = str(told.get("__type", status)).rpartition("#")[2]
        raise _error(operation, status, code, str(told.get("message") or told.get("Message") or ""))


class S3:
    """GetObject."""

    def __init__(self, credentials: Credentials, region: str) -> None:
        self._endpoint = _Endpoint("s3", credentials, region)

    def get_object(self, Bucket: str, Key: str, IfNoneMatch: str | None = None) -> dict[str, Any]:  # noqa: N803
        """Return an object: `Body`, `ContentLength`, `ETag` and, where there is one, `VersionId`.

        :raises ClientError: with status 304 where the object is still the one of `IfNoneMatch`.
        """
        headers = {"if-none-match": IfNoneMatch} if IfNoneMatch else {}
        # By path, which S3 serves everywhere at a region's own endpoint; names of buckets then need not be host names.
        status, got, content = self._endpoint.send("GET", f"/{Bucket}/{Key}", headers, b"")
        if status != 200:
            code, message = _code_and_message(content)
            raise _error("GetObject", status, code or str(status), message)
        version = {"VersionId": got["x-amz-version-id"]} if "x-amz-version-id" in got else {}
        return {"Body": io.BytesIO(content), "ContentLength": len(content), "ETag": got["etag"]} | version


class Sts:
    """AssumeRole.

    :ivar meta: `region_name`, as boto3's clients have it.
    """

    def __init__(self, credentials: Credentials, region: str) -> None:
        self.meta = SimpleNamespace(region_name=region)
        self._endpoint = _Endpoint("sts", credentials, region)

    def assume_role(self, **request: str | int) -> dict[str, Any]:
        """Return `Credentials` alone of what AssumeRole answers; parameters that are plain text or numbers."""
        headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        body = urlencode({"Action": "AssumeRole", "Version": "2011-06-15", **request}).encode()
        status, _, content = self._endpoint.send("POST", "/", headers, body)
        if status != 200:
            code, message = _code_and_message(content)
            raise _error("AssumeRole", status, code or str(status), message)
        found = _texts(content)
        names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
        return {
            "Credentials": {name: found[name] for name in names}
            | {"Expiration": datetime.fromisoformat(found["Expiration"])}
        }


_CLIENTS: Mapping[str, Any] = {"dynamodb": DynamoDb, "s3": S3, "sts": Sts}


#: Status, headers (names in lower case) and body.
_Answer = tuple[int, Mapping[str, str], bytes]


class _Endpoint:
    """One service's address, the connections to it that are open, and what signs."""

    def __init__(self, service: str, credentials: Credentials, region: str) -> None:
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        self._url = (
            os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}")
            or os.environ.get("AWS_ENDPOINT_URL")
            or f"https://{service}.{region}.{suffix}"
        )
        self._service, self._credentials, self._region = service, credentials, region
        self._place = urlsplit(self._url)
        self._tls = _tls() if self._place.scheme == "https" else None
        self._idle: list[HTTPConnection] = []

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        """Return the answer, after up to three attempts.

        :raises EndpointUnreachable: no connection could be made.
        :raises BotoCoreError: the answer did not come, or not whole.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._send_once(method, path, headers, body)
            except _Failed as failed:
                if attempt == _ATTEMPTS:
                    raise failed.error from None
                if failed.idled:  # the other side had closed it meanwhile, as Lambda's frozen minutes let it do
                    continue
            else:
                if attempt == _ATTEMPTS or not _is_passing(answer[0], answer[2]):
                    return answer
            time.sleep(random.random() * 2 ** (attempt - 1))  # noqa: S311
        raise AssertionError("the last attempt returns or raises")

    def _send_once(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        connection, idled = self._take()
        named = {"host": self._place.netloc, **headers}
        sent = signed(self._credentials, self._region, self._service, method, path, named, body)
        try:
            connection.request(method, encoded(path), body, sent)
            response = connection.getresponse()
            if (response.length or 0) > _LARGEST_ANSWER:
                raise ResponseStreamingError(error="the answer is larger than any that is expected")
            content = response.read()
        except (OSError, HTTPException, ResponseStreamingError) as error:
            self._drop(connection)
            raise _Failed(_as_botocore(error, self._url), idled) from None
        if response.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        return response.status, {name.lower(): value for name, value in response.getheaders()}, content

    def _take(self) -> tuple[HTTPConnection, bool]:
        """Return a connection, and whether it was open already."""
        with contextlib.suppress(IndexError):
            return self._idle.pop(), True
        host, port = self._place.hostname or "", self._place.port
        if self._tls is None:
            connection = HTTPConnection(host, port, timeout=_CONNECT_SECONDS)
        else:
            connection = HTTPSConnection(host, port, timeout=_CONNECT_SECONDS, context=self._tls)
        try:
            connection.connect()
        except OSError:
            connection.close()
            raise _Failed(EndpointUnreachable(self._service, self._url), False) from None
        connection.sock.settimeout(_READ_SECONDS)
        return connection, False

    def _drop(self, connection: HTTPConnection) -> None:
        """Close a connection that failed, and those that have been idle for longer."""
        connection.close()
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()


@cache
def _tls() -> ssl.SSLContext:
    """Return what verifies certificates, by the system's CAs; made once, as reading these takes a while."""
    return ssl.create_default_context()


class _Failed(Exception):
    """An attempt had no answer.

    :ivar error: the error to raise if this was the last attempt.
    :ivar idled: the connection had been open before: the other side may have closed it.
    """

    def __init__(self, error: Exception, idled: bool) -> None:
        super().__init__(type(error).__name__)
        self.error, self.idled = error, idled


def _as_botocore(error: Exception, url: str) -> Exception:
    """Return botocore's error for one of the standard library, whose text might quote what was read."""
    if isinstance(error, ResponseStreamingError):
        return error
    if isinstance(error, TimeoutError):
        return ReadTimeoutError(endpoint_url=url)
    return ConnectionClosedError(endpoint_url=url)


def _is_passing(status: int, content: bytes) -> bool:
    """Tell whether the same request may well succeed a moment later."""
    if status == 400:
        return any(code in content for code in _THROTTLED)
    return status == 429 or status >= 500


def _error(operation: str, status: int, code: str, message: str) -> ClientError:
    details: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(details, operation)


def _code_and_message(content: bytes) -> tuple[str, str]:
    """Return code and message of an error in XML; empty without XML, as with 304."""
    try:
        found = _texts(content)
    except ElementTree.ParseError:
        return "", ""
    return found.get("Code", ""), found.get("Message", "")


def _texts(content: bytes) -> dict[str, str]:
    """Return the text of each element by its name without namespace; every one that we read stands once."""
    tree = ElementTree.fromstring(content)  # noqa: S314  from AWS, over TLS
    return {element.tag.rpartition("}")[2]: element.text or "" for element in tree.iter()}
