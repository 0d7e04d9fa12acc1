"""Signs requests to AWS's services, Signature Version 4 in the Authorization header, with the standard library only."""

import time
from collections.abc import Mapping
from hashlib import sha256
from hmac import digest
from urllib.parse import quote

from rdsiam.signer import Credentials, signing_key


def signed(
    credentials: Credentials,
    region: str,
    service: str,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    at: float | None = None,
    query: str = "",
) -> dict[str, str]:
    """Return the headers that go with a request, all of them signed.

    :param path: not encoded yet, and without a query: `encoded` writes it as it must be sent.
    :param headers: with `host`; names in lower case, values without white space around.
    :param at: time of signing, seconds since 1970; now when omitted.
    :param query: encoded and in the order of its names, as it is sent.
    :return: `headers` and the five or six that signing adds; `authorization` and the session token are secrets.

    Source: "Create a signed AWS API request", IAM User Guide.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    content = sha256(body).hexdigest()
    result = {**headers, "x-amz-content-sha256": content, "x-amz-date": stamp}
    if credentials.session_token:
        result["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(result))
    lines = "".join(f"{name}:{result[name]}\n" for name in sorted(result))
    canonical = f"{method}\n{encoded(path)}\n{query}\n{lines}\n{names}\n{content}"
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    key = signing_key(credentials.secret_key, stamp[:8], region, service)
    result["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, "
        f"Signature={digest(key, text.encode(), 'sha256').hex()}"
    )
    return result


def encoded(path: str) -> str:
    """Percent-encode a path, once, as S3 counts it; of other services we use `/` alone."""
    return quote(path, safe="/-_.~")
