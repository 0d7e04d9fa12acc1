"""ARNs are taken apart and put together again."""

import pytest

from rdsiam.core.arn import Arn, is_arn, lower_identifier

DATABASE = "arn:aws-cn:rds:cn-north-1:123456789012:db:orders"


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        (DATABASE, "db", "orders"),
        ("arn:aws:iam::123456789012:role/path/ci", "role", "path/ci"),
        ("arn:aws:iam::123456789012:root", "root", ""),
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:app/one-AbCdEf", "secret", "app/one-AbCdEf"),
    ],
)
def test_kind_and_name_are_found_behind_either_separator(text, kind, name):
    arn = Arn.parse(text)
    assert (arn.kind, arn.name, str(arn)) == (kind, name, text)


def test_another_resource_beside_it_keeps_partition_region_and_account():
    assert Arn.parse(DATABASE).beside("cluster:shop") == "arn:aws-cn:rds:cn-north-1:123456789012:cluster:shop"


@pytest.mark.parametrize("text", ["", "orders", "arn:aws:rds", "urn:aws:rds:eu-west-1:123456789012:db:orders"])
def test_other_texts_are_no_arns(text):
    with pytest.raises(ValueError, match="six parts"):
        Arn.parse(text)


def test_an_identifier_is_distinguished_from_an_arn():
    assert is_arn(DATABASE)
    assert not is_arn("orders")


@pytest.mark.parametrize(
    ("name", "lower"),
    [
        ("Orders", "orders"),
        ("arn:aws:rds:eu-west-1:123456789012:db:Orders", "arn:aws:rds:eu-west-1:123456789012:db:orders"),
        ("arn:aws-cn:rds:cn-north-1:123456789012:cluster:SHOP", "arn:aws-cn:rds:cn-north-1:123456789012:cluster:shop"),
        ("arn:aws:rds:eu-west-1:123456789012:db-proxy:prx-0A", "arn:aws:rds:eu-west-1:123456789012:db-proxy:prx-0A"),
        ("arn:aws:rds:X", "arn:aws:rds:X"),
    ],
)
def test_identifiers_are_written_as_rds_does(name, lower):
    assert lower_identifier(name) == lower
