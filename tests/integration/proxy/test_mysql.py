"""MySQL's engine of the proxy with real servers and clients that know nothing of tokens."""

import asyncio
import shutil
import signal
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import aiomysql
import mysql.connector
import MySQLdb
import pymysql
import pymysql.constants.CLIENT
import pytest

from localcloud.core.cache import folder
from localcloud.core.certificates import Authority
from localcloud.databases.servers.mysql_programs import find_mysql
from rdsiam.proxy.mysql.engine import MySQLEngine
from rdsiam.tokens import trust
from tests.integration.proxy.bare_proxy import StubUpstream, running_proxy
from tests.kinds import MYSQL_FAMILY, needs_mysql

MIB = 2**20
SECRET = "a shared secret of 'quotes' and \\ "


@pytest.fixture(scope="module", params=MYSQL_FAMILY)
def server(request, make_place):
    place = make_place(request.param)
    with place.as_rdsadmin() as rdsadmin:
        rdsadmin.run("CREATE USER app@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL")
        rdsadmin.run("GRANT ALL ON shop.* TO app@'%'")
        rdsadmin.run("CREATE USER human@'%' IDENTIFIED BY 'a password of a human'")
        rdsadmin.run("SET GLOBAL local_infile = ON")
        rdsadmin.run(f"SET GLOBAL max_allowed_packet = {64 * MIB}")
        rdsadmin.run("CREATE TABLE shop.lines (line LONGTEXT)")
    return place


@pytest.fixture
def upstream(server):
    return StubUpstream("localhost", trust.ca_file(), [("127.0.0.1", server.database.port)])


@pytest.fixture
def proxy(upstream):
    with running_proxy(upstream, engine=MySQLEngine()) as proxy:
        yield proxy


def connect(proxy, user="app", password="", **more):
    return pymysql.connect(
        host="127.0.0.1", port=proxy.port, user=user, password=password, database="shop", connect_timeout=20,
        autocommit=True, **more,
    )  # fmt: skip


def ask(connection, statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


# Clients. Each logs in, asks who it is and which connection it has, and returns the answer.


def oracle_program():
    """Return the beginning of the command of Oracle's own client."""
    found = shutil.which("mysql")
    if found and "MariaDB" not in subprocess.run([found, "--version"], capture_output=True, text=True).stdout:
        return [found]
    home = folder() / "mysql"
    (loader,) = home.glob("usr/lib*/ld-linux*.so.*")
    (libraries,) = home.glob("usr/lib/*-linux-gnu*")
    return [str(loader), "--library-path", str(libraries), str(home / "usr/bin/mysql")]


def mariadb_program():
    return [shutil.which("mariadb")]


def program(command, port, password, *more, statement="SELECT CURRENT_USER(), CONNECTION_ID()"):
    return subprocess.run(
        [*command, "--no-defaults", "--protocol=tcp", "-h127.0.0.1", f"-P{port}", "-uapp", "shop", "-NB",
         *([f"-p{password}"] if password else []), *more, "-e", statement],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def by_program(command):
    def ask_program(port, password):
        result = program(command(), port, password)
        assert result.returncode == 0, result.stderr
        user, number = result.stdout.split()
        return user, int(number)

    return ask_program


def by_driver(driver, **more):
    def ask_driver(port, password):
        connection = driver.connect(host="127.0.0.1", port=port, user="app", password=password, database="shop", **more)
        cursor = connection.cursor()
        cursor.execute("SELECT CURRENT_USER(), CONNECTION_ID()")
        (answer,) = cursor.fetchall()
        connection.close()
        return answer

    return ask_driver


def by_aiomysql(port, password):
    async def ask_it():
        connection = await aiomysql.connect(host="127.0.0.1", port=port, user="app", password=password, db="shop")
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT CURRENT_USER(), CONNECTION_ID()")
            (answer,) = await cursor.fetchall()
        connection.close()
        return answer

    return asyncio.run(ask_it())


CLIENTS = {
    "mysql": pytest.param(by_program(oracle_program), marks=needs_mysql),
    "mariadb": by_program(mariadb_program),
    "pymysql": by_driver(pymysql),
    "mysqlclient": by_driver(MySQLdb),
    "connector-python": by_driver(mysql.connector),
    "connector-python-native": by_driver(mysql.connector, auth_plugin="mysql_native_password"),
    "aiomysql": by_aiomysql,
}


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("password", ["", pytest.param("any", marks=pytest.mark.exhaustive)])
def test_clients_log_in_whatever_their_password(proxy, client, password):
    user, number = client(proxy.port, password)
    assert user == "app@%"
    assert number > 0


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_clients_log_in_by_a_shared_secret_and_not_without(upstream, client):
    with running_proxy(upstream, engine=MySQLEngine(), secret=SECRET.encode()) as proxy:
        assert client(proxy.port, SECRET)[0] == "app@%"
        for wrong in ("", "wrong"):
            with pytest.raises(Exception, match="rdsiam proxy asks for its own password"):
                client(proxy.port, wrong)


@pytest.mark.parametrize("user", ["human", "nobody_at_all"])
def test_the_user_of_a_password_gets_no_token_and_a_reason(proxy, user):
    reason = f"1045.*{user}.*asks for no token.*rdsiam doctor orders {user}"
    with pytest.raises(pymysql.OperationalError, match=reason):
        connect(proxy, user)


def test_an_error_of_the_server_keeps_its_number_and_state(proxy):
    with pytest.raises(pymysql.OperationalError) as caught:
        pymysql.connect(host="127.0.0.1", port=proxy.port, user="app", database="nowhere")
    assert caught.value.args[0] in (1044, 1049)


def test_a_refused_token_is_told_as_the_server_tells_it(upstream):
    upstream.make_token = "expired-token-of-{}".format
    upstream.sentence = "doctor's sentence"
    with (
        running_proxy(upstream, engine=MySQLEngine()) as proxy,
        pytest.raises(pymysql.OperationalError, match=r"1045.*Access denied for user 'app'@.*doctor's sentence"),
    ):
        connect(proxy)


def test_the_number_of_the_connection_is_the_server_s_so_a_statement_can_be_cancelled(proxy):
    with connect(proxy) as busy, connect(proxy) as other, ThreadPoolExecutor() as pool:
        start = time.monotonic()
        sleeping = pool.submit(ask, busy, "SELECT SLEEP(60)")
        while not sleeping.done():
            ask(other, f"KILL QUERY {busy.thread_id()}")
            time.sleep(0.1)
        assert time.monotonic() - start < 30
        # MariaDB ends with an error, MySQL with a row.
        assert sleeping.exception() is not None or sleeping.result() == ((1,),)


@pytest.mark.parametrize("command", [pytest.param(oracle_program, marks=needs_mysql), mariadb_program])
def test_ctrl_c_of_the_programs_ends_the_statement(proxy, command):
    with subprocess.Popen(
        [*command(), "--no-defaults", "--protocol=tcp", "-h127.0.0.1", f"-P{proxy.port}", "-uapp", "-e",
         "SELECT 'begun'; SELECT SLEEP(60)", "--unbuffered"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline()
        time.sleep(0.5)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("driver", [MySQLdb, mysql.connector], ids=["mysqlclient", "connector-python"])
def test_a_change_of_the_user_is_refused_and_the_connection_goes_on(proxy, driver):
    connection = driver.connect(host="127.0.0.1", port=proxy.port, user="app", database="shop")
    change = connection.change_user if driver is MySQLdb else connection.cmd_change_user
    with pytest.raises(driver.Error, match=r"1045.*rdsiam proxy keeps the user of a connection"):
        change("human", "a password of a human", "shop")
    connection.close()
    if driver is MySQLdb:
        return
    connection = driver.connect(host="127.0.0.1", port=proxy.port, user="app", database="shop")
    with pytest.raises(driver.Error, match="1045"):
        connection.cmd_change_user("human", "a password of a human", "shop")
    cursor = connection.cursor()
    cursor.execute("SELECT CURRENT_USER()")
    assert cursor.fetchall() == [("app@%",)]
    connection.close()


@pytest.mark.parametrize("padding", [200_000, pytest.param(17 * MIB, marks=pytest.mark.exhaustive)])
def test_a_long_change_of_the_user_is_refused_as_a_short_one_is(proxy, padding):
    """Servers take it, whatever is behind the names."""
    with connect(proxy) as connection:
        rest, number, sent = b"\x11human\0\0\0\x2d\0mysql_native_password\0" + bytes(padding), 0, b""
        while rest:
            part, rest = rest[:0xFFFFFF], rest[0xFFFFFF:]
            sent += len(part).to_bytes(3, "little") + bytes((number,)) + part
            number += 1
        connection._write_bytes(sent)
        connection._next_seq_id = 1
        with pytest.raises(pymysql.OperationalError, match=r"1045.*rdsiam proxy keeps the user"):
            connection._read_packet()
        assert ask(connection, "SELECT CURRENT_USER()") == (("app@%",),)


def test_a_session_can_be_reset(proxy):
    connection = mysql.connector.connect(host="127.0.0.1", port=proxy.port, user="app", database="shop")
    cursor = connection.cursor()
    cursor.execute("SET @kept = 1")
    connection.cmd_reset_connection()
    cursor.execute("SELECT @kept")
    assert cursor.fetchall() == [(None,)]
    connection.close()


def test_prepared_statements_and_several_results(proxy):
    connection = mysql.connector.connect(host="127.0.0.1", port=proxy.port, user="app", database="shop")
    cursor = connection.cursor(prepared=True)
    for number in range(3):
        cursor.execute("SELECT %s + 1", (number,))
        assert cursor.fetchall() == [(number + 1,)]
    cursor.close()
    connection.close()
    flags = pymysql.constants.CLIENT.MULTI_STATEMENTS
    with connect(proxy, client_flag=flags) as several, several.cursor() as cursor:
        cursor.execute("SELECT 1; SELECT 2; DO 3; SELECT 4")
        results = [cursor.fetchall()]
        while cursor.nextset():
            results.append(cursor.fetchall())
    assert [list(rows) for rows in results] == [[(1,)], [(2,)], [], [(4,)]]


def test_a_file_of_more_packets_than_numbers_is_loaded_as_it_is(proxy, tmp_path):
    """Each packet begins with the byte of a command that the proxy refuses."""
    path = tmp_path / "lines"
    line = b"\x11" + b"x" * 8190 + b"\n"
    path.write_bytes(line * 2000)  # PyMySQL sends 16,384 bytes in a packet
    with connect(proxy, local_infile=True) as connection:
        ask(connection, "TRUNCATE shop.lines")
        ask(connection, f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE shop.lines CHARACTER SET latin1")
        assert ask(connection, "SELECT COUNT(*), SUM(LENGTH(line)), MIN(ORD(line)) FROM shop.lines") == (
            (2000, 2000 * 8191, 0x11),
        )


def test_a_file_that_begins_at_number_0_is_loaded_as_it_is(proxy, tmp_path):
    """The numbers of 255 packets of an answer are used up before the file is asked for."""
    path = tmp_path / "lines"
    path.write_bytes(b"\x11bob\0 is no command\n" * 3000)
    rows = " UNION ALL ".join(["SELECT 1"] * 250)  # with four more packets
    flags = pymysql.constants.CLIENT.MULTI_STATEMENTS
    with connect(proxy, local_infile=True, client_flag=flags) as connection:
        ask(connection, "TRUNCATE shop.lines")
        with connection.cursor() as cursor:
            cursor.execute(f"{rows}; LOAD DATA LOCAL INFILE '{path}' INTO TABLE shop.lines CHARACTER SET latin1")
            assert len(cursor.fetchall()) == 250
            assert cursor.nextset()
        assert ask(connection, "SELECT COUNT(*) FROM shop.lines") == ((3000,),)


def test_the_refusal_of_a_change_of_the_user_comes_in_its_turn(proxy):
    def command(payload):
        return len(payload).to_bytes(3, "little") + b"\0" + payload

    with connect(proxy) as connection:
        connection._write_bytes(
            command(b"\x03DO SLEEP(0.2)") + command(b"\x11human\0\0shop\0\x2d\0") + command(b"\x0e")
        )
        answers = []
        for _ in range(3):
            connection._next_seq_id = 1
            try:
                answers.append(connection._read_packet().is_ok_packet())
            except pymysql.OperationalError as error:
                answers.append(error.args[0])
        assert answers == [True, 1045, True]
        assert ask(connection, "SELECT CURRENT_USER()") == (("app@%",),)


def test_clients_log_in_over_tls_of_the_proxy(upstream, tmp_path):
    authority = Authority(tmp_path)
    files = authority.issue(tmp_path, ["localhost"])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    with running_proxy(upstream, engine=MySQLEngine(), secret=SECRET.encode(), tls=tls, tls_required=True) as proxy:
        ca = str(authority.path)
        connection = pymysql.connect(
            host="localhost", port=proxy.port, user="app", password=SECRET, ssl_ca=ca, ssl_verify_identity=True
        )
        assert ask(connection, "SELECT CURRENT_USER()") == (("app@%",),)
        connection.close()
        programs = [[*mariadb_program(), "--no-defaults", "--ssl-verify-server-cert"]]
        if find_mysql() is not None:
            programs.append([*oracle_program(), "--no-defaults", "--ssl-mode=VERIFY_IDENTITY"])
        for program in programs:
            command = [*program, f"--ssl-ca={ca}", "--protocol=tcp", "-hlocalhost", f"-P{proxy.port}", "-uapp"]
            result = subprocess.run(
                [*command, f"-p{SECRET}", "-NBe", "SELECT CURRENT_USER()"], capture_output=True, text=True, timeout=60
            )
            assert result.stdout == "app@%\n", result.stderr
        with pytest.raises(pymysql.OperationalError, match="3159"):
            pymysql.connect(host="127.0.0.1", port=proxy.port, user="app", password=SECRET, ssl_disabled=True)


def test_clients_log_in_through_a_unix_socket(upstream, tmp_path):
    path = tmp_path / "s"
    with running_proxy(upstream, engine=MySQLEngine(), path=path, secret=b"secret"):
        with pymysql.connect(unix_socket=str(path), user="app", password="secret") as connection:
            assert ask(connection, "SELECT CURRENT_USER()") == (("app@%",),)
        command = [*mariadb_program(), "--no-defaults", f"--socket={path}", "-uapp", "-psecret"]
        result = subprocess.run([*command, "-NBe", "SELECT 1"], capture_output=True, text=True, timeout=60)
        assert result.stdout == "1\n", result.stderr


@pytest.mark.parametrize("command", [pytest.param(oracle_program, marks=needs_mysql), mariadb_program])
def test_the_programs_load_files(proxy, tmp_path, command):
    path = tmp_path / "lines"
    path.write_text("a line\n" * 300_000)
    statement = (
        f"TRUNCATE shop.lines; LOAD DATA LOCAL INFILE '{path}' INTO TABLE shop.lines; SELECT COUNT(*) FROM shop.lines"
    )
    result = program(command(), proxy.port, "", "--local-infile=1", statement=statement)
    assert result.stderr == ""
    assert result.stdout == "300000\n"


@pytest.mark.parametrize(
    "size", [16 * MIB - 1, *(pytest.param(size * MIB, marks=pytest.mark.exhaustive) for size in (15, 20, 40))]
)
def test_long_packets_pass_both_ways(proxy, size):
    with connect(proxy, max_allowed_packet=64 * MIB) as connection:
        text = "\x11" + "y" * size
        assert ask(connection, f"SELECT LENGTH('{text}')") == ((size + 1,),)
        ((answer,),) = ask(connection, f"SELECT REPEAT('z', {size})")
        assert answer == "z" * size
        assert ask(connection, "SELECT 1") == ((1,),)
