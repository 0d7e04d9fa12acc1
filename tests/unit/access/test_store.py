"""The current access.yaml is at most a minute old, and there is none on any doubt."""

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.response import StreamingBody
from botocore.stub import Stubber

from rdsiam.access import store as access_store
from rdsiam.access.model import AccessFile, parse
from rdsiam.access.store import AccessStore
from rdsiam.errors import AccessFileInvalid, AccessFileUnavailable

GOOD = b"version: 1\ndatabases: [{match: {identifier: '*'}}]\n"
OTHER = b"version: 1\ndatabases: [{match: {identifier: 'a'}}]\n"
BAD = b"version: 2\n"
OBJECT = {"Bucket": "bucket", "Key": "access.yaml"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def s3() -> Any:
    return boto3.client("s3", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")


@pytest.fixture
def stub(s3: Any) -> Iterator[Stubber]:
    with Stubber(s3) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(s3: Any, clock: Clock) -> AccessStore:
    return AccessStore(s3, "bucket", clock=clock)


def answer(stub: Stubber, content: bytes, etag: str = '"e1"', condition: str | None = None, **more: Any) -> None:
    response = {"Body": StreamingBody(io.BytesIO(content), len(content)), "ContentLength": len(content), "ETag": etag}
    stub.add_response("get_object", response | more, OBJECT | ({"IfNoneMatch": condition} if condition else {}))


def refuse(stub: Stubber, code: str, status: int, condition: str | None = None) -> None:
    expected = OBJECT | ({"IfNoneMatch": condition} if condition else {})
    stub.add_client_error("get_object", code, http_status_code=status, expected_params=expected)


def test_the_file_is_read_once_a_minute(store: AccessStore, stub: Stubber, clock: Clock) -> None:
    answer(stub, GOOD, VersionId="v1")
    first = store.current()
    clock.now = 59.9

    assert store.current() is first
    assert first.version == "v1"
    assert first.file.databases[0].match.identifier == "*"


def test_a_file_that_has_not_changed_is_kept(store: AccessStore, stub: Stubber, clock: Clock) -> None:
    answer(stub, GOOD, VersionId="v1")
    refuse(stub, "304", 304, condition='"e1"')
    first = store.current()
    clock.now = 60

    assert store.current() is first
    clock.now = 119
    assert store.current() is first


def test_a_changed_file_counts(store: AccessStore, stub: Stubber, clock: Clock) -> None:
    answer(stub, GOOD, VersionId="v1")
    answer(stub, OTHER, '"e2"', condition='"e1"', VersionId="v2")
    store.current()
    clock.now = 60

    current = store.current()

    assert (current.version, current.file.databases[0].match.identifier) == ("v2", "a")


@pytest.mark.parametrize("more", [{}, {"VersionId": "null"}], ids=["none", "null"])
def test_without_versions_the_etag_is_the_version(store: AccessStore, stub: Stubber, more: dict[str, str]) -> None:
    answer(stub, GOOD, **more)

    assert store.current().version == "e1"


@pytest.mark.parametrize(("code", "status"), [("NoSuchKey", 404), ("AccessDenied", 403), ("SlowDown", 503)])
def test_without_an_answer_an_old_file_is_not_used(
    store: AccessStore, stub: Stubber, clock: Clock, code: str, status: int
) -> None:
    answer(stub, GOOD)
    refuse(stub, code, status, condition='"e1"')
    refuse(stub, "304", 304, condition='"e1"')
    first = store.current()
    clock.now = 60

    with pytest.raises(AccessFileUnavailable, match=rf"s3://bucket/access.yaml can't be read: {code}"):
        store.current()
    assert store.current() is first  # once S3 answers again


def test_a_first_answer_of_not_modified_is_none(store: AccessStore, stub: Stubber) -> None:
    refuse(stub, "304", 304)

    with pytest.raises(AccessFileUnavailable):
        store.current()


def test_a_broken_file_is_an_error_until_it_is_good_again(store: AccessStore, stub: Stubber, clock: Clock) -> None:
    answer(stub, GOOD)
    answer(stub, BAD, '"e2"', condition='"e1"', VersionId="v2")
    refuse(stub, "304", 304, condition='"e2"')
    answer(stub, GOOD, condition='"e2"')  # the owner has put the first one back
    first = store.current()

    for clock.now in (60, 120):
        with pytest.raises(AccessFileInvalid, match=r"line 1: version: must be 1") as refused:
            store.current()
        assert refused.value.version == "v2"
    clock.now = 180
    assert store.current().file == first.file


def test_a_broken_file_is_refused_at_once_after_the_first_time(
    store: AccessStore, stub: Stubber, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(stub, BAD)
    refuse(stub, "304", 304, condition='"e1"')
    parsed: list[str] = []

    def parse_and_note(text: str) -> AccessFile:
        parsed.append(text)
        return parse(text)

    monkeypatch.setattr(access_store, "parse", parse_and_note)

    for clock.now in (0, 1, 59, 60, 61):
        with pytest.raises(AccessFileInvalid, match=r"line 1: version: must be 1"):
            store.current()

    assert len(parsed) == 1


@pytest.mark.parametrize("content", [b"\xff", b"#" * 1_000_001], ids=["not UTF-8", "too large"])
def test_content_that_is_no_text_of_that_size_is_invalid(store: AccessStore, stub: Stubber, content: bytes) -> None:
    answer(stub, content)

    with pytest.raises(AccessFileInvalid):
        store.current()


def test_an_answer_that_breaks_off_is_none(store: AccessStore, stub: Stubber) -> None:
    answer(stub, GOOD, Body=StreamingBody(io.BytesIO(GOOD[:20]), len(GOOD)))

    with pytest.raises(AccessFileUnavailable, match="IncompleteReadError"):
        store.current()


class SlowS3:
    """Stands for the client where its timing matters: says whether two calls were under way at once."""

    def __init__(self, fail: bool = False) -> None:
        self.calls = 0
        self._fail = fail
        self._busy = threading.Lock()

    def get_object(self, **_: Any) -> dict[str, Any]:
        assert self._busy.acquire(blocking=False), "two refreshes at once"
        try:
            self.calls += 1
            threading.Event().wait(0.05)
            if self._fail:
                raise EndpointConnectionError(endpoint_url="https://s3.example")
            return {"Body": io.BytesIO(GOOD), "ContentLength": len(GOOD), "ETag": '"e1"', "VersionId": "v1"}
        finally:
            self._busy.release()


def test_threads_share_one_refresh() -> None:
    s3: Any = SlowS3()
    store = AccessStore(s3, "bucket")

    with ThreadPoolExecutor(8) as pool:
        versions = {versioned.version for versioned in pool.map(lambda _: store.current(), range(32))}

    assert (versions, s3.calls) == ({"v1"}, 1)


def test_an_unreachable_s3_is_said() -> None:
    s3: Any = SlowS3(fail=True)

    with pytest.raises(AccessFileUnavailable, match="EndpointConnectionError"):
        AccessStore(s3, "bucket").current()
