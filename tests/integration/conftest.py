"""Fixtures that several folders use: databases that are vended, servers without a cloud, RDS and its events."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud.client import RunningCloud
from localcloud.core import processes
from localcloud.core.certificates import Authority
from localcloud.databases.servers.mariadb import MariadbServer
from localcloud.databases.servers.mysql import MysqlServer
from localcloud.databases.servers.mysql_family import MysqlFamilyServer
from localcloud.databases.servers.mysql_programs import MISSING, find_mysql
from localcloud.databases.servers.postgres import PostgresServer
from localcloud.databases.servers.server import ServerAddress
from localcloud.settings import Administrator
from rdsiam.aws.rds import Database
from rdsiam.engines.mysql.engine import Mysql
from rdsiam.engines.postgres.engine import Postgres
from rdsiam.tokens import trust
from tests.ground import folder_for_servers
from tests.integration.api_requests import GROUP
from tests.integration.databases import Databases, Events, Eventually
from tests.integration.leftovers import Inventory, remove
from tests.integration.place import MASTER, MASTER_PASSWORD, Place, verify


@pytest.fixture(scope="session")
def fixtures_of_files(request: pytest.FixtureRequest) -> dict[Path, set[str]]:
    """Return the names of all fixtures that the tests of each file with the shared cloud have."""
    found: dict[Path, set[str]] = {}
    for item in request.session.items:
        # Others have an account or a cloud of their own, which ends with them; a parameter can have a fixture's name.
        if isinstance(item, pytest.Function) and not {"account", "cloud"} & vars(item.module).keys():
            parameters = item.callspec.params.keys() if hasattr(item, "callspec") else set()
            found.setdefault(item.path, set()).update(set(item.fixturenames) - parameters)
    return found


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(request: pytest.FixtureRequest, fixtures_of_files: dict[Path, set[str]]) -> Iterator[None]:
    """Remove the databases and the entries of access.yaml that a file made.

    If it is about localcloud's RDS alone, rdsiam doesn't hear of its databases.
    """
    used = {"account", "databases"} & fixtures_of_files.get(request.path, set())
    if not used:
        yield
        return
    owner = request.getfixturevalue("owner")
    before = Inventory.of(owner)
    owner.hear_of_databases("account" in used)
    yield
    owner.follow_access_yaml(False)
    remove(owner, before)
    owner.hear_of_databases(True)


@pytest.fixture(scope="session")
def place(account) -> dict[str, Any]:
    """Return a database of each engine with one user that is vended to one role."""
    vended, signing, stranger = (account.make_role(f"tokens-{name}") for name in ("vended", "signing", "stranger"))
    for role in (vended, signing, stranger):
        account.let_call_the_api(role)
    arns = {}
    for engine in ("postgres", "mariadb"):
        account.shared.add(f"tokens-{engine}")
        account.declare(
            f"tokens-{engine}",
            {"name": "app", "privileges": "readonly", "on": ["shop"], "callers": [{"role": vended}]},
            {"name": "app2", "privileges": "readonly", "on": ["shop"], "roles": [signing]},
            {
                "name": "oncall",
                "privileges": "owner",
                "on": ["shop"],
                "callers": [{"role": vended, "reason": "required", "until": "2099-01-01T00:00:00Z"}],
            },
            {
                "name": "past",
                "privileges": "owner",
                "on": ["shop"],
                "callers": [{"role": vended, "until": "2020-01-01T00:00:00Z"}],
            },
            # The group's name has a space, which API Gateway's own claims lose.
            {"name": "web", "privileges": "readonly", "on": ["shop"], "callers": [{"claim": {"groups": GROUP}}]},
        )
        arns[engine] = account.create(f"tokens-{engine}", engine)
    for arn in arns.values():
        account.wait_onboarded(arn, 90)
    account.start_afresh("VendFunction")
    return {"vended": vended, "signing": signing, "stranger": stranger, "arns": arns}


@pytest.fixture(scope="session")
def server_root() -> Iterator[Path]:
    """Return the folder of all servers without a cloud, which share what new ones begin with: it is made once."""
    root = folder_for_servers()
    processes.remove_when_we_end(root)
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def make_place(server_root: Path) -> Iterator[Callable[[str], Place]]:
    """Make database servers of their own; all share one certificate authority.

    `postgres` is 18 with an administrator like RDS's, `postgres-vanilla` 18 as it is built, `postgres13` to
    `postgres17` older versions. `mysql` is Oracle's server, `mysql-no-partial` the same with `partial_revokes` off; a
    test that asks for a server is skipped if this machine can't have it.
    `mysql-lower` and `mariadb-lower` keep names of schemas in lower case.
    """
    authority = Authority(server_root / "ca")
    os.environ["RDSIAM_CA"] = authority.pem
    trust.ca_file.cache_clear()
    servers: dict[Path, PostgresServer | MysqlFamilyServer] = {}

    def make(kind: str) -> Place:
        address = ServerAddress.of_localhost()
        directory = server_root / f"{kind}-{address.port}"  # with the port, as a module may have two servers of a kind
        engine, version, server = _server(kind, directory, address, authority)
        servers[directory] = server
        server.start()
        if isinstance(server, PostgresServer) and server.version != int(version.partition(".")[0]):
            pytest.skip(f"PostgreSQL {version} could not be fetched")
        server.set_iam(True)
        database = Database(
            arn=f"arn:aws:rds:eu-west-1:123456789012:db:{kind}",
            identifier=kind,
            engine=engine,
            engine_version=version,
            resource_id="db-X",
            status="available",
            host=server.address.host,
            port=server.address.port,
            iam_enabled=True,
            master_user=MASTER,
            master_secret_arn=f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{kind}",
            default_database="shop",
        )
        return Place(Postgres() if engine == "postgres" else Mysql(), database, server)

    yield make
    for directory, server in servers.items():
        server.stop()
        if directory.exists():
            shutil.rmtree(directory)
    del os.environ["RDSIAM_CA"]
    trust.ca_file.cache_clear()


def _server(
    kind: str, directory: Path, address: ServerAddress, authority: Authority
) -> tuple[str, str, PostgresServer | MysqlFamilyServer]:
    """Return engine, version and server of a kind: see `make_place`."""
    common = (directory, address, MASTER, MASTER_PASSWORD, "shop", authority, verify)
    if not kind.startswith("postgres"):
        engine, version = ("mariadb", "10.11.11") if kind.startswith("mariadb") else ("mysql", "8.4.7")
        if engine == "mysql" and find_mysql() is None:
            pytest.skip(MISSING)
        server = MariadbServer(*common) if engine == "mariadb" else MysqlServer(*common)
        if kind == "mysql-no-partial":
            server.set_parameters({"partial_revokes": "0"})
        if kind.endswith("-lower"):
            server.set_parameters({"lower_case_table_names": "1"})
        return engine, version, server
    number = kind.removeprefix("postgres").removesuffix("-vanilla")
    version = f"{number or 18}.1"
    administrator: Administrator = "vanilla" if kind.endswith("-vanilla") else "rds"
    return "postgres", version, PostgresServer(*common, version=version, administrator=administrator)


@pytest.fixture(scope="session")
def databases(cloud: RunningCloud, eventually: Eventually) -> Databases:
    """RDS of the cloud that all tests share."""
    return Databases(cloud, eventually)


@pytest.fixture(scope="module")
def events(cloud: RunningCloud) -> Iterator[Events]:
    """Return the events of RDS from now on."""
    sqs, bridge, name = cloud.client("sqs"), cloud.client("events"), f"events-{time.monotonic_ns()}"
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bridge.put_rule(Name=name, EventPattern=json.dumps({"source": ["aws.rds"]}))
    bridge.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    yield Events(cloud, queue)
    bridge.remove_targets(Rule=name, Ids=["queue"])
    bridge.delete_rule(Name=name)
