"""The process of `rdsiam proxy` for benchmarks: all of it is the command's, but the database's name and its token.

Usage: python -m bench.proxy.process ENGINE PORT UPSTREAM. RDSIAM_BENCH_PASSWORD has the password that the server takes.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bench.signing import REGION, SESSION_TOKEN
from rdsiam.proxy import logs
from rdsiam.proxy.contracts import Engine, EngineName, Listener, Token
from rdsiam.proxy.mysql.engine import MySQLEngine
from rdsiam.proxy.network import Trust
from rdsiam.proxy.postgres.engine import PostgresEngine
from rdsiam.proxy.running import run
from rdsiam.proxy.server import Factory, Server
from rdsiam.proxy.settings import Settings
from rdsiam.proxy.token_sources import Target
from rdsiam.proxy.upstream import DatabaseUpstream, Limits, Workers
from rdsiam.signer import Credentials, TokenSigner

USER = "app_service"
_PER_SECOND = 100_000
_ENGINES: dict[EngineName, Callable[[], Engine]] = {"postgres": PostgresEngine, "mysql": MySQLEngine}


class _Tokens:
    """Signs a token for each login, as `--local` does, and gives the password that the server takes in its place."""

    def __init__(self, engine: EngineName, port: int, password: str) -> None:
        self._target = Target("bench", "localhost", port, engine)
        self._password = password
        self._signer = TokenSigner(Credentials("ASIAEXAMPLEEXAMPLE00", "not-a-real-secret-key", SESSION_TOKEN), REGION)

    def target(self) -> Target:
        """Return the server."""
        return self._target

    def ready(self, target: Target, user: str) -> Token:
        """Return the password, after a token was signed."""
        self._signer.token(target.host, target.port, user)
        return Token(self._password, target.host, target.port, user)

    token = ready


async def _main(engine: EngineName, port: int, upstream: int) -> None:
    workers = Workers(ThreadPoolExecutor(4), ThreadPoolExecutor(4))
    tokens = _Tokens(engine, upstream, os.environ["RDSIAM_BENCH_PASSWORD"])
    limits, trust = Limits(per_second=_PER_SECOND), Trust()

    async def make(*_: object) -> DatabaseUpstream:
        return DatabaseUpstream(tokens, None, workers, limits, trust)

    factory = Factory(make, lambda name: _ENGINES[name]())
    listener = Listener("bench", user=USER, host="127.0.0.1", port=port)
    await run(Server(Settings((listener,), max_connections=5000), factory), lambda: None, lambda: None)


if __name__ == "__main__":
    logs.set_up(terminal=False)
    name = sys.argv[1]
    assert name in ("postgres", "mysql")
    asyncio.run(_main("mysql" if name == "mysql" else "postgres", int(sys.argv[2]), int(sys.argv[3])))
