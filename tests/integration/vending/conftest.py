"""Servers that judge tokens, and a clock, for tests of pools and drivers."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.vending import token_servers
from tests.integration.vending.token_servers import KEYS, REGION


@pytest.fixture(scope="module")
def servers() -> Iterator[token_servers.TokenServers]:
    with token_servers.running() as servers:
        yield servers


@pytest.fixture
def clock(monkeypatch, servers):
    """Provide one clock for the signer and the servers, and the environment of an application."""
    servers.clock.moved = timedelta()
    monkeypatch.setattr("rdsiam.signer.time", servers.clock.as_time())
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_key)
    monkeypatch.setenv("AWS_REGION", REGION)
    yield servers.clock
    servers.clock.moved = timedelta()


@pytest.fixture
def wait() -> Iterator[Callable[[Any], Any]]:
    """Provide a function that returns a value, or awaits it."""
    with asyncio.Runner() as runner:

        async def result(value: Any) -> Any:
            return await value

        yield lambda value: runner.run(result(value)) if inspect.isawaitable(value) else value
