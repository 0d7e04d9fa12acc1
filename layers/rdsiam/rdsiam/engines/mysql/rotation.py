"""MySQL's and MariaDB's part of a rotation: what goes to the server is kept out of its logs as far as it allows.

MariaDB logs statements as they come, so it is sent the hash that `mysql_native_password` keeps. MySQL writes passwords
of ALTER USER to its general, slow and binary logs as hashes by itself (unless it runs with --log-raw), and an ordinary
user may set its own password in no other way; `caching_sha2_password` can't be computed here without the server's part.
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
from rdsiam.engines.connection import connect_mysql
from rdsiam.engines.logins import Password, Token
from rdsiam.engines.mysql.grants import Held, Server, account, difference, held, literal, server
from rdsiam.engines.rotation import ChangeFailed, OpenSession, PasswordRejected
from rdsiam.errors import ConnectionFailed, Refused

_IAM = "AWSAuthenticationPlugin"
_NATIVE = "mysql_native_password"
#: Authentication methods whose passwords the server itself keeps.
_PASSWORDS = {_NATIVE, "caching_sha2_password", "sha256_password", "ed25519", "parsec"}
_LOCK_SECONDS = 5
_DENIED = {1044, 1142, 1227, 1410, 3619}
_REJECTED = {1819, 3638}
_ONLY_CLEAR = 1290  # MariaDB's strict_password_validation: its policy wants to see the password
#: What the server's text may say without a word of the statement.
_SAFE = _DENIED | _REJECTED | {1040, 1133, 1205, 1213, 1290, 1396, 1449, 1045, 2006, 2013, 3016}
_PLUGIN = re.compile(r"IDENTIFIED (?:WITH|VIA) '?([A-Za-z0-9_]+)'?")
_TLS = re.compile(r" REQUIRE (NONE|SSL|X509|ISSUER|SUBJECT|CIPHER)")


@dataclass(frozen=True)
class Login:
    """How an account logs in, from SHOW CREATE USER; what else that shows, the hash, is not kept."""

    plugin: str
    tls: str


class MysqlRotator:
    """The engines `mysql` and `mariadb`, and Aurora MySQL; see `Rotator`."""

    def connect(self, database: Database, login: Password | Token, name: str | None) -> Any:  # noqa: ARG002
        """Open a session; schemas need none of their own."""
        host, port = database.endpoint
        return connect_mysql(host, port, login)

    def wrong_password(self, error: ConnectionFailed) -> bool:
        """Tell it by the server's code, which is the same where the account is missing."""
        return error.stage == "login" and error.server_code == "1045"

    def prove(self, session: Any) -> None:
        """Run a query that everybody may run."""
        _rows(session, "SELECT 1")

    def set_own_password(self, session: Any, password: str, pending_works: Callable[[], bool]) -> None:
        """Set it on all accounts of that name that the user sees; its own last, whose login tells that all is done."""
        server, (user, host) = _server(session), _account(session)
        if server.dual:
            _lock(session, user)
            if pending_works():
                return  # a second time would keep the new password as the old one
        for other in [each for each in _visible_hosts(session, user) if each != host]:
            self._set(session, server, user, other, password, own=False)
        self._set(session, server, user, host, password, own=True)

    def clone_name(self, user: str) -> str:
        """Return the name of the other of two users that take turns; that it fits is seen on the server."""
        return user.removesuffix(CLONE) if user.endswith(CLONE) else user + CLONE

    blind_spots = "when a session logged in, and which program it is; of other users anything, without PROCESS"

    def inspect_other(self, session: Any, user: str) -> str | None:
        """Return the statement for the first account of that name; all of them are set."""
        hosts = _hosts(session, user)
        for host in hosts:
            _refuse(_login(session, user, host), user, host)
        return f"ALTER USER {account(user, hosts[0])} IDENTIFIED BY '…'" if hosts else None

    def sessions(self, session: Any, users: Sequence[str]) -> list[OpenSession]:
        """Return the sessions of these users; the server's own list shows no time of login."""
        query = "SELECT USER, HOST FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() ORDER BY ID"
        found = [(str(user), str(host)) for user, host in _rows(session, query)]
        return [OpenSession(user, None, host.rpartition(":")[0] or host, None) for user, host in found if user in users]

    def set_other_password(self, session: Any, base: str, user: str, password: str) -> None:
        """Set it on all accounts of that name; a clone is made, and given what its base may, first."""
        server = _server(session)
        if len(user) > server.longest_name:
            raise Refused(f"the clone's name would have more than {server.longest_name} characters: rename the user")
        _lock(session, base)
        hosts = _hosts(session, base)
        if not hosts:
            raise Refused(f"there is no account {base}: create it, or correct `username`")
        for host in hosts:
            login = _login(session, base, host)
            _refuse(login, base, host)
            if user == base:
                self._set(session, server, user, host, password, own=False)
            else:
                self._clone(session, server, base, user, host, login, password)

    def _clone(
        self, session: Any, server: Server, base: str, clone: str, host: str, login: Login, password: str
    ) -> None:
        if login.tls not in {"NONE", "SSL"}:
            raise Refused(f"{base} logs in with a certificate, which a clone would lack: use a single user")
        name = account(clone, host)
        exists = _rows(session, "SELECT 1 FROM mysql.user WHERE User = %s AND Host = %s", [clone, host])
        read = partial(_rows, session)
        own = held(read, server, clone, host) if exists else Held()
        wanted = held(read, server, base, host)
        if exists:
            _refuse(_login(session, clone, host), clone, host)
            if own.on and not own.on.keys() & wanted.on.keys():
                raise Refused(f"an account {clone} exists that is not {base}'s clone: rename or drop it")
        else:
            _create(session, server, name, login, password)
        for step in difference(own, wanted, server, name):
            _do(session, step.text)
        if exists:
            self._set(session, server, clone, host, password, own=False)
        _do(session, f"ALTER USER {name} REQUIRE {login.tls} ACCOUNT UNLOCK")

    def _set(self, session: Any, server: Server, user: str, host: str, password: str, *, own: bool) -> None:
        """Set the password of one account, of which the server allows to keep the old one where it can."""
        login = _login(session, user, host, own=own)
        _refuse(login, user, host)
        name = "CURRENT_USER()" if own else account(user, host)
        if server.mariadb and login.plugin == _NATIVE:
            to = "SET PASSWORD" if own else f"SET PASSWORD FOR {name}"
            try:
                _do(session, f"{to} = {literal(native_hash(password))}")
            except ChangeFailed as error:
                if error.server_code != str(_ONLY_CLEAR):
                    raise
                _do(session, f"{to} = PASSWORD({literal(password)})")
            return
        if server.mariadb:
            how = f"VIA {login.plugin} USING PASSWORD({literal(password)})"
            _do(session, f"ALTER USER {name} IDENTIFIED {how}")
            return
        change = f"ALTER USER {name} IDENTIFIED BY {literal(password)}"
        if server.dual:
            with contextlib.suppress(_NotAllowed):  # without APPLICATION_PASSWORD_ADMIN the old password ends here
                _do(session, f"{change} RETAIN CURRENT PASSWORD")
                return
        _do(session, change)


def _create(session: Any, server: Server, name: str, login: Login, password: str) -> None:
    """Make an account, locked until all is there: nobody logs in to half a clone."""
    rest = f"REQUIRE {login.tls} ACCOUNT LOCK"
    clear = literal(password)
    if not server.mariadb:
        _do(session, f"CREATE USER {name} IDENTIFIED WITH {login.plugin} BY {clear} {rest}")
        return
    try:
        _do(session, f"CREATE USER {name} IDENTIFIED BY PASSWORD {literal(native_hash(password))} {rest}")
    except ChangeFailed as error:
        if error.server_code != str(_ONLY_CLEAR):
            raise
        _do(session, f"CREATE USER {name} IDENTIFIED BY {clear} {rest}")


def native_hash(password: str) -> str:
    """Return what `mysql_native_password` keeps of a password: SHA-1 twice, in hexadecimal behind a star.

    Source: MySQL's manual, "Native Pluggable Authentication"; the protocol, not this code, chose SHA-1.
    """
    once = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(once, usedforsecurity=False).hexdigest().upper()


class _NotAllowed(Refused):
    """The session's user may not do this."""


def _rows(session: Any, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    try:
        with session.cursor() as cursor:
            cursor.execute(query, parameters or None)
            return list(cursor.fetchall())
    except pymysql.MySQLError as error:
        raise _failed(error) from None


def _do(session: Any, statement: str) -> None:
    try:
        with session.cursor() as cursor:
            cursor.execute(statement)
    except pymysql.MySQLError as error:
        raise _failed(error) from None


def _failed(error: pymysql.MySQLError) -> Exception:
    """Return the error with code and cause, never the statement: it may hold a password, as the server's text may."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    cause = str(error.args[-1]) if code in _SAFE else type(error).__name__
    if code in _REJECTED:
        return PasswordRejected(f"the database does not take the new password: {code} {cause}")
    if code in _DENIED:
        return _NotAllowed(f"{cause} ({code}): give the user the right to do this, or use another scheme")
    return ChangeFailed(str(code), cause)


def _server(session: Any) -> Server:
    return server(str(_rows(session, "SELECT VERSION()")[0][0]))


def _account(session: Any) -> tuple[str, str]:
    """Return the account that the session logged in to; its user is empty where an anonymous one came before it."""
    user, _, host = str(_rows(session, "SELECT CURRENT_USER()")[0][0]).rpartition("@")
    asked = str(_rows(session, "SELECT USER()")[0][0]).rpartition("@")[0]
    if user != asked:
        raise Refused(f"the server took {asked} for another account, an anonymous one perhaps: drop that account")
    return user, host


def _lock(session: Any, user: str) -> None:
    """Wait until another rotation of this user has ended, if one is at work; the lock ends with the session.

    A rotation has it for a moment, but any user of the server can take it. So it is waited for, and never needed.
    """
    key = "rdsiam " + hashlib.sha256(user.encode()).hexdigest()[:40]
    _rows(session, "SELECT GET_LOCK(%s, %s)", [key, _LOCK_SECONDS])


def _visible_hosts(session: Any, user: str) -> list[str]:
    """Return the host patterns of a user's accounts; none where the session may not read them."""
    try:
        return _hosts(session, user)
    except _NotAllowed:
        return []


def _hosts(session: Any, user: str) -> list[str]:
    return [row[0] for row in _rows(session, "SELECT Host FROM mysql.user WHERE User = %s ORDER BY 1", [user])]


def _login(session: Any, user: str, host: str, *, own: bool = False) -> Login:
    name = "CURRENT_USER()" if own else account(user, host)
    shown = str(_rows(session, f"SHOW CREATE USER {name}")[0][0])
    # The names come first and may hold anything, but no unquoted word.
    shown = re.sub(r"'(?:[^'\\]|''|\\.)*'|`(?:[^`]|``)*`", lambda found: _plain(found[0]), shown, flags=re.S)
    plugins = _PLUGIN.findall(shown)
    if " OR " in shown:
        raise Refused(f"{user} can log in in more than one way: leave it one (ALTER USER … IDENTIFIED VIA …)")
    tls = _TLS.search(shown)
    return Login(plugins[0] if plugins else _NATIVE, tls[1] if tls else "NONE")


def _plain(quoted: str) -> str:
    """Keep a quoted plain word, which a plugin's name is; anything else, a hash or a host, is left out."""
    return quoted if re.fullmatch(r"['`][A-Za-z0-9_]{1,40}['`]", quoted) else "''"


def _refuse(login: Login, user: str, host: str) -> None:
    if login.plugin == _IAM:
        raise Refused(f"{user}@{host} logs in by token; its secret has no use any more: delete it")
    if login.plugin not in _PASSWORDS:
        raise Refused(f"{user}@{host} logs in by {login.plugin}, which has no password to rotate")
