"""Rotation on MySQL and MariaDB: the accounts of a user, and which of them gets the password when."""

import hashlib
from collections.abc import Callable, Sequence

from rdsiam.access.rotation import CLONE
from rdsiam.aws.rds import Database
from rdsiam.engines.logins import Login
from rdsiam.engines.mysql.authentication import read_authentication, refuse_without_password
from rdsiam.engines.mysql.catalog import without_roles
from rdsiam.engines.mysql.connection import MysqlSession, connect_mysql
from rdsiam.engines.mysql.grants import OF_ACCOUNT, AccountName, account
from rdsiam.engines.mysql.passwords import PasswordSetter, end_expiry
from rdsiam.engines.mysql.statements import ExpiredPassword, NotAllowed, begin, rows
from rdsiam.engines.rotation import OpenSession
from rdsiam.errors import ConnectionFailed, Refused

_LOCK_SECONDS = 5
#: Whether an account may keep a second password of its own. Roles are not looked into.
_MAY_RETAIN = f"""SELECT CURRENT_ROLE() <> 'NONE' OR EXISTS (SELECT 1 FROM information_schema.USER_PRIVILEGES
{OF_ACCOUNT} AND PRIVILEGE_TYPE IN ('APPLICATION_PASSWORD_ADMIN', 'CREATE USER'))"""  # noqa: S608 constant


class MysqlRotator:
    """The engines `mysql` and `mariadb`, and Aurora MySQL; see `Rotator`."""

    blind_spots = "login time and program of a session; sessions of other users, without PROCESS"

    def connect(self, database: Database, login: Login, name: str | None) -> MysqlSession:  # noqa: ARG002
        """Open a session, which reaches all schemas. If the password has expired, a rotation gives the user another."""
        host, port = database.endpoint
        return connect_mysql(host, port, login, expired=True)

    def wrong_password(self, error: ConnectionFailed) -> bool:
        """Compare the server's code. A missing account has the same code."""
        return error.stage == "login" and error.server_code == "1045"

    def prove(self, session: MysqlSession) -> None:
        """Run a query that every user may run."""
        begin(session)

    def set_own_password(
        self, session: MysqlSession, current: str, password: str, pending_works: Callable[[], bool]
    ) -> None:
        """Set the password on all accounts of the user that it sees, and last on the session's own account.

        A login by that account then proves that all accounts have the password.
        """
        try:
            begin(session)
        except ExpiredPassword:
            current = end_expiry(session, current, password)
        setter = PasswordSetter(session, password, current)
        user, host = _session_account(session)
        retain = setter.server.dual and _may_retain(session, user, host)
        if retain and current != password:
            _lock(session, user)
            if pending_works():
                return  # setting it again would retain the new password as the old one
        for other in [each for each in _visible_hosts(session, user) if each != host]:
            setter.set(user, other, retain=retain)
        if current != password:
            setter.set(user, host, own=True, retain=retain)

    def clone_name(self, user: str) -> str:
        """Return the name of the other of two alternating users; its length is checked on the server."""
        return user.removesuffix(CLONE) if user.endswith(CLONE) else user + CLONE

    def inspect_other(self, session: MysqlSession, user: str) -> str | None:
        """Return the statement for the first account of the user; a rotation sets all of them."""
        begin(session)
        hosts = _hosts(session, user)
        for host in hosts:
            refuse_without_password(read_authentication(session, account(user, host), user), user, host)
        return f"ALTER USER {account(user, hosts[0])} IDENTIFIED BY '…'" if hosts else None

    def sessions(self, session: MysqlSession, users: Sequence[str]) -> list[OpenSession]:
        """Return the sessions of these users; the server's list has no login time."""
        # Users without rights on performance_schema read only this list, which shows the definer of a running routine.
        begin(session)
        query = "SELECT USER, HOST FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() ORDER BY ID"
        found = [(str(user), str(host)) for user, host in rows(session, query)]
        return [OpenSession(user, None, host.rpartition(":")[0] or host, None) for user, host in found if user in users]

    def set_other_password(self, session: MysqlSession, base: str, user: str, password: str) -> None:
        """Set the password on all accounts of the user; before that, create a clone and give it its base's rights."""
        begin(session)
        setter = PasswordSetter(session, password)
        longest = setter.server.longest_name
        if len(user) > longest:
            raise Refused(
                f"the clone's name would have more than {longest} characters", "rename the user", "name-too-long"
            )
        _lock(session, base)
        hosts = _hosts(session, base)
        if not hosts:
            raise Refused(f"there is no account {base}", "create it, or correct `username`", "user-missing")
        for host in hosts:
            authentication = read_authentication(session, account(base, host), base)
            refuse_without_password(authentication, base, host)
            if user == base:
                setter.set(user, host)
            else:
                setter.set_on_clone(base, user, host, authentication)


def _session_account(session: MysqlSession) -> AccountName:
    """Return the account that the session logged in to.

    :raises Refused: the server chose an account of another name, such as an anonymous account.
    """
    user, _, host = str(rows(session, "SELECT CURRENT_USER()")[0][0]).rpartition("@")
    login = str(rows(session, "SELECT USER()")[0][0]).rpartition("@")[0]
    if user != login:
        raise Refused(
            f"the server logged {login} in to another account, probably an anonymous one",
            "drop that account",
            "login-unsupported",
        )
    return user, host


def _lock(session: MysqlSession, user: str) -> None:
    """Wait briefly while another rotation of this user is running; the lock ends with the session.

    A rotation holds the lock for a moment, but any user of the server can take it. So rotations wait for the lock, and
    go on without it.
    """
    key = "rdsiam " + hashlib.sha256(user.encode()).hexdigest()[:40]
    rows(session, "SELECT GET_LOCK(%s, %s)", [key, _LOCK_SECONDS])


def _visible_hosts(session: MysqlSession, user: str) -> list[str]:
    """Return the host patterns of a user's accounts; empty if the session may not read them."""
    try:
        return _hosts(session, user)
    except NotAllowed:
        return []


def _may_retain(session: MysqlSession, user: str, host: str) -> bool:
    """Return whether the session's own account may keep its old password, and can bear a failed login before that.

    Whether the new password logs in already is found by trying it: a second RETAIN would keep the new one as the old.
    """
    if not rows(session, _MAY_RETAIN, [f"'{user}'@'{host}'"])[0][0]:
        return False
    return read_authentication(session, "CURRENT_USER()", user).attempts != 1


def _hosts(session: MysqlSession, user: str) -> list[str]:
    found = rows(session, "SELECT User, Host FROM mysql.user WHERE User = %s ORDER BY 2", [user])
    return [host for _, host in without_roles(session, found)]
