"""The database servers, for real: who gets in, who does not, and that nothing is left behind."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pymysql
import pytest

from localcloud.core import processes
from localcloud.core.certificates import Authority
from localcloud.databases.servers.mariadb import MariadbServer
from localcloud.databases.servers.mysql import MysqlServer
from localcloud.databases.servers.postgres import PostgresServer
from localcloud.databases.servers.server import ServerAddress
from localcloud.databases.token_verifier import LoginRefused, Reason
from tests.ground import folder_for_servers
from tests.kinds import MYSQL, needs_mysql

MASTER, PASSWORD = "postgres", "it's %s a \\ password"
# As long as tokens with a session token are, and longer than many a buffer.
TOKEN = "token-of-app/?" + "x" * 2000


def verify(user: str, token: str, tls: bool) -> None:
    if not (tls and user == "app" and token == TOKEN):
        raise LoginRefused(Reason.WRONG_SIGNATURE)


class Cloud:
    """A directory that `nobody` can enter, and a certificate authority."""

    def __init__(self) -> None:
        self.root = folder_for_servers()
        processes.remove_when_we_end(self.root)
        self.authority = Authority(self.root / "ca")

    def make(self, kind, name, verify=verify):
        return kind(
            self.root / name,
            ServerAddress.of_localhost(),
            MASTER,
            PASSWORD,
            "shop",
            self.authority,
            verify,
        )


@pytest.fixture(scope="module")
def cloud():
    cloud = Cloud()
    yield cloud
    shutil.rmtree(cloud.root)


@pytest.fixture(scope="module")
def postgres(cloud):
    server = cloud.make(PostgresServer, "pg")
    server.start()
    with to_postgres(server, MASTER, PASSWORD) as master:
        assert not master.execute("SELECT 1 FROM pg_roles WHERE rolname = 'rds_iam'").fetchone()
        server.set_iam(True)
        master.execute("CREATE ROLE app LOGIN")
        master.execute("GRANT rds_iam TO app")
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["mariadb", MYSQL])
def mysql(cloud, request):
    """Return a server of MariaDB, and one of MySQL."""
    server = cloud.make(MariadbServer if request.param == "mariadb" else MysqlServer, request.param)
    server.start()
    with to_mysql(server, MASTER, PASSWORD) as master, master.cursor() as cursor:
        with pytest.raises(pymysql.OperationalError, match="1524"):
            cursor.execute(CREATE_IAM_USER)
        server.set_iam(True)
        cursor.execute(CREATE_IAM_USER)
    yield server
    server.stop()


CREATE_IAM_USER = "CREATE USER app@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL"


def to_postgres(server, user, password, dbname="shop", **options):
    tls = {"sslmode": "verify-full", "sslrootcert": str(server._authority.path)}
    return psycopg.connect(
        host="localhost", port=server.address.port, user=user, password=password, dbname=dbname, autocommit=True,
        connect_timeout=10, **tls | options,
    )  # fmt: skip


def to_mysql(server, user, password, tls=True, database="shop"):
    context = ssl.create_default_context(cafile=server._authority.path) if tls else None
    return pymysql.connect(
        host="localhost", port=server.address.port, user=user, password=password, database=database, ssl=context,
        ssl_disabled=not tls, autocommit=True,
    )  # fmt: skip


def refused_by_postgres(server, user, password, **options):
    with pytest.raises(psycopg.OperationalError) as refused:
        to_postgres(server, user, password, **options)
    return str(refused.value)


def refused_by_mysql(server, user, password, **options):
    with pytest.raises(pymysql.OperationalError) as refused:
        to_mysql(server, user, password, **options)
    return refused.value.args[0]


WRONG_TOKENS = [TOKEN[:-1], TOKEN + "x", "password", TOKEN.swapcase(), "x" * 60_000, "tökén"]
wrong_tokens = pytest.mark.parametrize("token", WRONG_TOKENS, ids=lambda token: f"{token[:8]}, {len(token)}")


def test_postgres_lets_the_master_in_by_password(postgres):
    with to_postgres(postgres, MASTER, PASSWORD, require_auth="scram-sha-256") as master:
        assert master.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
        owners = "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = current_user ORDER BY 1"
        assert master.execute(owners).fetchall() == [("postgres",), ("shop",), ("template1",)]


def test_postgres_lets_an_iam_user_in_by_token(postgres):
    with to_postgres(postgres, "app", TOKEN, require_auth="password") as app:
        assert app.execute("SELECT current_user").fetchone() == ("app",)


@wrong_tokens
def test_postgres_refuses_a_wrong_token(postgres, token):
    assert 'PAM authentication failed for user "app"' in refused_by_postgres(postgres, "app", token)


def test_postgres_refuses_a_wrong_password(postgres):
    assert "password authentication failed" in refused_by_postgres(postgres, MASTER, "wrong")
    assert "password authentication failed" in refused_by_postgres(postgres, "nobody", TOKEN)


@pytest.mark.parametrize(("user", "password"), [(MASTER, PASSWORD), ("app", TOKEN)])
def test_postgres_refuses_plain_text(postgres, user, password):
    assert "no encryption" in refused_by_postgres(postgres, user, password, sslmode="disable", sslrootcert="")


def test_postgres_refuses_its_own_administrator_and_database(postgres):
    assert "rejects connection" in refused_by_postgres(postgres, "rdsadmin", "any")
    assert "rejects connection" in refused_by_postgres(postgres, MASTER, PASSWORD, dbname="rdsadmin")


def test_postgres_refuses_replication(postgres):
    assert "replication" in refused_by_postgres(postgres, "app", TOKEN, replication="database")


def test_postgres_refuses_a_name_that_it_would_cut_to_another(postgres):
    assert "rejects connection" in refused_by_postgres(postgres, "a" * 64, TOKEN)


def test_the_master_is_not_caught_by_the_rule_for_iam_users(postgres):
    with to_postgres(postgres, MASTER, PASSWORD) as master:
        assert master.execute("SELECT pg_has_role('rds_iam', 'MEMBER')").fetchone() == (False,)


def test_a_master_who_becomes_an_iam_user_needs_a_token_as_on_rds(postgres):
    with to_postgres(postgres, MASTER, PASSWORD) as master:
        master.execute("CREATE ROLE caught IN ROLE rds_iam")
        master.execute("GRANT caught TO CURRENT_USER")
        try:
            assert "PAM authentication failed" in refused_by_postgres(postgres, MASTER, PASSWORD)
        finally:
            master.execute("DROP ROLE caught")
    to_postgres(postgres, MASTER, PASSWORD).close()


def test_the_master_of_vanilla_postgresql_administers_rds_iam_and_is_not_caught_by_its_rule(cloud):
    server = PostgresServer(
        cloud.root / "vanilla", ServerAddress.of_localhost(), MASTER, PASSWORD, "shop", cloud.authority, verify,
        administrator="vanilla",
    )  # fmt: skip
    server.start()
    server.set_iam(True)
    with to_postgres(server, MASTER, PASSWORD) as master:
        granted = (
            "SELECT admin_option, inherit_option, set_option FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid"
        )
        options = master.execute(f"{granted} WHERE rolname = 'rds_iam' AND member = current_user::regrole").fetchall()
    server.stop()
    assert options == [(True, False, False)]


def test_postgres_carries_large_results_and_cancels(postgres):
    with to_postgres(postgres, "app", TOKEN) as app:
        rows = app.execute("SELECT repeat('x', 1000) FROM generate_series(1, 20000)").fetchall()
        assert len(rows) == 20_000
        with ThreadPoolExecutor(1) as pool:
            sleeping = pool.submit(app.execute, "SELECT pg_sleep(30)")
            time.sleep(0.2)
            app.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                sleeping.result()


def test_postgres_serves_many_clients_at_once(postgres):
    def log_in(_):
        with to_postgres(postgres, "app", TOKEN) as app:
            return app.execute("SELECT 1").fetchone()

    with ThreadPoolExecutor(30) as pool:
        assert list(pool.map(log_in, range(60))) == [(1,)] * 60


@pytest.mark.parametrize(
    "packet",
    [
        struct.pack("!II", 10_001, 196608),
        struct.pack("!II", 4, 196608),
        struct.pack("!II", 8, 80877103) + b"injected",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["too long", "too short", "bytes before TLS", "HTTP"],
)
def test_postgres_closes_connections_of_other_protocols(postgres, packet):
    with socket.create_connection(("localhost", postgres.address.port), timeout=5) as client:
        client.sendall(packet)
        assert client.recv(100) in {b"", b"S"}


def test_a_client_that_leaves_leaves_nothing_behind(postgres):
    app = to_postgres(postgres, "app", TOKEN)
    pid = app.info.backend_pid
    os.close(app.fileno())
    with to_postgres(postgres, MASTER, PASSWORD) as master:
        for _ in range(100):
            if not master.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
                return
            time.sleep(0.02)
    pytest.fail("the session is still there")


def test_mysql_lets_the_master_in_by_password_and_gives_no_superuser(mysql):
    with to_mysql(mysql, MASTER, PASSWORD) as master, master.cursor() as cursor:
        cursor.execute("SHOW GRANTS")
        assert " SUPER" not in str(cursor.fetchall())
        with pytest.raises(pymysql.OperationalError, match="1227"):
            cursor.execute("SET GLOBAL max_connections = 5")


def test_mysql_has_no_accounts_but_those_of_rds(mysql):
    with to_mysql(mysql, MASTER, PASSWORD) as master, master.cursor() as cursor:
        cursor.execute("SELECT user, host FROM mysql.user WHERE user <> 'app' ORDER BY user")
        accounts = cursor.fetchall()
    own = ["mariadb.sys"] if isinstance(mysql, MariadbServer) else ["mysql.infoschema", "mysql.session", "mysql.sys"]
    roles = [] if isinstance(mysql, MariadbServer) else [("rds_superuser_role", "%")]
    expected = [*((name, "localhost") for name in own), (MASTER, "%"), ("rdsadmin", "localhost"), *roles]
    assert sorted(accounts) == sorted(expected)


@needs_mysql
def test_the_master_of_mysql_writes_nothing_in_the_systems_schemas(cloud):
    server = cloud.make(MysqlServer, "restricted")
    server.start()
    with to_mysql(server, MASTER, PASSWORD) as master, master.cursor() as cursor:
        for statement in ("DELETE FROM mysql.db", "CREATE TABLE sys.t (id int)", "UPDATE mysql.user SET user = 'x'"):
            with pytest.raises((pymysql.OperationalError, pymysql.ProgrammingError), match="denied"):
                cursor.execute(statement)
        cursor.execute("SHOW GLOBAL VARIABLES LIKE 'partial_revokes'")
        assert cursor.fetchone() == ("partial_revokes", "ON")
        other = to_mysql(server, MASTER, PASSWORD)
        cursor.execute("CALL mysql.rds_kill(%s)", [other.thread_id()])
        with pytest.raises(pymysql.OperationalError):
            other.ping(reconnect=False)
    server.stop()


@needs_mysql
def test_mysql_has_partial_revokes_and_the_case_of_names_as_its_first_parameters_say(cloud):
    server = cloud.make(MysqlServer, "parameters")
    server.set_parameters({"partial_revokes": "0", "lower_case_table_names": "1"})
    server.start()
    with to_mysql(server, MASTER, PASSWORD) as master, master.cursor() as cursor:
        cursor.execute("SELECT @@partial_revokes, @@lower_case_table_names")
        assert cursor.fetchone() == (0, 1)
    server.set_parameters({"partial_revokes": "1"})
    server.stop()
    server.start()
    with to_mysql(server, MASTER, PASSWORD) as master, master.cursor() as cursor:
        cursor.execute("SELECT @@partial_revokes")
        assert cursor.fetchone() == (1,)
    server.stop()


def test_mysql_lets_an_iam_user_in_by_token(mysql):
    with to_mysql(mysql, "app", TOKEN, database=None) as app, app.cursor() as cursor:
        cursor.execute("SELECT current_user()")
        assert cursor.fetchone() == ("app@%",)


@pytest.mark.parametrize("token", [*WRONG_TOKENS, TOKEN + "\0", TOKEN + "\0x", "\0", ""], ids=lambda token: token[-2:])
def test_mysql_refuses_a_wrong_token(mysql, token):
    assert refused_by_mysql(mysql, "app", token, database=None) == 1045


def test_mysql_refuses_a_token_without_tls(mysql):
    assert refused_by_mysql(mysql, "app", TOKEN, tls=False, database=None) == 1045


@pytest.mark.parametrize("user", ["root", "", "rdsadmin", "mariadb.sys", "mysql.sys"])
def test_mysql_refuses_system_users(mysql, user):
    assert refused_by_mysql(mysql, user, "") == 1045


def test_mysql_refuses_everybody_when_nobody_verifies(mysql):
    mysql._verifier.close()
    try:
        assert refused_by_mysql(mysql, "app", TOKEN, database=None) == 1045
    finally:
        mysql._verifier = type(mysql._verifier)(mysql._verifier.path, verify)


@pytest.mark.parametrize("answer", [b"", b"OK", b"OK\nx", b"NO\n", b"O"], ids=repr)
def test_mysql_takes_nothing_but_the_whole_answer_for_a_yes(mysql, answer):
    path = mysql._verifier.path
    mysql._verifier.close()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        processes.give_to_nobody(path)
        listener.listen()

        def reply():
            connection, _ = listener.accept()
            with connection:
                connection.recv(100_000)
                connection.sendall(answer)

        with ThreadPoolExecutor(1) as pool:
            replied = pool.submit(reply)
            code = refused_by_mysql(mysql, "app", TOKEN, database=None)
            replied.result()
    mysql._verifier = type(mysql._verifier)(path, verify)

    assert code == 1045


def test_iam_off_again_refuses_tokens_of_postgres(postgres):
    postgres.set_iam(False)
    try:
        assert "password authentication failed" in refused_by_postgres(postgres, "app", TOKEN)
    finally:
        postgres.set_iam(True)


def test_iam_off_again_refuses_tokens_of_mysql(mysql):
    mysql.set_iam(False)
    try:
        assert refused_by_mysql(mysql, "app", TOKEN, database=None) == 1524
    finally:
        mysql.set_iam(True)


@pytest.mark.parametrize(
    ("kind", "connect"),
    [(PostgresServer, to_postgres), (MariadbServer, to_mysql), pytest.param(MysqlServer, to_mysql, marks=needs_mysql)],
)
def test_a_restart_keeps_data_users_and_the_new_password(cloud, kind, connect):
    server = cloud.make(kind, f"restarted-{kind.__name__}")
    server.start()
    server.set_iam(True)
    with connect(server, MASTER, PASSWORD) as master:
        master.cursor().execute("CREATE TABLE kept (id int)")
        if kind is PostgresServer:
            master.cursor().execute("CREATE ROLE app LOGIN; GRANT rds_iam TO app")
        else:
            master.cursor().execute(CREATE_IAM_USER)
            master.cursor().execute("GRANT SELECT ON shop.* TO app")
    server.set_master_password("another")
    idle = connect(server, MASTER, "another")
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5
    with pytest.raises((psycopg.OperationalError, pymysql.OperationalError)):
        idle.cursor().execute("SELECT 1")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.address.port), timeout=1)
    assert not running(server._directory)

    server.start()
    with connect(server, MASTER, "another") as master:
        master.cursor().execute("SELECT * FROM kept")
    connect(server, "app", TOKEN).close()
    server.stop()
    assert not running(server._directory)


@pytest.mark.parametrize(
    "kinds", ["PostgresServer, MariadbServer", pytest.param("MysqlServer", marks=[needs_mysql, pytest.mark.exhaustive])]
)
def test_servers_and_data_go_with_the_process_that_started_them(kinds):
    program = f"""
import sys, time
from tests.integration.localcloud.test_servers import Cloud, {kinds}
cloud = Cloud()
for kind in ({kinds},):
    cloud.make(kind, kind.__name__).start()
print(cloud.root, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        root = Path(parent.stdout.readline().strip())
        assert len(running(root)) >= len(kinds.split())
        parent.kill()
    deadline = time.monotonic() + 4
    while (root.exists() or running(root)) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert not root.exists()
    assert not running(root)


def running(directory: Path) -> list[str]:
    """Return the command lines of processes that name or work in `directory`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(directory) in command or directory in Path(process / "cwd").readlink().parents:
                found.append(command)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found
