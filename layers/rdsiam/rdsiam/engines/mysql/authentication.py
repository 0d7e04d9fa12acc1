"""The way an account of MySQL or MariaDB with a password logs in, from SHOW CREATE USER; its hash is discarded."""

import re
from dataclasses import dataclass

from rdsiam.engines.mysql.catalog import PLUGIN
from rdsiam.engines.mysql.connection import MysqlSession
from rdsiam.engines.mysql.statements import rows
from rdsiam.errors import Refused

NATIVE = "mysql_native_password"
#: Plugins whose passwords the server itself stores.
_PASSWORDS = {NATIVE, "caching_sha2_password", "sha256_password", "ed25519", "parsec"}
_PLUGIN = re.compile(r"IDENTIFIED (?:WITH|VIA) '?([A-Za-z0-9_]+)'?")
_TLS = re.compile(r" REQUIRE (NONE|SSL|X509|ISSUER|SUBJECT|CIPHER)")
_ATTEMPTS = re.compile(r" FAILED_LOGIN_ATTEMPTS (\d+)")


@dataclass(frozen=True)
class Authentication:
    """The plugin and TLS requirement of an account, from SHOW CREATE USER; its hash is discarded.

    :ivar attempts: number of failed logins after which the server locks the account; 0 if it doesn't.
    """

    plugin: str
    tls: str
    attempts: int


def read_authentication(session: MysqlSession, name: str, user: str) -> Authentication:
    """Read how an account logs in.

    :param name: the account, quoted, or an expression for it.
    """
    shown = str(rows(session, f"SHOW CREATE USER {name}")[0][0])
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
    return Authentication(
        plugins[0] if plugins else NATIVE, tls[1] if tls else "NONE", int(attempts[1]) if attempts else 0
    )


def _plain(quoted: str) -> str:
    """Keep a quoted plain word, such as the name of a plugin; remove any other text, such as a hash or a host."""
    return quoted if re.fullmatch(r"['`][A-Za-z0-9_]{1,40}['`]", quoted) else "''"


def refuse_without_password(authentication: Authentication, user: str, host: str) -> None:
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
