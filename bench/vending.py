"""The time of a token: the first of a cold start, a warm one, and those of two hundred callers at once."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.result import Result
from bench.vending_place import Place
from demo.first_login import ROOT
from localcloud.client import start
from localcloud.lambda_.emulators import Function, Pool
from rdsiam.aws.sigv4 import signed
from rdsiam.signer import Credentials

ROUNDS = 15
CALLERS, CALLS, SESSIONS = 200, 5, 10
OURS, USUAL = ROOT / "functions" / "vend", ROOT / "bench" / "usual"
_LAYER = ROOT / "layers" / "rdsiam"
_USUAL = "event handler, boto3's clients"


def run() -> list[Result]:
    """Measure in a cloud with one database; functions run under AWS's runtime interface emulator."""
    with tempfile.TemporaryDirectory() as folder, start(log=Path(folder) / "localcloud.log") as cloud:
        place = Place(cloud)
        alone = _Callers(place, 1).measure(20)  # VendFunction has run when it's done
        together = _Callers(place, CALLERS).measure(CALLS)
        return [*_cold(place, Path(folder)), *_warm(place), *_many(alone, together)]


def _cold(place: Place, folder: Path) -> list[Result]:
    """Start both handlers in turns, each in an environment of its own, until the first token is there."""
    event, environment = json.dumps(place.event()).encode(), place.environment()
    times: dict[Path, list[float]] = {OURS: [], USUAL: []}
    for number in range(ROUNDS + 1):
        for code, results in times.items():
            seconds = _first_token(code, environment, event, folder / f"{code.name}.log")
            if number:  # the first compiles what it imports
                results.append(seconds * 1000)
    own, usual = (statistics.median(results) for results in times.values())
    # Of each turn, in which both had the same of a machine that others use too.
    ratio = statistics.median(own / usual for own, usual in zip(*times.values(), strict=True))
    return [Result("vend: cold start, token", own, "ms", _USUAL, usual, ratio, at_most=0.55)]


def _first_token(code: Path, environment: Mapping[str, str], event: bytes, log: Path) -> float:
    function = Function(
        logical_id="Vend", name="vend", arn="", role_arn="", handler="app.handler", code=code, layers=(_LAYER,),
        environment=environment, timeout=30, memory=1024,
    )  # fmt: skip
    pool = Pool(function, lambda _: {}, log, 1)
    try:
        began = time.perf_counter()
        outcome = pool.invoke(event, "arn:aws:lambda:eu-west-1:123456789012:function:vend:live")
        taken = time.perf_counter() - began
    finally:
        pool.stop()
    if b"X-Amz-Signature=" not in outcome.payload:
        raise RuntimeError(f"{code.name} gave no token: {log.read_text()[-1000:]}")
    return taken


def _warm(place: Place) -> list[Result]:
    own, usual = (_warm_call(place, code) for code in (OURS, USUAL))
    calls = sum(own["calls"].values())
    if own["calls"].keys() != {"PutItem"}:
        raise RuntimeError(f"a warm call makes other calls than the record's: {own['calls']}")
    cpu, baseline = own["milliseconds"], usual["milliseconds"]
    return [
        Result("vend: warm, CPU", cpu, "ms", _USUAL, baseline, cpu, at_most=0.6),
        Result("vend: warm, AWS calls", calls, "", _USUAL, sum(usual["calls"].values()), calls, at_most=1),
    ]


def _warm_call(place: Place, code: Path) -> Any:
    path = os.pathsep.join(str(folder) for folder in (_LAYER, ROOT))
    done = subprocess.run(
        [sys.executable, "-m", "bench.warm_call", str(code)],
        env={**place.environment(), "PYTHONPATH": path},
        input=json.dumps(place.event()), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{code.name} failed: {done.stderr[-1000:]}")
    return json.loads(done.stderr.splitlines()[-1])


def _many(alone: "_Callers", together: "_Callers") -> list[Result]:
    """Compare many callers with one: environments of the function are as few as localcloud has, eight."""
    one = statistics.median(alone.times)
    by_percent = statistics.quantiles(together.times, n=100)
    failed = len(alone.failures) + len(together.failures)
    return [
        *(
            Result(f"vend: {CALLERS} callers, p{percent}", value, "ms", "one caller alone, p50", one, value / one)
            for percent, value in ((50, by_percent[49]), (99, by_percent[98]))
        ),
        Result(f"vend: {CALLERS} callers, errors", failed, "", "none", 0, failed, at_most=0),
    ]


class _Callers:
    """Callers of POST /tokens, each with a connection of its own, all at once."""

    def __init__(self, place: Place, number: int) -> None:
        self._place = place
        self._number = number
        self._sessions = [place.caller(f"session-{index}") for index in range(min(number, SESSIONS))]
        self._ready = threading.Barrier(number)
        self.times: list[float] = []
        self.failures: list[str] = []

    def measure(self, calls: int) -> "_Callers":
        """Let each caller make that number of calls, one after the other; times are in milliseconds."""
        threads = [threading.Thread(target=self._ask, args=(index, calls)) for index in range(self._number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self

    def _ask(self, index: int, calls: int) -> None:
        found = self._sessions[index % len(self._sessions)]
        keys = Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
        place = urlsplit(self._place.api_url)
        connection = HTTPConnection(place.netloc, timeout=60)
        body = self._place.body.encode()
        named = {"host": place.netloc, "content-type": "application/json"}
        self._ready.wait()
        for _ in range(calls):
            began = time.perf_counter()
            headers = signed(keys, self._place.region, "execute-api", "POST", "/tokens", named, body)
            try:
                connection.request("POST", "/tokens", body, headers)
                answer = connection.getresponse()
                content = answer.read()
            except OSError as error:
                self.failures.append(type(error).__name__)
                connection.close()
                continue
            self.times.append((time.perf_counter() - began) * 1000)
            if answer.status != 200 or b"X-Amz-Signature=" not in content:
                self.failures.append(f"status {answer.status}")
