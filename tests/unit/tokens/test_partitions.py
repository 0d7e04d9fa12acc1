"""Addresses of AWS by partition and region."""

import boto3
import pytest

from rdsiam.tokens.partitions import ca_bundle, dns_suffix, is_dns_suffix


@pytest.mark.parametrize("partition", boto3.Session().get_available_partitions())
def test_endpoints_of_every_partition_that_botocore_knows_have_its_suffix(partition):
    session = boto3.Session(aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret")
    regions = session.get_available_regions("rds", partition)
    for region in (regions[0], regions[-1]):
        suffix = dns_suffix(region)
        assert is_dns_suffix(suffix)
        assert session.client("rds", region_name=region).meta.endpoint_url == f"https://rds.{region}.{suffix}"


def test_no_other_suffix_is_aws():
    assert not any(is_dns_suffix(text) for text in ("", "com", "example.com", "eu", "amazonaws.com.example.com"))


@pytest.mark.parametrize(("partition", "host"), [
    ("aws", "https://truststore.pki.rds.amazonaws.com/"),
    ("aws-us-gov", "https://truststore.pki.us-gov-west-1.rds.amazonaws.com/"),
    ("aws-cn", "https://rds-truststore.s3.cn-north-1.amazonaws.com.cn/"),
])  # fmt: skip
def test_the_address_of_rds_authorities_is_known_if_aws_publishes_it(partition, host):
    assert ca_bundle(partition).startswith(host)
    assert ca_bundle("aws-eusc") == ca_bundle("aws-iso") == ""
