"""The certificate authorities that databases are verified against."""

import os
from functools import cache
from pathlib import Path

from rdsiam.tokens.endpoints import region_of

_CERTIFICATES = Path(__file__).parents[1] / "certs"


@cache
def ca_file() -> str:
    """Return the path of the certificate authority that databases are verified against.

    `RDSIAM_CA` holds a path or the PEM itself; empty or missing means the RDS bundle that comes with rdsiam.
    """
    setting = os.environ.get("RDSIAM_CA", "").strip()
    if not setting:
        return str(_CERTIFICATES / "global-bundle.pem")
    if not setting.startswith("-----BEGIN"):
        return setting
    import tempfile  # which applications would wait for at each start

    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(setting + "\n")
    return file.name


def ca_for(host: str) -> str:
    """Return the path of the authorities to verify `host` against.

    Those of RDS differ by region: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html. A
    proxy's certificate comes from Amazon's public roots.
    """
    if os.environ.get("RDSIAM_CA", "").strip():
        return ca_file()
    if ".proxy-" in host:
        from botocore.httpsession import where

        return str(where())
    region = region_of(host)
    # The file is read for every connection: the three authorities of a region take a tenth of the time of all regions'.
    regional = _CERTIFICATES / "regions" / f"{region}.pem"
    return str(regional) if region and regional.is_file() else ca_file()
