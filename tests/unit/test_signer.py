"""Tokens are those of boto3, made faster, and only for what RDS could accept."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from botocore.auth import SigV4QueryAuth
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from rdsiam.errors import InvalidRequest
from rdsiam.signer import Credentials, TokenSigner
from tests.examples import at_most

HOST = "orders.c9akciq32.eu-central-1.rds.amazonaws.com"
NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
CREDENTIALS = Credentials("AKIDEXAMPLE", "canary-secret-key", "canary/session+token==")

# From the tests of AWS's own tools: the first of botocore (tests/unit/test_signers.py), the second of the AWS CLI
# (functional test of `rds generate-db-auth-token`) and of the AWS SDK for Java 2 (RdsUtilities).
VECTORS = [
    pytest.param(
        ("prod-instance.us-east-1.rds.amazonaws.com", 3306, "someusername"),
        Credentials("akid", "skid"),
        "d1138cdbc0ca63eec012ec0fc6c2267e03642168f5884a7795320d4c18374c61",
        id="botocore",
    ),
    pytest.param(
        ("host.us-east-1.amazonaws.com", 3306, "mySQLUser"),
        Credentials("access_key", "secret_key"),
        "87ab58107ef49f1c311a412f98b7f976b0b5152ffb559f0d36c6c9a0c5e0e362",
        id="AWS CLI and Java",
    ),
]


@pytest.mark.parametrize(("login", "credentials", "signature"), VECTORS)
def test_published_vectors_are_reproduced(
    login: tuple[str, int, str], credentials: Credentials, signature: str
) -> None:
    token = TokenSigner(credentials, "us-east-1").token(*login, at=datetime(2016, 11, 7, 17, 39, 33, tzinfo=UTC))

    host, port, user = login
    assert token == (
        f"{host}:{port}/?Action=connect&DBUser={user}&X-Amz-Algorithm=AWS4-HMAC-SHA256"
        f"&X-Amz-Credential={credentials.access_key}%2F20161107%2Fus-east-1%2Frds-db%2Faws4_request"
        f"&X-Amz-Date=20161107T173933Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
    )


BOTO3 = boto3.client("rds", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")


def token_of_boto3(credentials: Credentials, region: str, host: str, port: int, user: str, at: datetime) -> Any:
    """boto3's token, as if made at that time; by botocore's Python signer, also where awscrt is installed."""
    parts = (credentials.access_key, credentials.secret_key, credentials.session_token)
    with (
        patch.object(vars(BOTO3)["_request_signer"], "_credentials", BotocoreCredentials(*parts)),
        patch.dict("botocore.auth.AUTH_TYPE_MAPS", {"v4-query": SigV4QueryAuth}),
        patch("botocore.auth.get_current_datetime", lambda: at.astimezone(UTC).replace(tzinfo=None)),
    ):
        return BOTO3.generate_db_auth_token(host, port, user, region)


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
USERS = st.one_of(
    st.text("abcXYZ_-.~ +&=/%@:#äß漢😀", min_size=1, max_size=40),
    ANY_TEXT,
).filter(lambda user: "*" not in user and "?" not in user)
MIDNIGHTS = st.builds(
    lambda day, offset: datetime(2026, 2, 27, tzinfo=UTC) + timedelta(days=day) + offset,
    st.integers(0, 3),
    st.timedeltas(timedelta(seconds=-2), timedelta(seconds=2)),
)
TIMES = st.one_of(
    MIDNIGHTS,
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone(timedelta(hours=9)))),
)


@settings(max_examples=at_most(100))
@given(
    access_key=ANY_TEXT,
    secret_key=ANY_TEXT,
    session_token=st.one_of(st.none(), ANY_TEXT, st.text("ab/+=", min_size=800, max_size=800)),
    region=st.sampled_from(["eu-central-1", "us-east-1", "cn-north-1", "us-gov-west-1", "ap-southeast-4"]),
    host=st.sampled_from([HOST, "localhost", "db.cn-north-1.rds.amazonaws.com.cn", "10.0.0.1"]),
    port=st.one_of(st.integers(1, 65535), st.sampled_from([80, 443, 3306, 5432])),
    user=USERS,
    times=st.lists(TIMES, min_size=1, max_size=3),
)
def test_tokens_equal_those_of_boto3(
    access_key: str,
    secret_key: str,
    session_token: str | None,
    region: str,
    host: str,
    port: int,
    user: str,
    times: list[datetime],
) -> None:
    credentials = Credentials(access_key, secret_key, session_token)
    signer = TokenSigner(credentials, region)

    tokens = [signer.token(host, port, user, at) for at in times]

    assert tokens == [token_of_boto3(credentials, region, host, port, user, at) for at in times]


def test_without_a_time_a_token_is_signed_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = TokenSigner(CREDENTIALS, "eu-central-1")
    monkeypatch.setattr("time.time", lambda: NOON.timestamp() + 0.9)

    assert signer.token(HOST, 5432, "app") == signer.token(HOST, 5432, "app", NOON)


def test_a_signer_that_was_busy_for_days_signs_like_a_new_one() -> None:
    signer = TokenSigner(CREDENTIALS, "eu-central-1")
    for minutes in (0, 720, 719, 1440, 0):  # over midnight, and back
        at = NOON + timedelta(minutes=minutes)
        fresh = TokenSigner(CREDENTIALS, "eu-central-1").token(HOST, 5432, "app", at)
        assert signer.token(HOST, 5432, "app", at) == fresh


def test_the_host_is_signed_in_lower_case() -> None:
    signer = TokenSigner(CREDENTIALS, "eu-central-1")

    assert signer.token(HOST.upper(), 5432, "App", NOON) == signer.token(HOST, 5432, "App", NOON)


def test_an_empty_session_token_is_none() -> None:
    assert Credentials("AKID", "secret", "") == Credentials("AKID", "secret")
    assert "Security-Token" not in TokenSigner(Credentials("AKID", "secret", ""), "eu-west-1").token(HOST, 1, "app")


def test_threads_that_share_a_signer_get_the_tokens_of_their_own_moment_and_user() -> None:
    signer = TokenSigner(CREDENTIALS, "eu-central-1")
    logins = [(f"user{n % 7}", NOON + timedelta(hours=11, minutes=59, seconds=58 + n % 5)) for n in range(4000)]
    wanted = {login: TokenSigner(CREDENTIALS, "eu-central-1").token(HOST, 5432, *login) for login in set(logins)}

    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda login: signer.token(HOST, 5432, *login), logins, chunksize=50))

    assert tokens == [wanted[login] for login in logins]


def test_many_users_and_endpoints_do_not_fill_the_memory() -> None:
    signer = TokenSigner(CREDENTIALS, "eu-central-1")
    for n in range(3000):
        signer.token(f"db{n}.example", 5432, f"user{n}", NOON)

    assert len(signer._endpoints) <= 1024
    assert len(signer._second.users) <= 1024


@pytest.mark.parametrize(
    "user",
    ["", "*", "app*", "a?p", "app\ud800", None],
    ids=["empty", "star", "in name", "question", "surrogate", "None"],
)
def test_users_that_iam_would_misread_are_refused(user: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^user: "):
        TokenSigner(CREDENTIALS, "eu-central-1").token(HOST, 5432, user)


@pytest.mark.parametrize("port", [0, -1, 65536, True, 1.0, "5432", None], ids=repr)
def test_ports_that_are_none_are_refused(port: Any) -> None:
    signer = TokenSigner(CREDENTIALS, "eu-central-1")
    signer.token(HOST, 1, "app")  # whose entry True and 1.0 would find

    with pytest.raises(InvalidRequest, match=r"^port: "):
        signer.token(HOST, port, "app")


ODD_HOSTS: list[tuple[Any, str]] = [
    ("", "empty"),
    ("db.example\n", "line feed"),
    ("db.example/x", "slash"),
    ("db.example:1", "port"),
    ("user@db.example", "user"),
    ("db..example", "empty label"),
    (".db", "leading dot"),
    ("db.example.", "trailing dot"),
    ("-db.example", "hyphen"),
    ("db_1.example", "underscore"),
    ("dß.example", "not ASCII"),
    ("\u212aing.example", "Kelvin sign"),
    ("[::1]", "IPv6"),
    ("a." * 126 + "ab", "254 characters"),
    ("a" * 64, "64 characters in a label"),
    (None, "None"),
]


@pytest.mark.parametrize("host", [pytest.param(host, id=why) for host, why in ODD_HOSTS])
def test_hosts_with_odd_characters_are_refused(host: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^host: "):
        TokenSigner(CREDENTIALS, "eu-central-1").token(host, 5432, "app")


@pytest.mark.parametrize("at", [datetime(2026, 1, 1), datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))])
def test_times_without_a_place_in_utc_are_refused(at: datetime) -> None:
    with pytest.raises(InvalidRequest, match=r"^at: "):
        TokenSigner(CREDENTIALS, "eu-central-1").token(HOST, 5432, "app", at)


@pytest.mark.parametrize("region", ["", "EU-central-1", "eu", "eu-central-1/", "eu-central-1\n", None], ids=repr)
def test_regions_that_are_none_are_refused(region: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^region: "):
        TokenSigner(CREDENTIALS, region)


@pytest.mark.parametrize(
    ("parts", "field"),
    [(("", "s"), "access_key"), (("a", ""), "secret_key"), (("a", "canary\ud800"), "secret_key"),
     (("a", "s", "canary\ud800"), "session_token"), (("a", None), "secret_key")],
    ids=["no key", "no secret", "odd secret", "odd session token", "None"],
)  # fmt: skip
def test_credentials_that_cannot_sign_are_refused_without_being_repeated(parts: Any, field: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^{field}: ") as caught:
        Credentials(*parts)

    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_no_repr_shows_a_secret() -> None:
    signer = TokenSigner(CREDENTIALS, "eu-central-1")
    signer.token(HOST, 5432, "app")
    shown = repr((CREDENTIALS, signer, signer._second, signer._second.key))

    assert "AKIDEXAMPLE" in shown
    assert "canary" not in shown
    assert pickle.loads(pickle.dumps(CREDENTIALS)) == CREDENTIALS  # noqa: S301
