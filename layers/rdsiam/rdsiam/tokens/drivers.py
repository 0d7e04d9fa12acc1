"""Arguments with which drivers open one connection over verified TLS; none of the drivers is imported.

`token` is a secret in all of them.
"""

import ssl
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from rdsiam.errors import ConnectionFailed
from rdsiam.tokens.trust import ca_for

__all__ = ["aiomysql", "context", "libpq", "mysql_connector", "mysqlclient"]

#: The one way to enable the clear-text plugin of libmysqlclient for some connections only. libmariadb ignores it.
_OPTION_FILE = Path(__file__).with_name("mysqlclient.cnf")
#: The first libpq that limits how a server may ask for the password.
_REQUIRE_AUTH = 160000
#: The first that has an option for Kerberos.
_GSSENCMODE = 120000


def libpq(host: str, port: int, user: str, token: str, version: int) -> dict[str, Any]:
    """Return the arguments for psycopg and psycopg2.

    :param version: of the libpq that the driver uses, which refuses options that it doesn't know.
    """
    arguments = {
        **_login(host, port, user, token),
        "sslmode": "verify-full",
        "sslrootcert": ca_for(host),
    }
    if version >= _GSSENCMODE:
        arguments["gssencmode"] = "disable"  # or a Kerberos ticket would take the place of TLS
    if version >= _REQUIRE_AUTH:
        arguments["require_auth"] = "password"  # the token goes nowhere but where a token is asked for
    return arguments


def mysql_connector(host: str, port: int, user: str, token: str) -> dict[str, Any]:
    """Return the arguments for mysql-connector-python."""
    return {
        **_login(host, port, user, token),
        "auth_plugin": "mysql_clear_password",
        "ssl_ca": ca_for(host),
        "ssl_verify_cert": True,
        "ssl_verify_identity": True,
        "ssl_disabled": False,
    }


def mysqlclient(host: str, port: int, user: str, token: str) -> dict[str, Any]:
    """Return the arguments for mysqlclient, built with MySQL's library or MariaDB's."""
    return {
        **_login(host, port, user, token),
        "ssl": {"ca": ca_for(host)},
        "ssl_mode": "VERIFY_IDENTITY",
        "read_default_file": str(_OPTION_FILE),
    }


def aiomysql(host: str, port: int, user: str, token: str) -> dict[str, Any]:
    """Return the arguments for aiomysql.

    It goes on without TLS if a server, or an attacker on the way, offers none: this token is for TLS only.
    """
    noting = _NotingContext(ssl.PROTOCOL_TLS_CLIENT)
    noting.load_verify_locations(ca_for(host))
    _relax(noting)
    password = _TokenForTls(token)
    password.in_tls = lambda: noting.used
    password.endpoint = (host, port)
    return {**_login(host, port, user, password), "ssl": noting}


def _login(host: str, port: int, user: str, token: str) -> dict[str, Any]:
    """Return the arguments that have the same names in all drivers."""
    return {"host": host, "port": port, "user": user, "password": token}


@cache
def context(ca: str) -> ssl.SSLContext:
    """Return the context that verifies chain and host name; threads share it, as reading the authorities is slow.

    :param ca: path of the authorities.
    """
    verifying = ssl.create_default_context(cafile=ca)
    _relax(verifying)
    return verifying


def _relax(verifying: ssl.SSLContext) -> None:
    # The strict flag, new in Python 3.13, also refuses certificates for formal defects that libpq and MySQL's own
    # clients accept.
    verifying.verify_flags &= ~ssl.VERIFY_X509_STRICT


class _NotingContext(ssl.SSLContext):
    """The context of one connection.

    :ivar used: whether TLS was begun. If it fails, the connection fails.
    """

    used = False

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin TLS; asyncio calls it."""
        self.used = True
        return super().wrap_bio(*args, **kwargs)


class _TokenForTls(str):
    """A token that is given out only inside TLS.

    :ivar in_tls: tells whether the connection that it is for has begun TLS.
    """

    in_tls: Callable[[], bool]
    endpoint: tuple[str, int]

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Return the token's bytes, which the driver sends.

        :raises ConnectionFailed: the connection has no TLS.
        """
        if not self.in_tls():
            raise ConnectionFailed(*self.endpoint, "tls", "the server offers no TLS")
        return super().encode(encoding, errors)
