"""`rdsiam proxy` in a process of its own."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.integration.proxy.token_api import TokenApi
from tests.integration.vending.token_servers import KEYS, REGION, TokenServers

LAYER = Path(__file__).parents[3] / "layers" / "rdsiam"
_LIMIT = 60.0


@dataclass(frozen=True)
class Printed:
    """The lines that the proxy prints for one database."""

    engine: str
    url: str
    jdbc: str
    command: str
    host: str = ""
    port: int = 0
    socket: str = ""


class ProxyProcess:
    """A context manager: leaving it ends the proxy.

    :param arguments: of the command, without `--output`.
    :ivar databases: what it printed, by the name of the database.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path, *arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "proxy.log"
        self.databases: dict[str, Printed] = {}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rdsiam.command", "proxy", "--output", "json", *arguments],
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._take(self._lines.get(timeout=_LIMIT))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _take(self, line: str) -> None:
        """Take the first line, and the others that come with it."""
        if not line:
            code = self.process.wait()
            raise AssertionError(f"the proxy ended with {code}:\n{self.log}")
        while line:
            document: dict[str, Any] = json.loads(line)
            names = Printed.__dataclass_fields__.keys()
            self.databases[document["database"]] = Printed(**{k: v for k, v in document.items() if k in names})
            try:
                line = self._lines.get(timeout=0.2)
            except queue.Empty:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def log(self) -> str:
        """Everything that the proxy wrote to stderr."""
        return self._log.read_text()

    def events(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, limit: float = 30.0) -> int:
        """Wait for the end, and return the exit code."""
        return self.process.wait(limit)

    @property
    def memory(self) -> int:
        """Resident bytes of the process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


def environment_of(api: TokenApi, servers: TokenServers, home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a proxy that asks an API of the tests."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(LAYER),
        "AWS_ACCESS_KEY_ID": KEYS.access_key,
        "AWS_SECRET_ACCESS_KEY": KEYS.secret_key,
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": REGION,
        "RDSIAM_API_URL": api.url,
        "RDSIAM_CA": servers.ca,
        **more,
    }
