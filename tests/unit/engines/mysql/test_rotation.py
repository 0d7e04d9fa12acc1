"""Rotation on MySQL that no real server of the tests can show: hashes, and MySQL 8's second passwords."""

from collections.abc import Callable
from typing import cast

import pymysql
import pytest

from rdsiam.engines.mysql.connection import MysqlSession
from rdsiam.engines.mysql.passwords import native_hash
from rdsiam.engines.mysql.rotation import MysqlRotator
from rdsiam.engines.rotation import ChangeFailed, PasswordRejected


def test_the_native_hash_equals_that_of_the_server():
    # SELECT PASSWORD('mariadb') in MariaDB's manual.
    assert native_hash("mariadb") == "*54958E764CE10E50764C2EECBB71D01F08549980"


class Server8:
    """Passwords of MySQL 8: an account has one, and a second that was retained."""

    def __init__(
        self, version: str = "8.4.7", may_retain: bool = True, needs_current: bool = False, options: str = ""
    ) -> None:
        self.version, self.may_retain, self.needs_current, self.options = version, may_retain, needs_current, options
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
            if self.needs_current and f"REPLACE '{self.passwords[0]}'" not in statement:
                raise pymysql.err.OperationalError(3892, "Current password needs to be specified in the REPLACE clause")
            if "RETAIN" in statement and not self.may_retain:
                raise pymysql.err.OperationalError(1227, "Access denied; you need APPLICATION_PASSWORD_ADMIN")
            if new == "weak":
                raise pymysql.err.OperationalError(1819, "Your password does not satisfy the current policy")
            if new == "broken":
                raise pymysql.err.ProgrammingError(1064, "near 'broken-and-repeated'")
            # Without RETAIN, a second password stays as it is.
            self.passwords = [new, *(self.passwords[:1] if "RETAIN" in statement else self.passwords[1:])]
        elif "mysql.user" in statement:
            raise pymysql.err.OperationalError(1142, "SELECT command denied")
        answers: dict[str, list[tuple[object, ...]]] = {
            "SELECT VERSION()": [(self.version,)],
            "SELECT CURRENT_USER()": [("app@%",)],
            "SELECT USER()": [("app@10.0.0.7",)],
            "SELECT GET_LOCK(%s, %s)": [(1,)],
            "SHOW CREATE USER CURRENT_USER()": [
                (
                    "CREATE USER `app`@`%` IDENTIFIED WITH 'caching_sha2_password' AS '$A$005$\n''`x' "
                    f"REQUIRE NONE{self.options}",
                )
            ],
        }
        self.rows = [(int(self.may_retain),)] if "CURRENT_ROLE" in statement else answers.get(statement, [])


def set_own_password(server: Server8, password: str, pending_works: Callable[[], bool] = lambda: False) -> None:
    current = server.passwords[0]
    MysqlRotator().set_own_password(cast("MysqlSession", server), current, password, pending_works)


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


def never() -> bool:
    raise AssertionError("a login was tried")


def test_without_the_right_to_a_second_password_no_login_is_tried():
    server = Server8(may_retain=False)
    set_own_password(server, "new", never)
    assert server.passwords == ["new"]


def test_an_account_that_one_failed_login_locks_gets_none():
    server = Server8(options=" FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME UNBOUNDED")
    set_own_password(server, "new", never)
    assert server.passwords == ["new"]
    server = Server8(options=" FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 1")
    set_own_password(server, "new")
    assert server.passwords == ["new", "old"]


@pytest.mark.parametrize("may_retain", [True, False])
def test_the_current_password_is_sent_only_to_a_server_that_asks_for_it(may_retain):
    server = Server8(may_retain=may_retain, needs_current=True)
    set_own_password(server, "new")
    assert server.passwords[0] == "new"
    server = Server8(may_retain=may_retain)
    set_own_password(server, "new")
    assert not [text for text in server.statements if "REPLACE" in text]


def test_a_rejected_password_has_its_own_error_and_no_error_contains_the_statement():
    with pytest.raises(PasswordRejected, match="1819"):
        set_own_password(Server8(), "weak")
    with pytest.raises(ChangeFailed) as failed:
        set_own_password(Server8(), "broken")
    assert "broken" not in str(failed.value)
    assert "1064" in str(failed.value)
