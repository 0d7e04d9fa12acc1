"""The certificate authorities that databases are verified against."""

import os
import re
from functools import cache
from pathlib import Path

from rdsiam.errors import InvalidRequest
from rdsiam.tokens.endpoints import region_of

#: The variable that names other authorities than those of RDS.
CA = "RDSIAM_CA"
_REMEDY = "let it name a file of certificates, or unset it to use those of RDS"
_CERTIFICATE = re.compile(rb"^-----BEGIN (TRUSTED |X509 )?CERTIFICATE-----", re.MULTILINE)
_CERTIFICATES = Path(__file__).parents[1] / "certs"


@cache
def ca_file() -> str:
    """Return the path of the certificate authority that databases are verified against.

    `RDSIAM_CA` holds a path or the PEM itself; empty or missing means the RDS bundle that comes with rdsiam.

    :raises InvalidRequest: the file has no certificate, or can't be read. Drivers don't name the variable, and libpq's
        message proposes to verify nothing.
    """
    setting = os.environ.get(CA, "").strip()
    if not setting:
        return str(_CERTIFICATES / "global-bundle.pem")
    if not setting.startswith("-----BEGIN"):
        return _checked(setting)
    import tempfile  # which applications would wait for at each start

    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(setting + "\n")
    return file.name


def _checked(path: str) -> str:
    try:
        text = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise InvalidRequest(CA, f"its file can't be read ({reason}); {_REMEDY}") from None
    if _CERTIFICATE.search(text) is None:
        raise InvalidRequest(CA, f"its file has no certificate in PEM; {_REMEDY}")
    return path


def ca_for(host: str) -> str:
    """Return the path of the authorities to verify `host` against.

    Those of RDS differ by region: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html. A
    proxy's certificate comes from Amazon's public roots.
    """
    if os.environ.get(CA, "").strip():
        return ca_file()
    if ".proxy-" in host:
        from botocore.httpsession import where

        return str(where())
    region = region_of(host)
    # The file is read for every connection: the three authorities of a region take a tenth of the time of all regions'.
    regional = _CERTIFICATES / "regions" / f"{region}.pem"
    return str(regional) if region and regional.is_file() else ca_file()
