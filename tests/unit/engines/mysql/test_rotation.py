"""Rotation on MySQL that no real server of the tests can show: hashes, and MySQL 8's second passwords."""

from collections.abc import Callable
from typing import cast

import pymysql
import pytest

from rdsiam.engines.connection import MysqlSession
from rdsiam.engines.mysql.rotation import MysqlRotator, native_hash
from rdsiam.engines.rotation import ChangeFailed, PasswordRejected


def test_the_native_hash_equals_that_of_the_server():
    # SELECT PASSWORD('mariadb') in MariaDB's manual.
    assert native_hash("mariadb") == "*54958E764CE10E50764C2EECBB71D01F08549980"


class Server8:
    """Passwords of MySQL 8: an account has one, and a second that was retained."""

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


def set_own_password(server: Server8, password: str, pending_works: Callable[[], bool] = lambda: False) -> None:
    MysqlRotator().set_own_password(cast("MysqlSession", server), password, pending_works)


def test_mysql_8_keeps_the_old_password_also_after_a_repetition():
    server = Server8()
    for _ in range(2):
        set_own_password(server, "new", lambda: "new" in server.passwords)
    assert server.passwords == ["new", "old"]
    set_own_password(server, "newer", lambda: "newer" in server.passwords)
    assert server.passwords == ["newer", "new"]


@pytest.mark.parametrize(
    "server",
    [Server8("8.0.13"), Server8("5.7.44-log"), Server8(may_retain=False)],
    ids=["an older 8", "5.7", "no right to"],
)
def test_an_account_has_one_password_if_the_server_or_its_rights_permit_no_second(server):
    set_own_password(server, "new")
    assert server.passwords == ["new"]


def test_a_rejected_password_has_its_own_error_and_no_error_contains_the_statement():
    with pytest.raises(PasswordRejected, match="1819"):
        set_own_password(Server8(), "weak")
    with pytest.raises(ChangeFailed) as failed:
        set_own_password(Server8(), "broken")
    assert "broken" not in str(failed.value)
    assert "1064" in str(failed.value)
