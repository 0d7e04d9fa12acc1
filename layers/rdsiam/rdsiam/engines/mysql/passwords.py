"""Setting passwords on MySQL and MariaDB: they are kept out of the server's logs as far as it permits.

MariaDB logs statements as they are sent, so it gets the hash that `mysql_native_password` stores. MySQL itself writes
passwords of ALTER USER to its general, slow and binary logs as hashes (unless it runs with --log-raw), and an ordinary
user can set its own password in no other way; `caching_sha2_password` can't be computed here without the server's part.
"""

import contextlib
import hashlib
from functools import partial

from rdsiam.engines.mysql.authentication import NATIVE, Authentication, read_authentication, refuse_without_password
from rdsiam.engines.mysql.catalog import is_mariadb
from rdsiam.engines.mysql.connection import MysqlSession
from rdsiam.engines.mysql.grants import Rights, account, difference, literal, read_rights, server
from rdsiam.engines.mysql.statements import NotAllowed, begin, rows, run
from rdsiam.engines.rotation import ChangeFailed, PasswordRejected
from rdsiam.errors import Refused

_ONLY_CLEAR = 1290  # MariaDB's strict_password_validation: its policy must see the password
#: The account needs its current password to change it: PASSWORD REQUIRE CURRENT, or password_require_current.
_CURRENT_NEEDED = "3892"
#: There is no such schema, column, table or routine.
_DROPPED = frozenset({"1049", "1054", "1146", "1305"})


def end_expiry(session: MysqlSession, current: str, password: str) -> str:
    """Make a session whose password has expired an ordinary one, and return the password that the account has then.

    The account gets the same password again, so that it logs in with the former one until all its accounts have the new
    one. If the server's policy forbids that, it gets the new one at once.

    :param current: the password by which the session logged in.
    :param password: the new one.
    """
    try:
        _renew(session, current, current)
    except PasswordRejected:
        _renew(session, current, password)
        current = password
    begin(session)
    return current


def _renew(session: MysqlSession, current: str, password: str) -> None:
    """Set the session's own password, knowing nothing of the account: such a session may read nothing."""
    clear = literal(password)
    if not is_mariadb(session):
        try:
            run(session, f"ALTER USER CURRENT_USER() IDENTIFIED BY {clear}")
        except ChangeFailed as error:
            if error.server_code != _CURRENT_NEEDED:
                raise
            run(session, f"ALTER USER CURRENT_USER() IDENTIFIED BY {clear} REPLACE {literal(current)}")
        return
    try:
        run(session, f"SET PASSWORD = {literal(native_hash(password))}")
    except ChangeFailed:  # the account has another plugin, or the policy must see the password
        run(session, f"SET PASSWORD = PASSWORD({clear})")


class PasswordSetter:
    """Setter of one password, in one session.

    :param current: the password of the session's own account.
    """

    def __init__(self, session: MysqlSession, password: str, current: str = "") -> None:
        self._session = session
        #: The password and its hash, quoted.
        self._clear, self._hash = literal(password), literal(native_hash(password))
        self._current = literal(current)
        self.server = server(str(rows(session, "SELECT VERSION()")[0][0]))

    def set(self, user: str, host: str, *, own: bool = False, retain: bool = False) -> None:
        """Set the password of one account.

        :param own: the session's own account.
        :param retain: keep the old password valid beside the new one, if the server permits it.
        """
        name = "CURRENT_USER()" if own else account(user, host)
        authentication = read_authentication(self._session, name, user)
        refuse_without_password(authentication, user, host)
        if self.server.mariadb and authentication.plugin == NATIVE:
            prefix = "SET PASSWORD" if own else f"SET PASSWORD FOR {name}"
            self._do_either(f"{prefix} = {self._hash}", f"{prefix} = PASSWORD({self._clear})")
            return
        if self.server.mariadb:
            method = f"VIA {authentication.plugin} USING PASSWORD({self._clear})"
            run(self._session, f"ALTER USER {name} IDENTIFIED {method}")
            return
        change = f"ALTER USER {name} IDENTIFIED BY {self._clear}"
        if self.server.dual and not own and not retain:
            # First, so that a repetition after a kill has the same effect. The change itself leaves it as it is.
            run(self._session, f"ALTER USER {name} DISCARD OLD PASSWORD")
        try:
            self._change(change, retain)
        except ChangeFailed as error:
            if not own or error.server_code != _CURRENT_NEEDED:
                raise
            self._change(f"{change} REPLACE {self._current}", retain)

    def _change(self, change: str, retain: bool) -> None:
        if retain:
            with contextlib.suppress(NotAllowed):  # without APPLICATION_PASSWORD_ADMIN the old password ends here
                run(self._session, f"{change} RETAIN CURRENT PASSWORD")
                return
        run(self._session, change)

    def set_on_clone(self, base: str, clone: str, host: str, authentication: Authentication) -> None:
        """Set the password of a clone's account, with the rights of its base; create it if it does not exist."""
        if authentication.tls not in {"NONE", "SSL"}:
            raise Refused(
                f"{base} logs in with a certificate, which a clone would lack",
                "rotate it as a single user (scheme: single)",
                "alternating-unsupported",
            )
        name = account(clone, host)
        exists = rows(self._session, "SELECT 1 FROM mysql.user WHERE User = %s AND Host = %s", [clone, host])
        read = partial(rows, self._session)
        current = read_rights(read, self.server, clone, host) if exists else Rights()
        desired = read_rights(read, self.server, base, host)
        if exists:
            refuse_without_password(read_authentication(self._session, name, clone), clone, host)
            if current.on and not current.on.keys() & desired.on.keys():
                raise Refused(
                    f"an account {name}, with none of its rights, exists that is not {base}'s clone",
                    "rename or drop it, or rotate the user as a single user (scheme: single)",
                    "name-taken",
                )
        else:
            self._create(name, authentication)
        restricted = any(kind == "RESTRICTION" for kind, *_ in desired.on)
        if exists and restricted:
            # A global privilege comes before its restriction. Sessions that are open get neither.
            run(self._session, f"ALTER USER {name} ACCOUNT LOCK")
        for step in difference(current, desired, self.server, name):
            if step.key is None or step.key[0] != "RESTRICTION":
                self._give(step.text)
        if self.server.restricts and ("USER",) in desired.on:
            # What the administrator grants globally has the administrator's own restrictions already.
            granted = read_rights(read, self.server, clone, host)
            for step in difference(granted, desired, self.server, name):
                self._give(step.text)
        if exists:
            self.set(clone, host)
        run(self._session, f"ALTER USER {name} REQUIRE {authentication.tls} ACCOUNT UNLOCK")

    def _give(self, statement: str) -> None:
        """Run a statement on the clone's rights. What the base may do on an object that was dropped is left out."""
        try:
            run(self._session, statement)
        except ChangeFailed as error:
            if error.server_code not in _DROPPED:
                raise

    def _create(self, name: str, authentication: Authentication) -> None:
        """Create an account, locked until it is complete, so that no login uses an incomplete clone."""
        rest = f"REQUIRE {authentication.tls} ACCOUNT LOCK"
        if not self.server.mariadb:
            run(self._session, f"CREATE USER {name} IDENTIFIED WITH {authentication.plugin} BY {self._clear} {rest}")
            return
        create = f"CREATE USER {name} IDENTIFIED BY"
        self._do_either(f"{create} PASSWORD {self._hash} {rest}", f"{create} {self._clear} {rest}")

    def _do_either(self, with_hash: str, with_clear: str) -> None:
        """Send MariaDB the statement with the hash, or that with the password if the server's policy must see it."""
        try:
            run(self._session, with_hash)
        except ChangeFailed as error:
            if error.server_code != str(_ONLY_CLEAR):
                raise
            run(self._session, with_clear)


def native_hash(password: str) -> str:
    """Return the hash that `mysql_native_password` stores: SHA-1 twice, in hexadecimal after an asterisk.

    Source: MySQL's manual, "Native Pluggable Authentication"; the protocol prescribes SHA-1.
    """
    once = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(once, usedforsecurity=False).hexdigest().upper()
