"""The cost of a rotation: connections, AWS calls and wall time of all four steps, on real servers."""

import json
import os
import shutil
import statistics
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
from moto import mock_aws
from moto.secretsmanager.models import secretsmanager_backends

from bench.result import Result
from localcloud.core import processes
from localcloud.core.certificates import Authority
from localcloud.databases.servers.mariadb import MariadbServer
from localcloud.databases.servers.postgres import PostgresServer
from localcloud.databases.servers.server import ServerAddress
from localcloud.moto_patches.patch import apply_patches
from localcloud.moto_patches.rotations import Rotations
from localcloud.moto_patches.table import secrets_manager_patches
from rdsiam.access.rotation import Scheme
from rdsiam.aws.rds import FAMILIES, Family
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.engines.logins import Password
from rdsiam.engines.mysql.connection import connect_mysql
from rdsiam.engines.postgres.connection import connect_postgres
from rdsiam.engines.registry import ROTATORS
from rdsiam.events.rotate import STEPS, RotationRequest
from rdsiam.rotation.steps import Rotation
from rdsiam.rotation.targets import Targets
from rdsiam.state.record import Record, SecretRecord
from rdsiam.tokens import trust

REGION, ACCOUNT = "eu-west-1", "123456789012"
ROUNDS = 15
#: AWS's published function for one MySQL user, run once for this comparison: 3 connections and 14 calls, and one
#: connection more, in clear text, where the secret has no `ssl`.
BASELINE, CONNECTIONS, CALLS = "AWS's MySQL single-user function", 3, 14
#: If all steps run in one process.
MOST_CONNECTIONS, MOST_CALLS = 3, 12
#: Each step asks the inventory whose secret it is: with a process of its own for each, that is one call for each that
#: logs in more than AWS's function needs, which asks nobody; two users that take turns need one call more.
MOST_COLD_CALLS = 17


def run() -> list[Result]:
    """Rotate on each engine, one user and two that take turns, in one process and in one for each step, and count."""
    root = Path(tempfile.mkdtemp(prefix="rdsiam-bench-"))
    processes.remove_when_we_end(root)
    authority = Authority(root / "ca")
    os.environ |= {"RDSIAM_CA": authority.pem, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    trust.ca_file.cache_clear()
    apply_patches(secrets_manager_patches(Rotations(lambda *_: True, lambda *_: None)))
    try:
        with mock_aws():
            return [result for engine in ("postgres", "mariadb") for result in _engine(engine, root, authority)]
    finally:
        shutil.rmtree(root, ignore_errors=True)
        for name in ("RDSIAM_CA", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del os.environ[name]
        trust.ca_file.cache_clear()


def _engine(engine: str, root: Path, authority: Authority) -> list[Result]:
    kind = PostgresServer if engine == "postgres" else MariadbServer
    address = ServerAddress.of_localhost()
    server = kind(root / engine, address, "boss", "boss-password", "shop", authority, lambda *_: None)
    server.start()
    try:
        return [
            result
            for alternating in (False, True)
            for cold in (False, True)
            for result in _scheme(engine, server, alternating=alternating, cold=cold)
        ]
    finally:
        server.stop()


def _scheme(engine: str, server: Any, *, alternating: bool, cold: bool) -> list[Result]:
    """Rotate one secret again and again; `cold`: each step begins with nothing, as in a process of its own."""
    counted: Counter[str] = Counter()
    family: Family = FAMILIES[engine]
    secrets_manager = boto3.client("secretsmanager", region_name=REGION)
    secrets_manager.meta.events.register("before-call", lambda **_: counted.update(["calls"]))
    name = f"{engine}-{'two' if alternating else 'one'}-{'cold' if cold else 'warm'}"
    user = name.replace("-", "_")
    _make_user(engine, server, user)
    document = {
        "engine": engine,
        "host": server.address.host,
        "port": server.address.port,
        "username": user,
        "dbname": "shop",
    }
    document |= {"password": "first-password", "dbInstanceIdentifier": "one"}
    if alternating:
        text = json.dumps({"username": "boss", "password": "boss-password", "host": server.address.host})
        document["masterarn"] = secrets_manager.create_secret(Name=f"boss-of-{name}", SecretString=text)["ARN"]
    arn = secrets_manager.create_secret(Name=name, SecretString=json.dumps(document))["ARN"]
    scheme: Scheme = "alternating" if alternating else "single"
    record = SecretRecord("db-ONE", arn, scheme, document.get("masterarn"))

    def process() -> Rotation:
        return Rotation(
            SecretStore(SecretsManager(secrets_manager)),
            Targets(_Rds(engine, server.address.host, server.address.port, counted), _Inventory(user, record, counted)),  # type: ignore[arg-type]
            engines={family: _Counting(ROTATORS[family], counted)},
        )

    rotation = process()
    seconds = []
    for _ in range(ROUNDS):
        token = _begin(arn)
        counted.clear()
        began = time.perf_counter()
        for step in STEPS:
            (process() if cold else rotation).run(RotationRequest(step, arn, token))
        seconds.append(time.perf_counter() - began)
    connections, calls = counted["connections"], counted["calls"]
    what = f"rotate {engine}{', two users' if alternating else ''}{', cold' if cold else ''}"
    most = MOST_COLD_CALLS if cold else MOST_CALLS
    return [
        Result(f"{what}: connections", connections, "", BASELINE, CONNECTIONS, connections, at_most=MOST_CONNECTIONS),
        Result(f"{what}: AWS calls", calls, "", BASELINE, CALLS, calls, at_most=most),
        Result(f"{what}: time", 1000 * statistics.median(seconds), "ms", "none", 0, 0),
    ]


def _make_user(engine: str, server: Any, user: str) -> None:
    master = Password("boss", "boss-password")
    if engine == "postgres":
        session: Any = connect_postgres(server.address.host, server.address.port, "shop", master)
        statements = [f"CREATE ROLE {user} LOGIN PASSWORD 'first-password'"]
    else:
        session = connect_mysql(server.address.host, server.address.port, master)
        statements = [f"CREATE USER {user} IDENTIFIED BY 'first-password'", f"GRANT SELECT ON shop.* TO {user}"]
    with session, session.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        session.commit()


def _begin(arn: str) -> str:
    """Do what Secrets Manager does before it invokes the function."""
    secret = secretsmanager_backends[ACCOUNT][REGION].secrets[arn]
    secret.rotation_requested = secret.rotation_enabled = True
    token = str(uuid.uuid4())
    secret.versions[token] = {"createdate": int(time.time()), "version_id": token, "version_stages": ["AWSPENDING"]}
    return token


class _Counting:
    """An engine whose connections are counted."""

    def __init__(self, engine: Any, counted: Counter[str]) -> None:
        self._engine, self._counted = engine, counted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def connect(self, *arguments: Any) -> Any:
        self._counted["connections"] += 1
        return self._engine.connect(*arguments)


class _Inventory:
    """The inventory with the record of one secret, whose calls are counted."""

    def __init__(self, user: str, record: SecretRecord, counted: Counter[str]) -> None:
        self._record, self._counted = Record("db-ONE", secrets={user: record}), counted

    def get(self, _: str) -> Record:
        """Return the record: one call."""
        self._counted["calls"] += 1
        return self._record


class _Rds:
    """RDS with the one instance, whose calls are counted; moto's instances have no server."""

    def __init__(self, engine: str, host: str, port: int, counted: Counter[str]) -> None:
        self._described = {
            "DBInstanceArn": f"arn:aws:rds:{REGION}:{ACCOUNT}:db:one", "DBInstanceIdentifier": "one", "Engine": engine,
            "EngineVersion": "1", "DbiResourceId": "db-ONE", "DBInstanceStatus": "available", "MasterUsername": "boss",
            "Endpoint": {"Address": host, "Port": port},
        }  # fmt: skip
        self._counted = counted

    def get_paginator(self, _: str) -> "_Rds":
        return self

    def paginate(self) -> list[dict[str, Any]]:
        """Return the only page of the only list that rotation reads in pages: there are no proxies."""
        self._counted["calls"] += 1
        return [{"DBProxies": []}]

    def describe_db_instances(self, **_: Any) -> dict[str, Any]:
        self._counted["calls"] += 1
        return {"DBInstances": [self._described]}
