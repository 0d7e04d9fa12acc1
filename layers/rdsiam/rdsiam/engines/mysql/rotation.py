"""Rotation on MySQL and MariaDB: passwords are kept out of the server's logs as far as it permits.

MariaDB logs statements as they are sent, so it gets the hash that `mysql_native_password` stores. MySQL itself writes
passwords of ALTER USER to its general, slow and binary logs as hashes (unless it runs with --log-raw), and an ordinary
user can set its own password in no other way; `caching_sha2_password` can't be computed here without the server's part.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pymysql

from rdsiam.access.rotation import CLONE
from rdsiam.aws.rds import Database
from rdsiam.engines.connection import MysqlSession, connect_mysql
from rdsiam.engines.logins import Login
from rdsiam.engines.mysql.catalog import PLUGIN
from rdsiam.engines.mysql.grants import (
    AccountName,
    Rights,
    account,
    difference,
    literal,
    read_rights,
    server,
)
from rdsiam.engines.rotation import ChangeFailed, OpenSession, PasswordRejected
from rdsiam.errors import ConnectionFailed, Refused

_NATIVE = "mysql_native_password"
#: Plugins whose passwords the server itself stores.
_PASSWORDS = {_NATIVE, "caching_sha2_password", "sha256_password", "ed25519", "parsec"}
_LOCK_SECONDS = 5
#: The last one is about an administrator with restrictions, who revokes a dynamic privilege of a user without them.
_DENIED = {1044, 1142, 1227, 1410, 3619, 3879}
_REJECTED = {1819, 3638}
_ONLY_CLEAR = 1290  # MariaDB's strict_password_validation: its policy must see the password
#: Codes of errors whose text never quotes the statement.
_SAFE = (
    _DENIED
    | _REJECTED
    | {1040, 1045, 1053, 1133, 1205, 1213, 1290, 1317, 1396, 1449, 2006, 2013, 3016, 3118, 3891, 3892, 3894, 3955, 4006}
)
#: The account needs its current password to change it: PASSWORD REQUIRE CURRENT, or password_require_current.
_CURRENT_NEEDED = "3892"
_PLUGIN = re.compile(r"IDENTIFIED (?:WITH|VIA) '?([A-Za-z0-9_]+)'?")
_TLS = re.compile(r" REQUIRE (NONE|SSL|X509|ISSUER|SUBJECT|CIPHER)")
_ATTEMPTS = re.compile(r" FAILED_LOGIN_ATTEMPTS (\d+)")
#: Whether an account may keep a second password of its own. Roles are not looked into.
_MAY_RETAIN = """SELECT CURRENT_ROLE() <> 'NONE' OR EXISTS (SELECT 1 FROM information_schema.USER_PRIVILEGES
WHERE GRANTEE = %s AND PRIVILEGE_TYPE IN ('APPLICATION_PASSWORD_ADMIN', 'CREATE USER'))"""


@dataclass(frozen=True)
class _Authentication:
    """The plugin and TLS requirement of an account, from SHOW CREATE USER; its hash is discarded.

    :ivar attempts: number of failed logins after which the server locks the account; 0 if it doesn't.
    """

    plugin: str
    tls: str
    attempts: int


class MysqlRotator:
    """The engines `mysql` and `mariadb`, and Aurora MySQL; see `Rotator`."""

    blind_spots = "login time and program of a session; sessions of other users, without PROCESS"

    def connect(self, database: Database, login: Login, name: str | None) -> MysqlSession:  # noqa: ARG002
        """Open a session, which reaches all schemas."""
        host, port = database.endpoint
        return connect_mysql(host, port, login)

    def wrong_password(self, error: ConnectionFailed) -> bool:
        """Compare the server's code. A missing account has the same code."""
        return error.stage == "login" and error.server_code == "1045"

    def prove(self, session: MysqlSession) -> None:
        """Run a query that every user may run."""
        _rows(session, "SELECT 1")

    def set_own_password(
        self, session: MysqlSession, current: str, password: str, pending_works: Callable[[], bool]
    ) -> None:
        """Set the password on all accounts of the user that it sees, and last on the session's own account.

        A login by that account then proves that all accounts have the password.
        """
        setter = _PasswordSetter(session, password, current)
        user, host = _session_account(session)
        retain = setter.server.dual and _may_retain(session, user, host)
        if retain:
            _lock(session, user)
            if pending_works():
                return  # setting it again would retain the new password as the old one
        for other in [each for each in _visible_hosts(session, user) if each != host]:
            setter.set(user, other, retain=retain)
        setter.set(user, host, own=True, retain=retain)

    def clone_name(self, user: str) -> str:
        """Return the name of the other of two alternating users; its length is checked on the server."""
        return user.removesuffix(CLONE) if user.endswith(CLONE) else user + CLONE

    def inspect_other(self, session: MysqlSession, user: str) -> str | None:
        """Return the statement for the first account of the user; a rotation sets all of them."""
        hosts = _hosts(session, user)
        for host in hosts:
            _refuse(_authentication(session, account(user, host), user), user, host)
        return f"ALTER USER {account(user, hosts[0])} IDENTIFIED BY '…'" if hosts else None

    def sessions(self, session: MysqlSession, users: Sequence[str]) -> list[OpenSession]:
        """Return the sessions of these users; the server's list has no login time."""
        query = "SELECT USER, HOST FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() ORDER BY ID"
        rows = [(str(user), str(host)) for user, host in _rows(session, query)]
        return [OpenSession(user, None, host.rpartition(":")[0] or host, None) for user, host in rows if user in users]

    def set_other_password(self, session: MysqlSession, base: str, user: str, password: str) -> None:
        """Set the password on all accounts of the user; before that, create a clone and give it its base's rights."""
        setter = _PasswordSetter(session, password)
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
            authentication = _authentication(session, account(base, host), base)
            _refuse(authentication, base, host)
            if user == base:
                setter.set(user, host)
            else:
                setter.set_on_clone(base, user, host, authentication)


class _PasswordSetter:
    """Setter of one password, in one session.

    :param current: the password of the session's own account.
    """

    def __init__(self, session: MysqlSession, password: str, current: str = "") -> None:
        self._session = session
        #: The password and its hash, quoted.
        self._clear, self._hash = literal(password), literal(native_hash(password))
        self._current = literal(current)
        self.server = server(str(_rows(session, "SELECT VERSION()")[0][0]))

    def set(self, user: str, host: str, *, own: bool = False, retain: bool = False) -> None:
        """Set the password of one account.

        :param own: the session's own account.
        :param retain: keep the old password valid beside the new one, if the server permits it.
        """
        name = "CURRENT_USER()" if own else account(user, host)
        authentication = _authentication(self._session, name, user)
        _refuse(authentication, user, host)
        if self.server.mariadb and authentication.plugin == _NATIVE:
            prefix = "SET PASSWORD" if own else f"SET PASSWORD FOR {name}"
            self._do_either(f"{prefix} = {self._hash}", f"{prefix} = PASSWORD({self._clear})")
            return
        if self.server.mariadb:
            method = f"VIA {authentication.plugin} USING PASSWORD({self._clear})"
            _do(self._session, f"ALTER USER {name} IDENTIFIED {method}")
            return
        change = f"ALTER USER {name} IDENTIFIED BY {self._clear}"
        if self.server.dual and not own and not retain:
            # First, so that a repetition after a kill has the same effect. The change itself leaves it as it is.
            _do(self._session, f"ALTER USER {name} DISCARD OLD PASSWORD")
        try:
            self._change(change, retain)
        except ChangeFailed as error:
            if not own or error.server_code != _CURRENT_NEEDED:
                raise
            self._change(f"{change} REPLACE {self._current}", retain)

    def _change(self, change: str, retain: bool) -> None:
        if retain:
            with contextlib.suppress(_NotAllowed):  # without APPLICATION_PASSWORD_ADMIN the old password ends here
                _do(self._session, f"{change} RETAIN CURRENT PASSWORD")
                return
        _do(self._session, change)

    def set_on_clone(self, base: str, clone: str, host: str, authentication: _Authentication) -> None:
        """Set the password of a clone's account, with the rights of its base; create it if it does not exist."""
        if authentication.tls not in {"NONE", "SSL"}:
            raise Refused(
                f"{base} logs in with a certificate, which a clone would lack",
                "rotate it as a single user (scheme: single)",
                "alternating-unsupported",
            )
        name = account(clone, host)
        exists = _rows(self._session, "SELECT 1 FROM mysql.user WHERE User = %s AND Host = %s", [clone, host])
        read = partial(_rows, self._session)
        current = read_rights(read, self.server, clone, host) if exists else Rights()
        desired = read_rights(read, self.server, base, host)
        if exists:
            _refuse(_authentication(self._session, name, clone), clone, host)
            if current.on and not current.on.keys() & desired.on.keys():
                raise Refused(
                    f"an account {clone} exists that is not {base}'s clone", "rename or drop it", "name-taken"
                )
        else:
            self._create(name, authentication)
        restricted = any(kind == "RESTRICTION" for kind, *_ in desired.on)
        if exists and restricted:
            # A global privilege comes before its restriction. Sessions that are open get neither.
            _do(self._session, f"ALTER USER {name} ACCOUNT LOCK")
        for step in difference(current, desired, self.server, name):
            if step.key is None or step.key[0] != "RESTRICTION":
                _do(self._session, step.text)
        if self.server.restricts and ("USER",) in desired.on:
            # What the administrator grants globally has the administrator's own restrictions already.
            granted = read_rights(read, self.server, clone, host)
            for step in difference(granted, desired, self.server, name):
                _do(self._session, step.text)
        if exists:
            self.set(clone, host)
        _do(self._session, f"ALTER USER {name} REQUIRE {authentication.tls} ACCOUNT UNLOCK")

    def _create(self, name: str, authentication: _Authentication) -> None:
        """Create an account, locked until it is complete, so that no login uses an incomplete clone."""
        rest = f"REQUIRE {authentication.tls} ACCOUNT LOCK"
        if not self.server.mariadb:
            _do(self._session, f"CREATE USER {name} IDENTIFIED WITH {authentication.plugin} BY {self._clear} {rest}")
            return
        create = f"CREATE USER {name} IDENTIFIED BY"
        self._do_either(f"{create} PASSWORD {self._hash} {rest}", f"{create} {self._clear} {rest}")

    def _do_either(self, with_hash: str, with_clear: str) -> None:
        """Send MariaDB the statement with the hash, or that with the password if the server's policy must see it."""
        try:
            _do(self._session, with_hash)
        except ChangeFailed as error:
            if error.server_code != str(_ONLY_CLEAR):
                raise
            _do(self._session, with_clear)


def native_hash(password: str) -> str:
    """Return the hash that `mysql_native_password` stores: SHA-1 twice, in hexadecimal after an asterisk.

    Source: MySQL's manual, "Native Pluggable Authentication"; the protocol prescribes SHA-1.
    """
    once = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(once, usedforsecurity=False).hexdigest().upper()


class _NotAllowed(Refused):
    """The session's user has no right to do this."""


def _rows(session: MysqlSession, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    try:
        with session.cursor() as cursor:
            cursor.execute(query, parameters or None)
            return list(cursor.fetchall())
    except pymysql.MySQLError as error:
        raise _translated(error) from None


def _do(session: MysqlSession, statement: str) -> None:
    try:
        with session.cursor() as cursor:
            cursor.execute(statement)
    except pymysql.MySQLError as error:
        raise _translated(error) from None


def _translated(error: pymysql.MySQLError) -> Exception:
    """Return the error with code and cause, without the statement, which may hold a password as the text may."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    cause = str(error.args[-1]) if code in _SAFE else type(error).__name__
    if code in _REJECTED:
        return PasswordRejected(f"the database rejects the new password: {code} {cause}")
    if code in _DENIED:
        return _NotAllowed(f"{cause} ({code})", "grant the user this right, or use another scheme", "rights-missing")
    return ChangeFailed(str(code), cause)


def _session_account(session: MysqlSession) -> AccountName:
    """Return the account that the session logged in to.

    :raises Refused: the server chose an account of another name, such as an anonymous account.
    """
    user, _, host = str(_rows(session, "SELECT CURRENT_USER()")[0][0]).rpartition("@")
    login = str(_rows(session, "SELECT USER()")[0][0]).rpartition("@")[0]
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
    _rows(session, "SELECT GET_LOCK(%s, %s)", [key, _LOCK_SECONDS])


def _visible_hosts(session: MysqlSession, user: str) -> list[str]:
    """Return the host patterns of a user's accounts; empty if the session may not read them."""
    try:
        return _hosts(session, user)
    except _NotAllowed:
        return []


def _may_retain(session: MysqlSession, user: str, host: str) -> bool:
    """Return whether the session's own account may keep its old password, and can bear a failed login before that.

    Whether the new password logs in already is found by trying it: a second RETAIN would keep the new one as the old.
    """
    if not _rows(session, _MAY_RETAIN, [f"'{user}'@'{host}'"])[0][0]:
        return False
    return _authentication(session, "CURRENT_USER()", user).attempts != 1


def _hosts(session: MysqlSession, user: str) -> list[str]:
    return [row[0] for row in _rows(session, "SELECT Host FROM mysql.user WHERE User = %s ORDER BY 1", [user])]


def _authentication(session: MysqlSession, name: str, user: str) -> _Authentication:
    """Read how an account logs in.

    :param name: the account, quoted, or an expression for it.
    """
    shown = str(_rows(session, f"SHOW CREATE USER {name}")[0][0])
    # Names come first and may contain anything, but no unquoted word.
    shown = re.sub(r"'(?:[^'\\]|''|\\.)*'|`(?:[^`]|``)*`", lambda match: _plain(match[0]), shown, flags=re.S)
    plugins = _PLUGIN.findall(shown)
    if " OR " in shown:
        raise Refused(
            f"{user} has more than one login method",
            "leave it one (ALTER USER … IDENTIFIED VIA …)",
            "login-unsupported",
        )
    tls, attempts = _TLS.search(shown), _ATTEMPTS.search(shown)
    return _Authentication(
        plugins[0] if plugins else _NATIVE, tls[1] if tls else "NONE", int(attempts[1]) if attempts else 0
    )


def _plain(quoted: str) -> str:
    """Keep a quoted plain word, such as the name of a plugin; remove any other text, such as a hash or a host."""
    return quoted if re.fullmatch(r"['`][A-Za-z0-9_]{1,40}['`]", quoted) else "''"


def _refuse(authentication: _Authentication, user: str, host: str) -> None:
    """Check that an account has a password that can be rotated."""
    if authentication.plugin == PLUGIN:
        raise Refused(
            f"{user}@{host} logs in by token, so its secret is no longer used", "delete the secret", "iam-user"
        )
    if authentication.plugin not in _PASSWORDS:
        raise Refused(
            f"{user}@{host} logs in by {authentication.plugin}, which has no password to rotate",
            "take it out of `rotate`",
            "login-unsupported",
        )
