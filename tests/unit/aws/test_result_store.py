"""Results in S3 are named by their content, so nothing that was stored is replaced or accepted after a change."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from rdsiam.aws.result_store import ResultStore, read
from rdsiam.errors import ResultUnavailable


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="results")
        yield client


def test_a_result_comes_back_as_it_was_stored(s3):
    store = ResultStore(s3, "results", "Onboard")
    text = json.dumps([{"statement": "GRANT é", "target": "x" * 300_000}])
    address = store.put("changes", text)
    assert address.startswith("s3://results/Onboard/changes-")
    assert store.get(address) == read(s3, address) == text
    assert store.put("changes", text) == address
    assert store.put("changes", text + " ") != address


@pytest.mark.parametrize("planted", [b"[]", b"", b'[{"statement": "DROP USER app"}]'])
def test_a_result_that_was_changed_is_not_accepted(s3, planted):
    store = ResultStore(s3, "results", "Onboard")
    address = store.put("step", '{"changes": []}')
    s3.put_object(Bucket="results", Key=address.removeprefix("s3://results/"), Body=planted)
    with pytest.raises(ResultUnavailable, match="not what was stored"):
        store.get(address)


@pytest.mark.parametrize("address", ["s3://elsewhere/Onboard/step-0.json", "https://results/x", "", "results"])
def test_a_result_elsewhere_is_not_read(s3, address):
    with pytest.raises(ResultUnavailable):
        ResultStore(s3, "results", "Onboard").get(address)


def test_the_command_reads_addresses_of_s3_alone(s3):
    with pytest.raises(ResultUnavailable, match="no address of S3"):
        read(s3, "https://example.com/changes-0.json")
