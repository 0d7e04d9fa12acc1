"""Credentials of a command that runs for days: renewed in time, replaced, expired, and after a sleep."""

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rdsiam.command.aws import Aws
from rdsiam.command.errors import CredentialsExpired, Denied, TryAgain
from rdsiam.command.renewing_aws import RenewingAws
from rdsiam.errors import RdsiamError
from rdsiam.signer import Credentials

START = datetime(2026, 11, 27, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@dataclass
class Chain:
    """Stands in for botocore's chain, and for the wall clock.

    :ivar lifetime: of new credentials; None for a user's own key.
    :ivar error: raised instead of new credentials.
    """

    at: datetime = START
    lifetime: timedelta | None = HOUR
    error: RdsiamError | None = None
    expiry: datetime | None = None
    renewals: int = 0
    calls: int = 0
    block: threading.Event = field(default_factory=threading.Event)

    def now(self) -> datetime:
        return self.at

    def credentials(self) -> tuple[Credentials, datetime | None]:
        """As botocore: renew with less than 15 minutes left; an error counts with less than 10."""
        self.calls += 1
        self.block.wait(5)
        left = None if self.expiry is None else self.expiry - self.at
        if self.renewals == 0 or (left is not None and left < 15 * MINUTE):
            if self.error is not None:
                if self.renewals == 0 or left is None or left < 10 * MINUTE:
                    raise self.error
            else:
                self.renewals += 1
                self.expiry = None if self.lifetime is None else self.at + self.lifetime
        return Credentials(f"AKID{self.renewals}", "secret", "session"), self.expiry


@pytest.fixture
def chain(monkeypatch, tmp_path) -> Chain:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    scripted = Chain()
    scripted.block.set()
    monkeypatch.setattr(Aws, "credentials", lambda _: scripted.credentials())
    return scripted


@pytest.fixture
def aws(chain) -> RenewingAws:
    return RenewingAws(None, None, chain.now)


def test_fresh_credentials_need_no_call_for_the_next_connections(chain, aws):
    assert aws.current() is None
    credentials, _ = aws.credentials()
    for _ in range(100):
        assert aws.current() == credentials
        assert aws.credentials()[0] == credentials
    assert chain.calls == 1


@pytest.mark.parametrize("left", [15 * MINUTE, 14 * MINUTE, 5 * MINUTE, timedelta(seconds=1)])
def test_credentials_that_end_before_a_token_are_renewed(chain, aws, left):
    aws.credentials()
    assert chain.expiry is not None
    chain.at = chain.expiry - left + timedelta(microseconds=1)
    assert aws.current() is None
    aws.credentials()
    assert chain.renewals == 2
    current = aws.current()
    assert current is not None
    assert current.access_key == "AKID2"


@pytest.mark.parametrize("sleep", [HOUR, 8 * HOUR, timedelta(days=30)])
def test_a_machine_that_slept_renews_before_the_first_token(chain, aws, sleep):
    aws.credentials()
    chain.at += sleep
    assert aws.current() is None
    assert aws.credentials()[0].access_key == "AKID2"


@pytest.mark.parametrize("sleep", [HOUR, 8 * HOUR])
def test_after_a_sleep_expired_credentials_are_an_error_that_says_what_to_do(chain, aws, sleep):
    aws.credentials()
    chain.at += sleep
    chain.error = CredentialsExpired("the SSO session has expired", "renew your credentials, e.g. aws sso login")
    for _ in range(50):
        assert aws.current() is None
        with pytest.raises(CredentialsExpired, match="aws sso login"):
            aws.credentials()
    assert chain.calls == 2  # a login that fails is not tried for every client
    chain.error = None
    chain.at += timedelta(seconds=6)
    assert aws.credentials()[0].access_key == "AKID2"


def test_credentials_that_arrive_expired_are_an_error(chain, aws):
    chain.lifetime = timedelta(0)
    with pytest.raises(CredentialsExpired):
        aws.credentials()


@pytest.mark.parametrize("error", [TryAgain("STS does not answer"), CredentialsExpired("SSO", "aws sso login")])
@pytest.mark.parametrize("left", [14 * MINUTE, 9 * MINUTE, MINUTE])
def test_while_credentials_work_a_failed_renewal_is_a_warning(chain, aws, caplog, error, left):
    aws.credentials()
    assert chain.expiry is not None
    chain.at, chain.error = chain.expiry - left, error
    for _ in range(20):
        assert aws.credentials()[0].access_key == "AKID1"
    assert chain.calls == 2
    assert left > 10 * MINUTE or "not renewed" in caplog.text
    assert "secret" not in caplog.text


def test_a_clock_that_was_set_back_is_no_reason_to_trust_the_last_look(chain, aws):
    aws.credentials()
    chain.at -= HOUR
    aws.credentials()
    assert chain.calls == 2


def test_one_thread_renews_while_the_others_go_on(chain, aws):
    aws.credentials()
    assert chain.expiry is not None
    chain.at = chain.expiry - 12 * MINUTE
    chain.block.clear()
    renewing = threading.Thread(target=aws.credentials)
    renewing.start()
    while chain.calls < 2:
        pass
    for _ in range(10):
        assert aws.credentials()[0].access_key == "AKID1"
    chain.block.set()
    renewing.join()
    assert chain.calls == 2
    assert aws.credentials()[0].access_key == "AKID2"


def test_expired_credentials_are_renewed_once_for_all_that_wait(chain, aws):
    aws.credentials()
    chain.at += 2 * HOUR
    chain.block.clear()
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(aws.credentials()[0].access_key)) for _ in range(10)]
    for thread in threads:
        thread.start()
    chain.block.set()
    for thread in threads:
        thread.join()
    assert got == ["AKID2"] * 10
    assert chain.calls == 2


STEPS = st.lists(
    st.one_of(
        st.sampled_from(
            [timedelta(seconds=1), timedelta(seconds=6), 4 * MINUTE, 46 * MINUTE, HOUR, 9 * HOUR, -HOUR]
        ),
        st.sampled_from(["ask", "ask", "ask", "break", "repair", "forget"]),
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, lifetime=st.sampled_from([None, 15 * MINUTE, HOUR, 12 * HOUR]))
@example(steps=["ask", HOUR, "break", "ask", "repair", "ask", 6 * timedelta(seconds=1), "ask"], lifetime=HOUR)
def test_in_any_order_no_expired_credentials_are_returned_and_a_repaired_chain_is_used(chain, steps, lifetime):
    chain.at, chain.lifetime, chain.error, chain.expiry = START, lifetime, None, None
    chain.renewals = chain.calls = 0
    aws, broken_at = RenewingAws(None, None, chain.now), None
    for step in [*steps, "repair", timedelta(seconds=6), "ask"]:
        if isinstance(step, timedelta):
            chain.at += step
        elif step == "break":
            chain.error = CredentialsExpired("the SSO session has expired", "aws sso login")
        elif step == "repair":
            chain.error = None
        elif step == "forget":
            aws.forget()
        if chain.error is not None:
            broken_at = chain.at
        if step != "ask":
            continue
        try:
            _, expiry = aws.credentials()
        except CredentialsExpired:
            # While the chain is broken, and at most a moment after it works again.
            assert broken_at is not None
            assert chain.at - broken_at < timedelta(seconds=5)
        else:
            assert expiry is None or expiry > chain.at
        if aws.current() is not None and lifetime is not None:
            assert aws.credentials()[1] - chain.at > 15 * MINUTE
    assert aws.credentials()


# With botocore's own chain.


@pytest.fixture
def home(monkeypatch, tmp_path) -> Path:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    folder = tmp_path / ".aws"
    folder.mkdir()
    return folder


def keys(name: str) -> str:
    return f"[default]\naws_access_key_id = {name}\naws_secret_access_key = secret\naws_session_token = session\n"


@dataclass
class Clock:
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return self.at


@pytest.mark.parametrize("file", ["credentials", "config"])
def test_keys_that_were_replaced_in_a_file_are_read_without_a_restart(home, file):
    clock = Clock()
    (home / file).write_text(keys("AKIDOLD"))
    aws = RenewingAws(None, None, clock.now)
    assert aws.credentials()[0].access_key == "AKIDOLD"
    (home / file).write_text(keys("AKIDRENEWED"))
    clock.at += timedelta(seconds=6)
    assert aws.current() is None
    assert aws.credentials()[0].access_key == "AKIDRENEWED"


def test_keys_that_aws_calls_expired_are_read_again_at_once(home):
    (home / "credentials").write_text(keys("AKIDOLD"))
    aws = RenewingAws(None, None)
    aws.credentials()
    (home / "credentials").write_text(keys("AKIDRENEWED"))
    aws.forget()
    assert aws.credentials()[0].access_key == "AKIDRENEWED"


def test_keys_that_aws_denied_are_read_again_but_not_for_every_denial(home):
    program, clock = process(home, HOUR), Clock()
    aws = RenewingAws(None, None, clock.now)
    aws.credentials()
    for _ in range(50):
        aws.forget(even_recent=False)
        aws.credentials()
    assert program() == 1
    clock.at += timedelta(seconds=6)
    aws.forget(even_recent=False)
    aws.credentials()
    assert program() == 2


def test_keys_that_appear_after_the_start_are_found(home):
    clock = Clock()
    aws = RenewingAws(None, None, clock.now)
    with pytest.raises(Denied, match="no AWS credentials"):
        aws.credentials()
    (home / "credentials").write_text(keys("AKIDNEW"))
    clock.at += timedelta(seconds=6)
    assert aws.credentials()[0].access_key == "AKIDNEW"


def process(home: Path, lifetime: timedelta) -> Callable[[], int]:
    """Let a program provide credentials; returns a function that counts its runs."""
    runs, program = home / "runs", home / "program.py"
    expiry = (datetime.now(UTC) + lifetime).isoformat()
    answer = {
        "Version": 1, "AccessKeyId": "AKIDPROCESS", "SecretAccessKey": "secret", "SessionToken": "s",
        "Expiration": expiry,
    }  # fmt: skip
    program.write_text(f"open({str(runs)!r}, 'a').write('x'); print({json.dumps(json.dumps(answer))})")
    (home / "config").write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
    return lambda: len(runs.read_text())


def test_a_credential_process_runs_once_while_its_credentials_last(home):
    runs = process(home, HOUR)
    aws = RenewingAws(None, None)
    for _ in range(10):
        assert aws.credentials()[0].access_key == "AKIDPROCESS"
    assert aws.current() is not None
    assert runs() == 1


def test_a_credential_process_whose_credentials_have_expired_is_an_error_with_the_remedy(home):
    process(home, -MINUTE)
    with pytest.raises(CredentialsExpired, match="aws sso login"):
        RenewingAws(None, None).credentials()


def test_an_sso_profile_without_a_login_is_an_error_with_the_remedy(home):
    (home / "config").write_text(
        "[default]\nsso_session = work\nsso_account_id = 123456789012\nsso_role_name = app\n"
        "[sso-session work]\nsso_region = eu-west-1\nsso_start_url = https://work.awsapps.com/start\n"
    )
    with pytest.raises(CredentialsExpired, match="aws sso login"):
        RenewingAws(None, None).credentials()
