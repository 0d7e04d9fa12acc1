"""Tokens are vended by the newest access.yaml, and by the applied one while the newest waits for confirmation."""

import io
import threading
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.store import CONFIRMED, AccessStore
from rdsiam.errors import AccessFileInvalid, AccessFileUnavailable

KEYS: dict[str, Any] = {"region_name": "eu-west-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}


@cache
def client() -> Any:
    """Return the client of all tests: each new one would read the model of S3 again."""
    return boto3.client("s3", **KEYS)


class Place:
    """A bucket with versions, an applied version, and the store of an environment that has read nothing yet."""

    def __init__(self) -> None:
        self.s3 = client()
        self.s3.create_bucket(Bucket="access", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self.s3.put_bucket_versioning(Bucket="access", VersioningConfiguration={"Status": "Enabled"})
        self.applied: str | Exception | None = None
        self.published: list[str] = []
        self.now = 0.0
        self.reads = 0
        self.gets: list[dict[str, Any]] = []
        self.access = self.start()

    def start(self, max_age: float = 60) -> ConfirmedAccess:
        """Return the access of an environment that starts now."""

        def get_object(**asked: Any) -> Any:
            self.gets.append(asked)
            answer = self.s3.get_object(**asked)
            # The tests publish within one second, and S3's times have whole ones.
            number = self.published.index(answer["VersionId"])
            return {**answer, "LastModified": datetime(2026, 11, 27, 10, 0, number, tzinfo=UTC)}

        client: Any = SimpleNamespace(get_object=get_object)
        store = AccessStore(client, "access", max_age=max_age, clock=lambda: self.now)
        return ConfirmedAccess(store, self.read, max_age, clock=lambda: self.now)

    def read(self) -> str | None:
        self.reads += 1
        if isinstance(self.applied, Exception):
            raise self.applied
        return self.applied

    def publish(self, callers: int, confirm: bool = False, text: str | None = None) -> str:
        """Publish a file in which that many roles may log in, and return its version."""
        lines = [f'{{role: "arn:aws:iam::123456789012:role/r{index}"}}' for index in range(callers)]
        user = f"{{name: app, privileges: readonly, on: [shop], callers: [{', '.join(lines)}]}}"
        content = text or f"version: 1\ndatabases: [{{match: {{identifier: orders}}, users: [{user}]}}]\n"
        metadata = dict(CONFIRMED) if confirm else {}
        made = self.s3.put_object(Bucket="access", Key="access.yaml", Body=content.encode(), Metadata=metadata)
        self.published.append(str(made["VersionId"]))
        return self.published[-1]

    def version(self, seconds: float = 0) -> str:
        """Return the version that is used after that many seconds."""
        self.now += seconds
        return self.access.current().version


@pytest.fixture
def place():
    with mock_aws():
        yield Place()


def test_before_the_first_reconcile_the_newest_version_is_used(place):
    first = place.publish(10)
    assert place.version() == first
    smaller = place.publish(1)
    assert place.version(60) == smaller


def test_a_version_within_the_limit_is_used_at_the_next_refresh(place):
    place.applied = place.publish(10)
    place.version()
    newer = place.publish(5)
    assert place.version(59) == place.applied
    assert place.version(1) == newer


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold start"])
@pytest.mark.parametrize("callers", [0, 1, 4])
def test_a_version_that_takes_most_logins_waits(place, warm, callers):
    place.applied = place.publish(10)
    if warm:
        place.version()
    place.publish(callers)
    assert place.version(60) == place.applied
    assert place.version(60) == place.applied
    assert len(place.access.current().file.databases[0].users[0].callers) == 10


def test_a_version_that_its_publisher_confirmed_is_used_at_the_next_refresh(place):
    place.applied = place.publish(10)
    place.version()
    smaller = place.publish(1, confirm=True)
    assert place.version(60) == smaller
    assert place.start().current().version == smaller


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold start"])
def test_a_version_that_waits_is_confirmed_by_publishing_it_once_more(place, warm):
    """The second object has the same content, and on some buckets the same ETag."""
    place.applied = place.publish(10)
    place.publish(1)
    assert place.version() == place.applied
    confirmed = place.publish(1, confirm=True)
    if not warm:
        place.access = place.start()
    assert place.version(60) == confirmed


def test_a_version_that_waits_is_used_within_a_minute_of_a_reconcile_that_applied_it(place):
    place.applied = place.publish(10)
    smaller = place.publish(1)
    assert place.version() != smaller
    place.applied = smaller
    assert place.version(60) == smaller


def test_a_corrected_version_is_used_and_another_broken_one_waits(place):
    place.applied = place.publish(10)
    place.publish(0)
    assert place.version() == place.applied
    place.publish(1)
    assert place.version(60) == place.applied
    corrected = place.publish(9)
    assert place.version(60) == corrected


def test_small_losses_one_after_the_other_are_compared_with_the_applied_version(place):
    place.applied = place.publish(10)
    place.publish(6)
    assert place.version() != place.applied
    place.publish(4)
    assert place.version(60) == place.applied, "4 of 10 remain, though 4 of 6 do"


def test_a_confirmation_is_about_one_version(place):
    place.applied = place.publish(10)
    place.publish(1, confirm=True)
    place.publish(0)
    assert place.version() == place.applied


@pytest.mark.parametrize("callers", [0, 1, 2], ids=["beyond the limit again", "the same logins", "one more login"])
def test_logins_that_a_confirmed_version_took_do_not_come_back_with_the_next_version(place, callers):
    """No reconcile has recorded the confirmed version yet: the rule that starts one is disabled, or RDS throttles."""
    place.applied = place.publish(10)
    place.version()
    confirmed = place.publish(1, confirm=True)
    assert place.version(60) == confirmed
    for _ in range(2):
        place.publish(callers)
        place.version(60)
        assert len(place.access.current().file.databases[0].users[0].callers) == max(callers, 1)


def test_a_confirmed_version_before_the_applied_one_no_longer_counts(place):
    place.publish(1, confirm=True)
    place.version()
    place.applied = place.publish(10)
    assert place.version(60) == place.applied
    place.publish(4)
    assert place.version(60) == place.applied


def test_other_metadata_confirms_nothing(place):
    place.applied = place.publish(10)
    body = place.s3.get_object(Bucket="access", Key="access.yaml")["Body"].read()
    for metadata in ({"rdsiam-confirmed": "false"}, {"confirmed": "true"}, {"rdsiam-confirmed": ""}):
        made = place.s3.put_object(
            Bucket="access", Key="access.yaml", Body=body.replace(b"role/", b"role/other-"), Metadata=metadata
        )
        place.published.append(made["VersionId"])
        assert place.version(60) == place.applied


def test_an_invalid_version_denies_everybody_whatever_was_applied(place):
    place.applied = place.publish(10)
    place.version()
    place.publish(0, text="version: 2\n")
    with pytest.raises(AccessFileInvalid):
        place.version(60)
    with pytest.raises(AccessFileInvalid):
        place.start().current()


def test_a_deleted_file_denies_everybody_whatever_was_applied(place):
    place.applied = place.publish(10)
    place.version()
    place.s3.delete_object(Bucket="access", Key="access.yaml")
    with pytest.raises(AccessFileUnavailable):
        place.version(60)


@pytest.mark.parametrize("spoil", ["deleted", "unknown", "invalid"])
def test_if_the_applied_version_is_gone_the_newest_is_used(place, spoil):
    if spoil == "invalid":
        place.applied = place.publish(10, text="version: 3\n")
    elif spoil == "deleted":
        place.applied = place.publish(10)
        place.s3.delete_object(Bucket="access", Key="access.yaml", VersionId=place.applied)
    else:
        place.applied = "no-such-version"
    smaller = place.publish(0)
    assert place.version() == smaller


def test_if_the_pointer_can_not_be_read_nobody_gets_anything(place):
    place.publish(10)
    place.applied = TimeoutError("silence")
    with pytest.raises(AccessFileUnavailable, match=r"the applied version of access\.yaml can't be read: TimeoutError"):
        place.version()
    place.applied = None
    assert place.version()


def test_if_the_applied_version_can_not_be_asked_for_nobody_gets_anything(place, monkeypatch):
    place.applied = place.publish(10)
    place.publish(1)
    original = place.s3.get_object

    def get_object(**asked: Any) -> Any:
        if "VersionId" in asked:
            raise place.s3.exceptions.ClientError(
                {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "GetObject"
            )
        return original(**asked)

    monkeypatch.setattr(place.s3, "get_object", get_object)
    with pytest.raises(AccessFileUnavailable, match="SlowDown"):
        place.version()


def test_a_file_that_has_not_changed_costs_no_further_read(place):
    place.applied = place.publish(10)
    place.version()
    assert (place.reads, len(place.gets)) == (1, 1)
    for _ in range(3):
        place.version(60)
    assert (place.reads, len(place.gets)) == (1, 4)
    assert all(asked["IfNoneMatch"] for asked in place.gets[1:])


def test_the_pointer_is_read_while_the_file_is_read():
    """A cold start waits for the slower of the two, not for both."""
    both = threading.Barrier(2, timeout=5)
    content = b"version: 1\ndatabases: [{match: {identifier: orders}}]\n"

    class S3:
        def get_object(self, **_: Any) -> dict[str, Any]:
            both.wait()
            return {"Body": io.BytesIO(content), "ContentLength": len(content), "ETag": '"e"', "VersionId": "v1"}

    def applied() -> str:
        both.wait()
        return "v1"

    s3: Any = S3()
    assert ConfirmedAccess(AccessStore(s3, "access"), applied).current().version == "v1"


def test_the_version_that_waits_is_known_until_it_is_confirmed(place):
    place.applied = place.publish(10)
    place.version()
    assert place.access.waiting() is None
    smaller = place.publish(1)
    place.now += 60
    assert place.access.waiting().version == smaller
    assert place.version() == place.applied
    place.publish(1, confirm=True)
    place.now += 60
    assert place.access.waiting() is None


def test_a_function_that_keeps_nothing_sees_each_change_at_once(place):
    """OnboardFunction and those that it invokes act by one version, whichever environments they run in."""
    place.applied = place.publish(10)
    place.access = place.start(max_age=0)
    place.publish(1)
    assert place.version() == place.applied
    place.applied = place.published[-1]  # an operator has confirmed it, by a reconcile
    assert place.version() == place.applied
    assert place.access.waiting() is None
