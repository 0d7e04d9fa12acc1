"""Starts a cloud from a program and talks to it; used by the tests, the benchmarks and the demo."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from localcloud.core import hosts

_ROOT = Path(__file__).resolve().parent.parent


class CloudFailed(Exception):
    """The cloud ended instead of starting; its log is in the message.

    :ivar reason: the cloud's own sentence about that; empty if its log is not known.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class RunningCloud:
    """A cloud in a process of its own. A context manager: leaving it stops the cloud.

    `info` has the fields of the line that it printed; the most used fields are properties too.
    """

    def __init__(self, process: subprocess.Popen[bytes], info: Mapping[str, Any]) -> None:
        self.process = process
        self.info = info
        # Shared: a session's first client of a service reads the service's model, which takes a tenth of a second.
        self._session = boto3.Session(region_name=self.region)
        self._own: dict[tuple[str, int], Any] = {}
        self._making = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """Address of the AWS APIs."""
        return str(self.info["aws_endpoint_url"])

    @property
    def api_url(self) -> str:
        """Address of the HTTP API."""
        return str(self.info["api_url"])

    @property
    def account(self) -> str:
        """The account of all resources."""
        return str(self.info["account"])

    @property
    def functions(self) -> Mapping[str, str]:
        """Names of the functions by logical id, invocable as they are."""
        return dict(self.info["functions"])

    @property
    def outputs(self) -> Mapping[str, str]:
        """Outputs of the template."""
        return dict(self.info["outputs"])

    @property
    def region(self) -> str:
        """The region of all resources."""
        return str(self.info["region"])

    @property
    def ca(self) -> Path:
        """The certificate authority of the databases, a PEM file."""
        return Path(self.info["ca"])

    @property
    def directory(self) -> Path:
        """The folder of all files of the cloud; removed when it stops."""
        return Path(self.info["directory"])

    @property
    def logs(self) -> Path:
        """The folder with one log per function, `<logical id>.log`."""
        return Path(self.info["logs"])

    def session(self, credentials: Mapping[str, Any] | None = None) -> boto3.Session:
        """Return a session.

        :param credentials: as STS returns them (AccessKeyId, SecretAccessKey, SessionToken); the administrator's
            when omitted.
        """
        if credentials is None:
            own = self.info["credentials"]
            return boto3.Session(own["access_key_id"], own["secret_access_key"], region_name=self.region)
        return boto3.Session(
            credentials["AccessKeyId"],
            credentials["SecretAccessKey"],
            credentials.get("SessionToken"),
            region_name=self.region,
        )

    def client(self, service: str, credentials: Mapping[str, Any] | None = None, *, read_timeout: int = 120) -> Any:
        """Return a client of `service`; the administrator's clients are cached.

        :param credentials: see `session`.
        :param read_timeout: seconds to wait for an answer.
        """
        with self._making:
            if credentials is not None:
                return self._client(service, credentials, read_timeout)
            if (service, read_timeout) not in self._own:
                own = self.info["credentials"]
                keys = {"AccessKeyId": own["access_key_id"], "SecretAccessKey": own["secret_access_key"]}
                self._own[service, read_timeout] = self._client(service, keys, read_timeout)
            return self._own[service, read_timeout]

    def fire_schedule(self, rule: str) -> None:
        """Let a scheduled rule send its event now, as EventBridge does by the clock; PutEvents refuses that event.

        :param rule: the rule's name.
        """
        self._have_sent(f"schedules/{quote(rule)}", b"")

    def send_as_rds(self, kind: str, arn: str, number: str) -> None:
        """Let RDS send an event about something that localcloud doesn't model; PutEvents refuses that event.

        :param kind: its detail-type, such as `RDS Blue Green Deployment Event`.
        :param arn: of its resource.
        :param number: of the event, four digits.
        """
        detail = {"SourceArn": arn, "SourceIdentifier": arn.rpartition(":")[2], "EventID": f"RDS-EVENT-{number}"}
        self._have_sent("events", json.dumps({"detail-type": kind, "resources": [arn], "detail": detail}).encode())

    def _have_sent(self, path: str, body: bytes) -> None:
        url = f"{self.endpoint}/{path}"
        request = AWSRequest("POST", url, data=body)
        own = self.info["credentials"]
        credentials = Credentials(own["access_key_id"], own["secret_access_key"])
        SigV4Auth(credentials, "localcloud", self.region).add_auth(request)
        signed = urllib.request.Request(url, body, dict(request.headers), method="POST")  # noqa: S310  the own cloud's
        urllib.request.urlopen(signed, timeout=30).close()  # noqa: S310

    def _client(self, service: str, credentials: Mapping[str, Any], read_timeout: int) -> Any:
        return self._session.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.endpoint,
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials.get("SessionToken"),
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 2},
                read_timeout=read_timeout,
                max_pool_connections=50,
            ),
        )

    def stop(self, how: signal.Signals = signal.SIGTERM, limit: float = 20.0) -> int:
        """End the cloud and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def start(*arguments: str, log: Path | None = None) -> RunningCloud:
    """Start a cloud that ends with this process at the latest.

    :param arguments: arguments of `python -m localcloud`.
    :param log: file for its log; this process's stderr when omitted.
    :raises CloudFailed: it did not start.
    """
    if hosts.variables().keys() - os.environ.keys():
        command = "$(python -m localcloud.core.hosts) COMMAND"
        raise CloudFailed(f"this process would not find the databases by their names: start it by {command}", command)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    with contextlib.ExitStack() as stack:
        stderr = None if log is None else stack.enter_context(log.open("ab"))
        to_stderr = () if log is None else ("--log-file", "-")
        process = subprocess.Popen(
            [sys.executable, "-m", "localcloud", "--die-with-parent", *to_stderr, *arguments],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        code = process.wait()
        process.stdout.close()
        said = "" if log is None else log.read_text()
        _, _, reason = said.rpartition("localcloud: did not start: ")
        raise CloudFailed(f"localcloud ended with {code}:\n{said[-2000:]}", reason.strip())
    return RunningCloud(process, json.loads(line))
