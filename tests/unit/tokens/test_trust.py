"""The authorities that databases are verified against: the region's own, and nothing missing."""

import re
import ssl
from pathlib import Path
from typing import Any

import pytest

import rdsiam
from rdsiam.errors import InvalidRequest
from rdsiam.tokens import trust

CERTIFICATES = Path(rdsiam.__file__).parent / "certs"
#: Endpoints of environments for previews have other names, which tell no region.
PREVIEWS = ("Amazon RDS Preview ", "Amazon RDS Beta ")


@pytest.fixture(autouse=True)
def no_setting(monkeypatch):
    monkeypatch.delenv("RDSIAM_CA", raising=False)
    trust.ca_file.cache_clear()
    yield
    trust.ca_file.cache_clear()


def authorities(file: Path) -> set[str]:
    """Return the common names of the certificates in a file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(file)
    certificates: list[Any] = context.get_ca_certs()
    return {dict(part for parts in one["subject"] for part in parts)["commonName"] for one in certificates}


def test_the_files_of_the_regions_hold_every_authority_of_the_bundle():
    regional = {file.stem: authorities(file) for file in (CERTIFICATES / "regions").iterdir()}
    for region, names in regional.items():
        assert len(names) == 3
        assert all(re.fullmatch(rf"Amazon RDS {region} Root CA (RSA2048|RSA4096|ECC384) G1", name) for name in names)
    bundle = authorities(CERTIFICATES / "global-bundle.pem")
    missing = bundle - set().union(*regional.values())
    assert all(name.startswith(PREVIEWS) for name in missing), "run scripts/certificates"


@pytest.mark.parametrize("host", [
    "orders.abc123.eu-central-1.rds.amazonaws.com",
    "orders.cluster-ro-abc123.eu-central-1.rds.amazonaws.com",
    "ORDERS.abc123.EU-CENTRAL-1.rds.amazonaws.com.",
])  # fmt: skip
def test_an_endpoint_is_verified_against_the_authorities_of_its_region(host):
    assert trust.ca_for(host) == str(CERTIFICATES / "regions" / "eu-central-1.pem")


@pytest.mark.parametrize("host", [
    "db.corp.example", "localhost", "orders.abc123.xx-new-9.rds.amazonaws.com", "../../etc.eu-central-1.example",
    "orders.abc123.us-gov-west-1.rds.amazonaws.com",
])  # fmt: skip
def test_a_host_of_no_known_region_is_verified_against_the_bundle(host):
    assert trust.ca_for(host) == str(CERTIFICATES / "global-bundle.pem")


def test_a_setting_takes_precedence(monkeypatch, tmp_path):
    own = tmp_path / "own.pem"
    own.write_bytes((CERTIFICATES / "regions" / "eu-west-1.pem").read_bytes())
    monkeypatch.setenv("RDSIAM_CA", str(own))
    assert trust.ca_for("orders.abc123.eu-central-1.rds.amazonaws.com") == str(own)


def test_a_proxy_is_verified_against_public_roots():
    assert "certs/regions" not in trust.ca_for("p.proxy-abc123.eu-central-1.rds.amazonaws.com")


@pytest.mark.parametrize(("content", "problem"), [
    (None, "can't be read"), (b"", "has no certificate"), (b"root:x:0:0\n", "has no certificate"),
    (b"-----BEGIN RSA PRIVATE KEY-----\n", "has no certificate"), (b"\xff\xfe\x00", "has no certificate"),
])  # fmt: skip
def test_authorities_that_can_not_be_used_are_refused_by_the_name_of_the_variable(
    tmp_path, monkeypatch, content, problem
):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("RDSIAM_CA", str(file))
    with pytest.raises(InvalidRequest, match=rf"^RDSIAM_CA: its file {problem}.*unset it"):
        trust.ca_for("orders.abc123.eu-central-1.rds.amazonaws.com")


def test_a_directory_is_no_file_of_authorities(tmp_path, monkeypatch):
    monkeypatch.setenv("RDSIAM_CA", str(tmp_path))
    with pytest.raises(InvalidRequest, match="can't be read"):
        trust.ca_file()
