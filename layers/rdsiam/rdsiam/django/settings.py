"""The login that an entry of Django's DATABASES describes."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from rdsiam.errors import InvalidRequest
from rdsiam.pool import Login

__all__ = ["REGION", "login_of"]

#: The option that names the region, if neither the host's name nor AWS_REGION tells it.
REGION = "region"
_login = cache(Login)


def login_of(database: Mapping[str, Any]) -> Login:
    """Return the login of an entry; all connections to a database share it.

    :raises ImproperlyConfigured: there is a password, or host, port, user or region are missing.
    """
    options = database.get("OPTIONS") or {}
    if database.get("PASSWORD") or "password" in options or "passwd" in options:
        raise ImproperlyConfigured("rdsiam logs in by token: take PASSWORD out of DATABASES")
    if not (database.get("HOST") and database.get("PORT") and database.get("USER")):
        raise ImproperlyConfigured("rdsiam needs HOST, PORT and USER in DATABASES")
    try:
        return _login(database["HOST"], int(database["PORT"]), database["USER"], options.get(REGION))
    except InvalidRequest as error:
        raise ImproperlyConfigured(f'DATABASES: {error}; give OPTIONS["{REGION}"]') from error
    except ValueError:
        raise ImproperlyConfigured(f"DATABASES: PORT must be a number, not {database['PORT']!r}") from None
