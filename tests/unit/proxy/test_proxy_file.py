"""proxy.toml: what it may say, and the line and key of everything else."""

from pathlib import Path

import pytest

from rdsiam.errors import ProxySettingsInvalid
from rdsiam.proxy.contracts import Listener
from rdsiam.proxy.proxy_file import parse, read
from rdsiam.proxy.settings import Settings, check, protection
from tests.unit.proxy.peers import certificate

FILE = Path("/etc/rdsiam/proxy.toml")
WHOLE = """\
max_connections = 500
connections_per_second = 20
login_timeout = 20
drain_timeout = 0.5
health_host = "0.0.0.0"
health_port = 9100
require_password_file = "secret"
certificate = "/tls/server.pem"
key = "server.key"
cut = true

[[database]]
name = "orders"
endpoint = "reader"
user = "app_service"
port = 5432

[[database]]
name = "arn:aws:rds:eu-central-1:123456789012:db:billing"
users = ["app", "etl"]
host = "10.0.0.5"
port = 3306

[[database]]
name = "orders"
socket = "run/.s.PGSQL.5432"
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ProxySettingsInvalid) as error:
        parse(text, FILE)
    assert str(error.value).startswith(f"{FILE}: ")
    return error.value.problems


def test_everything_that_a_file_may_say():
    assert parse(WHOLE, FILE) == Settings(
        listeners=(
            Listener("orders", endpoint="reader", user="app_service", port=5432),
            Listener(
                "arn:aws:rds:eu-central-1:123456789012:db:billing",
                users=frozenset({"app", "etl"}),
                host="10.0.0.5",
                port=3306,
            ),
            Listener("orders", socket=Path("/etc/rdsiam/run/.s.PGSQL.5432")),
        ),
        max_connections=500,
        connections_per_second=20,
        login_timeout=20,
        drain_timeout=0.5,
        health_host="0.0.0.0",  # noqa: S104  as the file says
        health_port=9100,
        password_file=Path("/etc/rdsiam/secret"),
        certificate=Path("/tls/server.pem"),
        key=Path("/etc/rdsiam/server.key"),
        cut=True,
    )


ONE = '[[database]]\nname = "orders"\nport = 5432\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no database is named; one begins with [[database]]"),
        ("cut = true\n", "no database is named"),
        ("max_conections = 5\n" + ONE, "line 1: max_conections: unknown; did you mean max_connections?"),
        (ONE + "prot = 5433\n", "line 4: prot: unknown; did you mean port?"),
        (ONE + "x = 1\n", "line 4: x: unknown; known are name, endpoint, user, users, host, port, socket"),
        ("x = 1\n" + ONE, "line 1: x: unknown; known are max_connections, "),
        (ONE + "cut = true\n", "line 4: cut: unknown here; it is no key of a database: write it above the first [["),
        ('user = "a"\n' + ONE, "line 1: user: unknown here; it is a key of a database, below [[database]]"),
        (ONE.replace("5432", '"5432"'), "line 3: port: must be a whole number from 0 to 65535"),
        (ONE.replace("5432", "65536"), "line 3: port: must be a whole number"),
        (ONE.replace("5432", "true"), "line 3: port: must be a whole number"),
        (ONE.replace("5432", "-1"), "line 3: port: must be a whole number"),
        (ONE.replace("5432", "5432.0"), "line 3: port: must be a whole number"),
        (ONE.replace('"orders"', '""'), "line 2: name: must be a text"),
        (ONE.replace('"orders"', r'"or\u0000ders"'), "line 2: name: must be a text"),
        (ONE.replace('"orders"', "5"), "line 2: name: must be a text"),
        (ONE + "users = []\n", "line 4: users: must be a list of texts"),
        (ONE + 'users = "app"\n', "line 4: users: must be a list of texts"),
        (ONE + 'users = ["app", 5]\n', "line 4: users: must be a list of texts"),
        (ONE + 'user = "a"\nusers = ["b"]\n', "orders: give user or users, not both"),
        (ONE + 'socket = "s"\n', "line 1: database 1: give port or socket"),
        ('\n[[database]]\nname = "orders"\n', "line 2: database 1: give port or socket"),
        ("[[database]]\nport = 1\n", "line 1: database 1: name is missing"),
        ('[[database]]\nname = "o"\nsocket = "s"\nhost = "::1"\n', "line 4: host: a socket has none"),
        ("cut = 1\n" + ONE, "line 1: cut: must be true or false"),
        ("login_timeout = 0\n" + ONE, "line 1: login_timeout: must be a number of seconds from 1 to 3600"),
        ("drain_timeout = inf\n" + ONE, "line 1: drain_timeout: must be a number of seconds"),
        ("drain_timeout = nan\n" + ONE, "line 1: drain_timeout: must be a number of seconds"),
        ("drain_timeout = '5s'\n" + ONE, "line 1: drain_timeout: must be a number of seconds"),
        ("max_connections = 0\n" + ONE, "line 1: max_connections: must be a whole number from 1 to"),
        ("database = 5\n", "line 1: database: each one begins with [[database]]"),
        ("[database]\nname = 'orders'\n", "line 1: database: each one begins with [[database]]"),
        ("database = ['orders']\n", "line 1: database: each one begins with [[database]]"),
        ("cut = \n", "no TOML: Invalid value (at line 1, column 7)"),
        (f"health_port = {'9' * 5000}\n", "no TOML: Exceeds the limit"),
        (f"cut = [{{ a = -{'9' * 4301} }}]\n", "no TOML: Exceeds the limit"),
        (f"health_port = {'9' * 5000}.5\n", "line 1: health_port: must be"),
        ("health_port = 2026-02-30\n", "no TOML"),
        ("cut = true\ncut = true\n", "no TOML: Cannot overwrite a value (at line 2"),
        (ONE + ONE.replace("orders", "other"), "localhost:5432 is given twice"),
        (ONE + ONE.replace("orders", "other") + 'host = "127.0.0.1"\n', "port 5432: localhost includes 127.0.0.1"),
        (ONE + ONE.replace("orders", "other") + 'host = "::1"\n', "port 5432: localhost includes ::1"),
        (ONE.replace("5432", "0") * 2, "orders is named twice"),
        ('health_port = 5432\nhealth_host = "localhost"\n' + ONE, "localhost:5432 is given twice"),
        ('certificate = "c"\n' + ONE, "certificate and key are given together"),
        ('key = "k"\n' + ONE, "certificate and key are given together"),
        ("'\x1b[2J' = 1\n" + ONE, "no TOML"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_everything_else_is_named_by_line_and_key(text, problem):
    found = problems(text)
    assert any(each.startswith(problem) for each in found), found


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "192.168.1.1", "::ffff:10.0.0.5", "db.example"])  # noqa: S104
@pytest.mark.parametrize(
    "given",
    ["", 'require_password_file = "s"\n', 'certificate = "c"\nkey = "k"\n'],
    ids=["nothing", "password", "certificate"],
)
def test_the_network_needs_certificate_key_and_password(host, given):
    found = problems(given + ONE + f'host = "{host}"\n')
    assert found == [
        f"orders: {host} can be reached from other machines: that needs certificate, key and require_password_file"
    ]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_needs_no_protection(host):
    assert parse(ONE + f'host = "{host}"\n', FILE).listeners[0].host == host


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[database]]\nname = "orders"\nprot = 5432\n', "line 3: prot: unknown; did you mean port?"),
        ('[[database]]\nname = "orders"\nPort = 5432\n', "line 3: Port: unknown; did you mean port?"),
        ('[[database]]\nname = "orders"\nsoket = "s"\n', "line 3: soket: unknown; did you mean socket?"),
        ('[[database]]\nnmae = "orders"\nport = 5432\n', "line 2: nmae: unknown; did you mean name?"),
        ('[[databse]]\nname = "orders"\nport = 5432\n', "line 1: databse: unknown; did you mean database?"),
        (f"{ONE}\n[[databases]]\nport = 5433\n", "line 5: databases: unknown; did you mean database?"),
        (f"[[databases]]\nport = 5433\n{ONE}prot = 1\n", "line 1: databases: unknown; did you mean database?"),
    ],
)
def test_one_wrong_key_is_one_problem(text, problem):
    """The key that was meant isn't reported as missing beside it."""
    assert problems(text)[0] == problem
    assert len(problems(text)) == 1 + text.endswith("prot = 1\n")


def test_lines_are_right_below_a_table_with_a_wrong_name():
    assert problems(f"[[databses]]\nport = 5433\n{ONE}prot = 1\n")[1] == "line 6: prot: unknown; did you mean port?"


def test_several_problems_are_reported_at_once():
    assert len(problems('cut = 1\nx = 2\n[[database]]\nport = "a"\n')) == 4


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "not UTF-8"])
def test_a_file_that_can_not_be_read_is_named(tmp_path, content):
    path = tmp_path / "proxy.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProxySettingsInvalid, match=str(path)):
        read(path)


def test_a_byte_order_mark_of_windows_is_no_part_of_the_file(tmp_path):
    path = tmp_path / "proxy.toml"
    path.write_text(ONE, encoding="utf-8-sig")
    assert read(path) == parse(ONE, path)


LOOPBACK = (Listener("orders", port=0),)
NETWORK = (Listener("orders", host="10.0.0.5", port=0),)


def secret_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_private_file_has_the_password(tmp_path, mode, end):
    path = secret_file(tmp_path, b"correct horse" + end, mode)
    assert protection(Settings(LOOPBACK, password_file=path)).secret == b"correct horse"


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (b"correct horse", 0o644, "others can read or change the password (mode 0644); chmod 600"),
        (b"correct horse", 0o604, "others can read or change"),
        (b"correct horse", 0o660, "others can read or change"),
        (b"", 0o600, "not one line"),
        (b"\n", 0o600, "not one line"),
        (b"two\nlines", 0o600, "not one line"),
        (b"nul\0", 0o600, "not one line"),
        (b"x" * 1025, 0o600, "not one line"),
    ],
)
def test_any_other_password_file_is_refused(tmp_path, content, mode, problem):
    path = secret_file(tmp_path, content, mode)
    with pytest.raises(ProxySettingsInvalid) as error:
        protection(Settings(LOOPBACK, password_file=path))
    assert problem in str(error.value)
    assert "horse" not in str(error.value)


@pytest.mark.parametrize("kind", ["missing", "folder", "device"])
def test_a_password_comes_from_a_file(tmp_path, kind):
    path = {"missing": tmp_path / "none", "folder": tmp_path, "device": Path("/dev/zero")}[kind]
    with pytest.raises(ProxySettingsInvalid, match=str(path)):
        protection(Settings(LOOPBACK, password_file=path))


def test_a_short_password_is_refused_on_the_network_only(tmp_path):
    path = secret_file(tmp_path, b"short")
    assert protection(Settings(LOOPBACK, password_file=path)).secret == b"short"
    with pytest.raises(ProxySettingsInvalid, match="too short for the network, at least 16 bytes"):
        protection(Settings(NETWORK, password_file=path))


def test_certificate_and_key_are_loaded_and_checked(tmp_path):
    files, other = certificate(tmp_path / "a"), certificate(tmp_path / "b")
    assert protection(Settings(LOOPBACK, certificate=files.certificate, key=files.key)).tls is not None
    with pytest.raises(ProxySettingsInvalid, match="no certificate and key that belong together"):
        protection(Settings(LOOPBACK, certificate=files.certificate, key=other.key))
    files.key.chmod(0o644)
    with pytest.raises(ProxySettingsInvalid, match="others can read or change the key"):
        protection(Settings(LOOPBACK, certificate=files.certificate, key=files.key))


def test_protected_listeners_may_be_on_the_network(tmp_path):
    check(Settings(NETWORK, password_file=tmp_path, certificate=tmp_path, key=tmp_path))


def test_a_secret_is_in_no_repr(tmp_path):
    assert "horse" not in repr(protection(Settings(LOOPBACK, password_file=secret_file(tmp_path, b"correct horse"))))
