"""The certificate authorities that databases are verified against."""

import os
import tempfile
from functools import cache
from pathlib import Path


@cache
def ca_file() -> str:
    """Return the path of the certificate authority that databases are verified against.

    `RDSIAM_CA` holds a path or the PEM itself; empty or missing means the RDS bundle that comes with rdsiam.
    """
    setting = os.environ.get("RDSIAM_CA", "").strip()
    if not setting:
        return str(Path(__file__).parents[1] / "certs" / "global-bundle.pem")
    if not setting.startswith("-----BEGIN"):
        return setting
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(setting + "\n")
    return file.name


def ca_for(host: str) -> str:
    """Return the authorities to verify `host` against: a proxy's certificate comes from Amazon's public roots."""
    if ".proxy-" in host and not os.environ.get("RDSIAM_CA", "").strip():
        from botocore.httpsession import where

        return str(where())
    return ca_file()
