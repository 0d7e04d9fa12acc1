"""Credentials that expire while a proxy runs: clients read what to do, and need no other proxy afterwards."""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pymysql
import pytest

from tests.integration.proxy.proxy_process import Printed
from tests.integration.proxy.python_clients import parameters
from tests.integration.proxy.token_api import Refusal
from tests.integration.vending.token_servers import KEYS

ERRORS = (psycopg.OperationalError, pymysql.OperationalError)
#: API Gateway's own words.
EXPIRED = Refusal(403, "", "The security token included in the request is expired")


def log_in(printed: Printed) -> None:
    if printed.engine == "postgres":
        psycopg.connect(printed.url, connect_timeout=20).close()
    else:
        pymysql.connect(**parameters(printed.url), connect_timeout=20).close()


@pytest.fixture
def program(tmp_path) -> Path:
    """Provide credentials by a program, as a company's own login does."""
    answer, config = tmp_path / "answer.json", tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} -c 'print(open(\"{answer}\").read())'\n")
    return config


def renew(answer: Path, lifetime: timedelta) -> None:
    """Log in, as a person would."""
    keys = {"Version": 1, "AccessKeyId": KEYS.access_key, "SecretAccessKey": KEYS.secret_key, "SessionToken": "session"}
    answer.write_text(json.dumps(keys | {"Expiration": (datetime.now(UTC) + lifetime).isoformat()}))


@pytest.mark.parametrize("kind", ["postgres", pytest.param("mariadb", marks=pytest.mark.exhaustive)])
def test_expired_credentials_are_renewed_without_a_restart(start_proxy, large_table, api, program, kind):
    large_table(kind)
    api.reset()
    renew(program.with_name("answer.json"), timedelta(seconds=12))
    proxy = start_proxy(f"{kind}:0", "-u", "app", "-d", "shop", AWS_ACCESS_KEY_ID="", AWS_CONFIG_FILE=str(program))
    (printed,) = proxy.databases.values()
    log_in(printed)
    end = time.monotonic() + 30
    with pytest.raises(ERRORS, match="aws sso login"):  # noqa: PT012  the credentials expire meanwhile
        while time.monotonic() < end:
            log_in(printed)
            time.sleep(0.5)
    renew(program.with_name("answer.json"), timedelta(hours=1))
    time.sleep(5.5)  # a renewal that failed is not repeated for each client
    log_in(printed)
    codes = {event.get("code") for event in proxy.events()}
    assert "expired-credentials" in codes
    assert "session" not in proxy.log
    proxy.__exit__(None, None, None)


@pytest.mark.parametrize("kind", ["postgres", pytest.param("mariadb", marks=pytest.mark.exhaustive)])
def test_keys_that_aws_calls_expired_are_read_again_for_the_next_client(start_proxy, large_table, api, tmp_path, kind):
    large_table(kind)
    api.reset()
    keys = tmp_path / "credentials"
    content = f"[default]\naws_access_key_id = {KEYS.access_key}\naws_secret_access_key = {KEYS.secret_key}\n"
    keys.write_text(content)
    proxy = start_proxy(
        f"{kind}:0", "-u", "app", "-d", "shop", AWS_ACCESS_KEY_ID="", AWS_SHARED_CREDENTIALS_FILE=str(keys)
    )
    (printed,) = proxy.databases.values()
    api.refusals.append(EXPIRED)
    with pytest.raises(ERRORS, match="renew your credentials"):
        log_in(printed)
    keys.write_text(f"{content}# renewed\n")
    log_in(printed)
    proxy.__exit__(None, None, None)
