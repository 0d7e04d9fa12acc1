"""Clients for the AWS calls of a token request, and for storing results, without botocore's models.

They save a third of a second of a cold start, and most of the CPU of a call. Methods, arguments, answers and errors are
those of boto3's clients, so callers need no change. If the environment asks for more (credentials from another source,
FIPS endpoints, a proxy, a custom CA), boto3's clients are used.
"""

import contextlib
import io
import json
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, ResponseStreamingError

from rdsiam.aws.sigv4 import encoded, signed
from rdsiam.errors import EndpointUnreachable
from rdsiam.signer import Credentials
from rdsiam.tokens.partitions import dns_suffix

#: An attempt has at most 2 s to connect and 3 s to receive the answer. Except in the worst case, three attempts fit
#: into a function's 10 s. All calls may be repeated: GetItem and GetObject only read, PutItem has a condition,
#: PutObject writes the same again, and AssumeRole makes new credentials.
_ATTEMPTS, _CONNECT_SECONDS, _READ_SECONDS = 3, 2.0, 3.0
#: Longest time between the beginning of a call and the need for its answer: Lambda may start a function long before
#: its first request.
_FRESH_SECONDS = 5.0
_LARGEST_ANSWER = 4 * 1024 * 1024
#: What the headers of an object's metadata begin with.
_METADATA = "x-amz-meta-"
_THROTTLED = (b"ProvisionedThroughputExceeded", b"RequestLimitExceeded", b"SlowDown", b"Throttling")
#: Environment variables that only boto3's clients support.
_BOTO3_ONLY = (
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

    The client has only the calls that its class shows. It is boto3's client, with all calls, if the environment has no
    access key, or asks for something that only boto3 supports. Any number of threads may share a client.

    Its methods raise botocore's errors, ClientError for every error that AWS answers, and EndpointUnreachable as
    `clients.client` does.
    """
    environment = os.environ
    if environment.get("AWS_ACCESS_KEY_ID") and not any(environment.get(name) for name in _BOTO3_ONLY):
        keys = Credentials(
            environment["AWS_ACCESS_KEY_ID"],
            environment["AWS_SECRET_ACCESS_KEY"],
            environment.get("AWS_SESSION_TOKEN"),
        )
        return _CLIENTS[service](keys, environment["AWS_REGION"])
    from rdsiam.aws import clients

    return clients.client(service)


class DynamoDb:
    """Client of DynamoDB with GetItem and PutItem."""

    def __init__(self, credentials: Credentials, region: str) -> None:
        self._endpoint = _Endpoint("dynamodb", credentials, region)

    def get_item(self, **request: Any) -> dict[str, Any]:
        """Return the answer of GetItem. Values are as in DynamoDB's JSON; binary values stay in Base64."""
        return self._call("GetItem", request)

    def begin_get_item(self, **request: Any) -> None:
        """Begin a GetItem whose answer `get_item` with the same request will return."""
        self._endpoint.begin(*_dynamodb_request("GetItem", request))

    def put_item(self, **request: Any) -> dict[str, Any]:
        """Return the answer of PutItem."""
        return self._call("PutItem", request)

    def _call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        status, _, content = self._endpoint.send(*_dynamodb_request(operation, request))
        if status == 200:
            answer: dict[str, Any] = json.loads(content)
            return answer
        try:
            error = json.loads(content)
        except ValueError:
            error = {}
        code = str(error.get("__type", status)).rpartition("#")[2]
        raise _error(operation, status, code, str(error.get("message") or error.get("Message") or ""))


class S3:
    """Client of S3 with GetObject and PutObject."""

    def __init__(self, credentials: Credentials, region: str) -> None:
        self._endpoint = _Endpoint("s3", credentials, region)

    def get_object(
        self,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
        VersionId: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        """Return an object: `Body`, `ContentLength`, `ETag`, `Metadata` and, if the bucket has versions, `VersionId`.

        :raises ClientError: with status 304 if the object's ETag is still `IfNoneMatch`.
        """
        headers = {"if-none-match": IfNoneMatch} if IfNoneMatch else {}
        query = f"versionId={quote(VersionId, safe='-_.~')}" if VersionId else ""
        received, content = self._send("GetObject", "GET", f"/{Bucket}/{Key}", headers, query=query)
        metadata = {
            name.removeprefix(_METADATA): value for name, value in received.items() if name.startswith(_METADATA)
        }
        answer = {"Body": io.BytesIO(content), "ContentLength": len(content), "Metadata": metadata}
        return answer | _tag_and_version(received)

    def begin_get_object(self, Bucket: str, Key: str) -> None:  # noqa: N803
        """Begin a GetObject whose answer `get_object` with the same arguments will return."""
        self._endpoint.begin("GET", f"/{Bucket}/{Key}", {}, b"")

    def put_object(self, Bucket: str, Key: str, Body: bytes, ContentType: str) -> dict[str, Any]:  # noqa: N803
        """Store an object; return its `ETag` and, if the bucket has versions, `VersionId`."""
        received, _ = self._send("PutObject", "PUT", f"/{Bucket}/{Key}", {"content-type": ContentType}, Body)
        return _tag_and_version(received)

    def _send(
        self, operation: str, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", query: str = ""
    ) -> tuple[Mapping[str, str], bytes]:
        """Return headers and body of the answer.

        The bucket is in the path, not in the host name: S3 accepts that at every regional endpoint, and the bucket's
        name need not be valid in a host name.
        """
        status, received, content = self._endpoint.send(method, path, headers, body, query)
        if status != 200:
            code, message = _code_and_message(content)
            raise _error(operation, status, code or str(status), message)
        return received, content


class Sts:
    """Client of STS with AssumeRole.

    :ivar meta: `region_name`, as boto3's clients have it.
    """

    def __init__(self, credentials: Credentials, region: str) -> None:
        self.meta = SimpleNamespace(region_name=region)
        self._endpoint = _Endpoint("sts", credentials, region)

    def assume_role(self, **request: str | int) -> dict[str, Any]:
        """Return the answer of AssumeRole, with `Credentials` only.

        :param request: AssumeRole's parameters that are texts or numbers; lists, such as `Tags`, are not supported.
        """
        headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        body = urlencode({"Action": "AssumeRole", "Version": "2011-06-15", **request}).encode()
        status, _, content = self._endpoint.send("POST", "/", headers, body)
        if status != 200:
            code, message = _code_and_message(content)
            raise _error("AssumeRole", status, code or str(status), message)
        texts = _texts(content)
        names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
        return {
            "Credentials": {name: texts[name] for name in names}
            | {"Expiration": datetime.fromisoformat(texts["Expiration"])}
        }


_CLIENTS: Mapping[str, Any] = {"dynamodb": DynamoDb, "s3": S3, "sts": Sts}


#: Method, path, headers, body and encoded query.
_Request = tuple[str, str, Mapping[str, str], bytes, str]
#: Status, headers (names in lower case) and body.
_Answer = tuple[int, Mapping[str, str], bytes]


class _Endpoint:
    """The endpoint of one AWS service: signs requests, sends them, repeats failed ones, and reuses open connections."""

    def __init__(self, service: str, credentials: Credentials, region: str) -> None:
        self._url = (
            os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}")
            or os.environ.get("AWS_ENDPOINT_URL")
            or f"https://{service}.{region}.{dns_suffix(region)}"
        )
        self._service, self._credentials, self._region = service, credentials, region
        self._address = urlsplit(self._url)
        self._tls = _tls() if self._address.scheme == "https" else None
        self._idle: list[HTTPConnection] = []
        self._begun: list[tuple[_Request, _Begun]] = []

    def begin(self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: str = "") -> None:
        """Begin a call that only reads, in a thread of its own: the next `send` of the same returns its answer."""
        request = method, path, headers, body, query
        self._begun.append((request, _Begun(lambda: self._send(*request))))

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: str = "") -> _Answer:
        """Return the answer, after up to three attempts.

        :param query: encoded, and in the order of its names.

        :raises EndpointUnreachable: no connection could be made.
        :raises BotoCoreError: there was no complete answer.
        """
        request = method, path, headers, body, query
        begun = self._take_begun(request)
        return (begun and begun.answer()) or self._send(*request)

    def _take_begun(self, request: _Request) -> "_Begun | None":
        for entry in tuple(self._begun):
            if entry[0] == request:
                with contextlib.suppress(ValueError):  # another thread has taken it
                    self._begun.remove(entry)
                    return entry[1]
        return None

    def _send(self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: str) -> _Answer:
        """Return the answer, after up to three attempts.

        :raises EndpointUnreachable: no connection could be made.
        :raises BotoCoreError: there was no complete answer.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._send_once(method, path, headers, body, query)
            except _Failed as failed:
                if attempt == _ATTEMPTS:
                    raise failed.error from None
                # AWS may close an idle connection while Lambda freezes the function: try again without a pause.
                if failed.reused:
                    continue
            else:
                if attempt == _ATTEMPTS or not _is_transient(answer[0], answer[2]):
                    return answer
            time.sleep(random.random() * 2 ** (attempt - 1))  # noqa: S311
        raise AssertionError("the last attempt returns or raises")

    def _send_once(self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: str) -> _Answer:
        connection, reused = self._take()
        with_host = {"host": self._address.netloc, **headers}
        signed_headers = signed(
            self._credentials, self._region, self._service, method, path, with_host, body, query=query
        )
        target = f"{encoded(path)}?{query}" if query else encoded(path)
        try:
            connection.request(method, target, body, signed_headers)
            response = connection.getresponse()
            if (response.length or 0) > _LARGEST_ANSWER:
                raise ResponseStreamingError(error=f"the answer is larger than {_LARGEST_ANSWER} bytes")
            content = response.read()
        except (OSError, HTTPException, ResponseStreamingError) as error:
            self._drop(connection)
            raise _Failed(_as_botocore(error, self._url), reused) from None
        if response.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        return response.status, {name.lower(): value for name, value in response.getheaders()}, content

    def _take(self) -> tuple[HTTPConnection, bool]:
        """Return an open connection, and whether it is reused."""
        with contextlib.suppress(IndexError):
            return self._idle.pop(), True
        host, port = self._address.hostname or "", self._address.port
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
        """Close a connection that failed, and all idle connections, which have been unused for even longer."""
        connection.close()
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()


class _Begun:
    """A call that was begun before anybody needs its answer."""

    def __init__(self, call: Callable[[], _Answer]) -> None:
        self._call = call
        self._at = time.monotonic()
        self._answer: _Answer | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="call begun early")
        self._thread.start()

    def answer(self) -> _Answer | None:
        """Return the answer, and wait for it; None if it failed, or was begun too long ago: make the call anew."""
        if time.monotonic() - self._at > _FRESH_SECONDS:
            return None
        self._thread.join()
        return self._answer

    def _run(self) -> None:
        with contextlib.suppress(Exception):  # the call is made anew, and raises what is still wrong then
            self._answer = self._call()


@cache
def _tls() -> ssl.SSLContext:
    """Return a TLS context that verifies certificates by the system's CAs; cached, since reading the CAs is slow."""
    return ssl.create_default_context()


class _Failed(Exception):
    """An attempt had no answer.

    :ivar error: the error to raise if this was the last attempt.
    :ivar reused: whether the connection was reused, so that AWS may have closed it.
    """

    def __init__(self, error: Exception, reused: bool) -> None:
        super().__init__(type(error).__name__)
        self.error, self.reused = error, reused


def _as_botocore(error: Exception, url: str) -> Exception:
    """Return botocore's error in place of the standard library's, whose text might quote parts of the answer."""
    if isinstance(error, ResponseStreamingError):
        return error
    if isinstance(error, TimeoutError):
        return ReadTimeoutError(endpoint_url=url)
    return ConnectionClosedError(endpoint_url=url)


def _is_transient(status: int, content: bytes) -> bool:
    """Tell whether an answer is an error that a repeated request may not have: throttling, or a fault of AWS."""
    if status == 400:
        return any(code in content for code in _THROTTLED)
    return status == 429 or status >= 500


def _dynamodb_request(operation: str, request: Mapping[str, Any]) -> _Request:
    headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"DynamoDB_20120810.{operation}"}
    return "POST", "/", headers, json.dumps(request).encode(), ""


def _tag_and_version(received: Mapping[str, str]) -> dict[str, Any]:
    version = {"VersionId": received["x-amz-version-id"]} if "x-amz-version-id" in received else {}
    return {"ETag": received["etag"]} | version


def _error(operation: str, status: int, code: str, message: str) -> ClientError:
    details: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(details, operation)


def _code_and_message(content: bytes) -> tuple[str, str]:
    """Return code and message of an error in XML; empty if the answer isn't XML, as with status 304."""
    try:
        texts = _texts(content)
    except ElementTree.ParseError:
        return "", ""
    return texts.get("Code", ""), texts.get("Message", "")


def _texts(content: bytes) -> dict[str, str]:
    """Return the text of each element by its name without namespace. The names used here occur once in an answer."""
    tree = ElementTree.fromstring(content)  # noqa: S314  from AWS, over TLS
    return {element.tag.rpartition("}")[2]: element.text or "" for element in tree.iter()}
