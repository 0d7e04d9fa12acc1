"""The audit of a fleet: what a database costs in a large one, what hanging ones cost the others, what memory it takes.

Everything is real but for the number of servers: a thousand databases are endpoints of a few PostgreSQL servers, each
with its own resource id and tokens; the functions run under AWS's runtime interface emulator, the policies are judged.
"""

import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from bench.auditing import bare_postgres
from bench.result import Result
from localcloud.client import RunningCloud, start
from localcloud.lambda_.emulators import RUNTIME
from rdsiam.signer import Credentials, TokenSigner

SMALL, LARGE = 50, 1000
#: With the large fleet's, one in ten.
HANGING = LARGE // 9
SERVERS = 10
#: Measurements of the CPU of a database.
ROUNDS = 7
#: Batches at a time, fewer than the large fleet has: one that is held up would delay those that come after it.
ENVIRONMENTS = 8
_TAG = "localcloud:shared-with"
_ACCOUNTS = """
SELECT rolname, rolcanlogin, pg_catalog.pg_has_role(oid, 'rds_iam', 'MEMBER') FROM pg_catalog.pg_roles
"""


def run() -> list[Result]:
    """Audit 50 databases, then 1,000, then 1,111, then 1,111 of which one in ten hangs."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "localcloud.log"
        with start("--environments", str(ENVIRONMENTS), log=log) as cloud:
            return _Fleet(cloud).measure()


class _Fleet:
    def __init__(self, cloud: RunningCloud) -> None:
        self._cloud = cloud
        self._rds = cloud.client("rds")

    def measure(self) -> list[Result]:
        self._make_servers()
        self._make("s", SMALL - SERVERS)
        self._audit()  # what starts for the first time is nobody's cost
        small = statistics.median(self._audit()["seconds"] for _ in range(3))
        used, bare = self._cpu_per_database()
        self._make("l", LARGE - SMALL)
        self._audit()
        large = self._median_audit()
        script = self._obvious_script(SMALL)
        # As many databases, of which none hangs and then one in ten: listing them takes as long.
        self._make("a", HANGING)
        self._audit()
        answering = self._median_audit()
        self._delete("a", HANGING)
        self._make("h", HANGING, silent=True)
        hanging = self._median_audit()
        assert large["answer"]["audited"] == LARGE, large["answer"]
        assert answering["answer"]["audited"] == LARGE + HANGING, answering["answer"]
        assert (hanging["answer"]["audited"], hanging["answer"]["unreachable"]) == (LARGE, HANGING)
        per_database = 1000 * large["seconds"] / LARGE
        memory = [
            Result(
                f"memory of {name}",
                large["memory"][name],
                "MiB",
                f"{SMALL} databases",
                before,
                large["memory"][name] / before,
            )
            for name, before in self._memory_of_small.items()
        ]
        return [
            Result(
                "audit: 1,000 databases",
                per_database,
                "ms/database",
                f"{SMALL} databases",
                1000 * small / SMALL,
                (large["seconds"] / LARGE) / (small / SMALL),
                at_most=1.1,
            ),
            Result(
                "audit: one in ten hangs",
                hanging["last"],
                "s to the last result of the others",
                "none hangs",
                answering["last"],
                hanging["last"] / answering["last"],
                at_most=1.15,
            ),
            Result(
                "audit: beside a loop",
                per_database,
                "ms/database",
                "boto3 and psycopg, one after the other",
                1000 * script / SMALL,
                per_database / (1000 * script / SMALL),
            ),
            Result(
                "audit: CPU of a database", used, "ms", "the bare queries, by token", bare, used / bare, at_most=1.5
            ),
            *memory,
        ]

    def _median_audit(self) -> dict[str, Any]:
        """Return one of three audits, with the median time to the last result."""
        return sorted((self._audit() for _ in range(3)), key=lambda audit: audit["last"])[1]

    def _cpu_per_database(self) -> tuple[float, float]:
        """Return the CPU that AuditBatchFunction takes for a database, and that of a loop with its queries; in ms.

        Both are measured in turns, and with one batch, which has processors to itself on AWS.
        """
        used, bare = [], []
        for _ in range(ROUNDS):
            before = sum(self._cpu().values())
            self._audit()
            used.append(1e3 * (sum(self._cpu().values()) - before) / SMALL)
            bare.append(1e3 * self._bare_queries(SMALL) / SMALL)
        return statistics.median(used), statistics.median(bare)

    def _cpu(self) -> dict[int, float]:
        """Return the seconds of CPU that each environment of AuditBatchFunction has taken."""
        name = self._cloud.functions["AuditBatchFunction"].partition(":")[0]
        return {process.pid: sum(process.cpu_times()[:2]) for process in _environments({name: name})}

    def _bare_queries(self, count: int) -> float:
        """Connect with verified TLS and a token, and ask what an audit asks; return the seconds of CPU."""
        session: Any = self._cloud.session()
        signer = TokenSigner(Credentials(*session.get_credentials().get_frozen_credentials()[:3]), self._cloud.region)
        instances = self._rds.describe_db_instances(MaxRecords=count)["DBInstances"][:count]
        began = time.process_time()
        for instance in instances:
            host, port = instance["Endpoint"]["Address"], instance["Endpoint"]["Port"]
            with psycopg.connect(
                host=host,
                port=port,
                user="rdsiam_auditor",
                password=signer.token(host, port, "rdsiam_auditor"),
                dbname="postgres",
                sslmode="verify-full",
                sslrootcert=str(self._cloud.ca),
                autocommit=True,
            ) as session:
                bare_postgres(session)
        return time.process_time() - began

    def _make_servers(self) -> None:
        """Make the servers, onboard them, and stop onboarding what comes after."""
        entry = {
            "match": {"identifier": "server-*"},
            "users": [{"name": "app", "privileges": "readonly", "on": ["shop"]}],
        }
        self._cloud.client("s3").put_object(
            Bucket=self._cloud.outputs["AccessBucket"],
            Key="access.yaml",
            Body=json.dumps({"version": 1, "databases": [entry]}).encode(),
        )
        arns = [
            self._create(f"server-{number}", ManageMasterUserPassword=True, DBName="shop") for number in range(SERVERS)
        ]
        self._wait_until_available()
        with ThreadPoolExecutor(4) as pool:
            for answer in pool.map(self._onboard, arns):
                assert answer["status"] in {"onboarded", "unchanged"}, answer
        events = self._cloud.client("events")
        for rule in events.list_rules()["Rules"]:
            events.disable_rule(Name=rule["Name"])

    def _onboard(self, arn: str) -> Any:
        return self._invoke("OnboardFunction", {"database": arn})

    def _make(self, prefix: str, count: int, silent: bool = False) -> None:
        def create(number: int) -> str:
            server = "nobody" if silent else f"server-{number % SERVERS}"
            return self._create(
                f"{prefix}-{number}", MasterUserPassword="not-used-by-anybody", Tags=[{"Key": _TAG, "Value": server}]
            )

        for number in range(count):  # one after the other: moto is not made for more
            create(number)
        self._wait_until_available()
        print(f"{count} databases made", file=sys.stderr)

    def _delete(self, prefix: str, count: int) -> None:
        for number in range(count):
            self._rds.delete_db_instance(DBInstanceIdentifier=f"{prefix}-{number}", SkipFinalSnapshot=True)
        while any(one["DBInstanceIdentifier"].startswith(f"{prefix}-") for one in self._instances()):
            time.sleep(0.5)

    def _instances(self) -> Iterator[Any]:
        for page in self._rds.get_paginator("describe_db_instances").paginate():
            yield from page["DBInstances"]

    def _create(self, identifier: str, **options: Any) -> str:
        made = self._rds.create_db_instance(
            DBInstanceIdentifier=identifier,
            Engine="postgres",
            DBInstanceClass="db.t4g.medium",
            AllocatedStorage=20,
            MasterUsername="boss",
            EnableIAMDatabaseAuthentication=True,
            **options,
        )
        return str(made["DBInstance"]["DBInstanceArn"])

    def _wait_until_available(self) -> None:
        while any(one["DBInstanceStatus"] != "available" for one in self._instances()):
            time.sleep(0.5)

    def _invoke(self, function: str, payload: Any) -> Any:
        client = self._cloud.client("lambda", read_timeout=900)
        answer = json.load(
            client.invoke(FunctionName=self._cloud.functions[function], Payload=json.dumps(payload))["Payload"]
        )
        if "errorMessage" in answer:
            raise RuntimeError(answer["errorMessage"])
        return answer

    def _audit(self) -> dict[str, Any]:
        """Audit the fleet; return its answer, the seconds it took, when the last was read, and the peak memory."""
        with _peak_memory(self._cloud) as memory:
            began, clock = datetime.now(UTC), time.monotonic()
            answer = self._invoke("AuditFunction", {})
            seconds = time.monotonic() - clock
        print(f"audited {answer['databases']} databases in {seconds:.1f} s", file=sys.stderr)
        if not hasattr(self, "_memory_of_small") or answer["databases"] == SMALL:
            self._memory_of_small = dict(memory)
        return {"answer": answer, "seconds": seconds, "last": self._last(answer["id"], began), "memory": memory}

    def _last(self, audit: str, began: datetime) -> float:
        """Return after how many seconds the last database that could be read had its result, by the function's log."""
        lines = (self._cloud.logs / "AuditBatchFunction.log").read_text().splitlines()
        found = [json.loads(line) for line in lines if f'"audit":"{audit}"' in line and ": audited, " in line]
        read = [line["timestamp"] for line in found if line["message"].startswith("audited ")]
        return (datetime.strptime(max(read), "%Y-%m-%d %H:%M:%S,%f%z") - began).total_seconds()

    def _obvious_script(self, count: int) -> float:
        """Do what one would write first: describe, sign, connect, ask, one database after the other."""
        rds = self._cloud.session().client("rds", endpoint_url=self._cloud.endpoint)
        began = time.monotonic()
        found = 0
        for page in rds.get_paginator("describe_db_instances").paginate():
            for instance in page["DBInstances"]:
                if found == count:
                    return time.monotonic() - began
                host, port = instance["Endpoint"]["Address"], instance["Endpoint"]["Port"]
                token = rds.generate_db_auth_token(DBHostname=host, Port=port, DBUsername="rdsiam_auditor")
                with psycopg.connect(
                    host=host,
                    port=port,
                    user="rdsiam_auditor",
                    password=token,
                    dbname="postgres",
                    sslmode="verify-full",
                    sslrootcert=str(self._cloud.ca),
                ) as session:
                    session.execute(_ACCOUNTS).fetchall()
                found += 1
        raise RuntimeError(f"only {found} databases")


@contextlib.contextmanager
def _peak_memory(cloud: RunningCloud) -> Iterator[dict[str, float]]:
    """Watch the functions' processes; the result has the largest resident size of each function, in MiB."""
    names = {cloud.functions[name].partition(":")[0]: name for name in ("AuditFunction", "AuditBatchFunction")}
    peak: dict[str, float] = dict.fromkeys(names.values(), 0.0)
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            for process in _environments(names):
                with contextlib.suppress(psutil.Error):
                    name = names[process.environ()["AWS_LAMBDA_FUNCTION_NAME"]]
                    peak[name] = max(peak[name], process.memory_info().rss / 2**20)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def _environments(names: Mapping[str, str]) -> Iterator[psutil.Process]:
    """Yield the runtimes of functions of these names."""
    for process in psutil.process_iter(["name", "cmdline"]):
        with contextlib.suppress(psutil.Error):
            runs = process.info["name"].startswith("python") and str(RUNTIME) in (process.info["cmdline"] or ())
            if runs and process.environ().get("AWS_LAMBDA_FUNCTION_NAME", "") in names:
                yield process


if __name__ == "__main__":
    for result in run():
        print(json.dumps(result.as_json()), file=sys.stderr)
