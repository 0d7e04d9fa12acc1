"""The speed of signing a login token: against boto3, and against the two hash operations that no signer can avoid."""

import hashlib
import hmac
import os
import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count

import boto3

from bench.result import Result
from rdsiam.signer import Credentials, TokenSigner

HOST = "orders-prod.c9akciq32.eu-central-1.rds.amazonaws.com"
REGION = "eu-central-1"
SESSION_TOKEN = "".join(
    random.Random(1).choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=800)  # noqa: S311
)
ROUNDS = 200
BATCH = 50


def run() -> list[Result]:
    """Measure the signer, boto3 and the floor in turns in one process; medians over rounds of 50 calls each.

    All three sign for the same user at the same endpoint at the time of the call, with an 800-character session token.
    The third result is a token that finds nothing kept but the day's key: the first of its second.
    """
    access_key, secret_key = "ASIAEXAMPLEEXAMPLE00", "not-a-real-secret-key-0123456789abcdefgh"
    client = boto3.client(
        "rds",
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        aws_session_token=SESSION_TOKEN,
    )
    credentials = Credentials(access_key, secret_key, SESSION_TOKEN)
    signer, other_signer = TokenSigner(credentials, REGION), TokenSigner(credentials, REGION)
    token = signer.token(HOST, 5432, "app_service")
    canonical_request, string_to_sign = _what_is_hashed(token)
    signing_key = os.urandom(32)

    def floor() -> tuple[str, str]:
        return (
            hashlib.sha256(canonical_request).hexdigest(),
            hmac.digest(signing_key, string_to_sign, "sha256").hex(),
        )

    moments = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second) for second in count())
    measured, first, boto, hashes = _medians(
        lambda: signer.token(HOST, 5432, "app_service"),
        lambda: other_signer.token(HOST, 5432, "app_service", next(moments)),
        lambda: client.generate_db_auth_token(HOST, 5432, "app_service", REGION),
        floor,
    )
    return [
        Result("signing-vs-boto3", measured, "µs", "boto3 generate_db_auth_token", boto, boto / measured, at_least=50),
        Result("signing-vs-floor", measured, "µs", "SHA-256 and HMAC alone", hashes, measured / hashes, at_most=0.8),
        Result("signing-first-of-second", first, "µs", "boto3 generate_db_auth_token", boto, boto / first, at_least=8),
    ]


def _what_is_hashed(token: str) -> tuple[bytes, bytes]:
    """Return a canonical request and a string to sign of the very sizes that this token has."""
    netloc, _, query = token.partition("/?")
    parameters = sorted(query.split("&")[:-1])
    canonical = f"GET\n/\n{'&'.join(parameters)}\nhost:{netloc}\n\nhost\n{hashlib.sha256().hexdigest()}"
    scope = f"20260101/{REGION}/rds-db/aws4_request"
    return canonical.encode(), f"AWS4-HMAC-SHA256\n20260101T000000Z\n{scope}\n{'0' * 64}".encode()


def _medians(*subjects: Callable[[], object]) -> list[float]:
    """Return the median microseconds a call of each; every round times all of them, so that noise hits all alike."""
    times: list[list[float]] = [[] for _ in subjects]
    for _ in range(ROUNDS):
        for subject, results in zip(subjects, times, strict=True):
            started = time.perf_counter()
            for _ in range(BATCH):
                subject()
            results.append((time.perf_counter() - started) / BATCH * 1e6)
    return [statistics.median(results) for results in times]
