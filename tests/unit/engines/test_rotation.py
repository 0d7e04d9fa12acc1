"""What the engines send in a rotation, where no real server can show it: hashes, and MySQL 8's second passwords."""

import base64
import hashlib
import hmac

import pymysql
import pytest
from psycopg import pq

from rdsiam.engines.mysql.rotation import MysqlRotator, native_hash
from rdsiam.engines.postgres.rotation import PostgresRotator, verifier
from rdsiam.engines.rotation import ChangeFailed, PasswordRejected
from rdsiam.errors import Refused

# RFC 7677, section 3: user "user", password "pencil".
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")


def test_the_verifier_is_that_of_rfc_7677():
    # The server key of the RFC's exchange signs its messages as the RFC says.
    made = verifier("pencil", SALT, 4096)
    assert made.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    stored, server = (base64.b64decode(part) for part in made.split("$")[2].split(":"))
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    message = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}".encode()
    assert base64.b64encode(hmac.digest(server, message, "sha256")) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(stored, message, "sha256")
    client = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(client).digest() == stored


def test_the_native_hash_is_the_servers():
    # SELECT PASSWORD('mariadb') in MariaDB's manual.
    assert native_hash("mariadb") == "*54958E764CE10E50764C2EECBB71D01F08549980"


class Server8:
    """MySQL 8 as far as passwords go: an account has one, and a second one that was retained."""

    def __init__(self, version: str = "8.4.7", may_retain: bool = True) -> None:
        self.version, self.may_retain = version, may_retain
        self.passwords = ["old"]
        self.statements: list[str] = []
        self.rows: list[tuple[object, ...]] = []

    def cursor(self) -> "Server8":
        return self

    def __enter__(self) -> "Server8":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def fetchall(self) -> list[tuple[object, ...]]:
        return self.rows

    def execute(self, statement: str, _: object = None) -> None:
        self.statements.append(statement)
        if statement.startswith("ALTER USER"):
            new = statement.split("BY '")[1].split("'")[0]
            if "RETAIN" in statement and not self.may_retain:
                raise pymysql.err.OperationalError(1227, "Access denied; you need APPLICATION_PASSWORD_ADMIN")
            if new == "weak":
                raise pymysql.err.OperationalError(1819, "Your password does not satisfy the current policy")
            if new == "broken":
                raise pymysql.err.ProgrammingError(1064, "near 'broken-and-repeated'")
            self.passwords = [new, *(self.passwords[:1] if "RETAIN" in statement else [])]
        elif "mysql.user" in statement:
            raise pymysql.err.OperationalError(1142, "SELECT command denied")
        answers: dict[str, list[tuple[object, ...]]] = {
            "SELECT VERSION()": [(self.version,)],
            "SELECT CURRENT_USER()": [("app@%",)],
            "SELECT USER()": [("app@10.0.0.7",)],
            "SELECT GET_LOCK(%s, %s)": [(1,)],
            "SHOW CREATE USER CURRENT_USER()": [
                ("CREATE USER `app`@`%` IDENTIFIED WITH 'caching_sha2_password' AS '$A$005$\n''`x' REQUIRE NONE",)
            ],
        }
        self.rows = answers.get(statement, [])


def test_mysql_8_keeps_the_old_password_and_a_repetition_does_not_lose_it():
    server, engine = Server8(), MysqlRotator()
    for _ in range(2):
        engine.set_own_password(server, "new", lambda: "new" in server.passwords)
    assert server.passwords == ["new", "old"]
    engine.set_own_password(server, "newer", lambda: "newer" in server.passwords)
    assert server.passwords == ["newer", "new"]


@pytest.mark.parametrize(
    "server",
    [Server8("8.0.13"), Server8("5.7.44-log"), Server8(may_retain=False)],
    ids=["an older 8", "5.7", "no right to"],
)
def test_where_the_server_or_its_rights_allow_no_second_password_there_is_one(server):
    MysqlRotator().set_own_password(server, "new", lambda: False)
    assert server.passwords == ["new"]


def test_a_password_against_the_policy_is_told_from_other_failures_and_none_is_repeated():
    with pytest.raises(PasswordRejected, match="1819"):
        MysqlRotator().set_own_password(Server8(), "weak", lambda: False)
    with pytest.raises(ChangeFailed) as failed:
        MysqlRotator().set_own_password(Server8(), "broken", lambda: False)
    assert "broken" not in str(failed.value)
    assert "1064" in str(failed.value)


@pytest.mark.parametrize("engine", [PostgresRotator(), MysqlRotator()], ids=["postgres", "mysql"])
def test_two_users_take_turns_by_name(engine):
    assert engine.clone_name("app") == "app_clone"
    assert engine.clone_name("app_clone") == "app"


def test_a_name_that_postgresql_would_cut_is_refused():
    with pytest.raises(Refused, match="63 bytes"):
        PostgresRotator().clone_name("ä" * 30)


def test_libpq_takes_the_method_that_refuses_clear_text():
    assert pq.version() >= 160000
