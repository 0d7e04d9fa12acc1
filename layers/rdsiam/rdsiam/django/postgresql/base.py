"""Django's PostgreSQL backend, logging in with a fresh token over verified TLS each time it connects."""

from functools import cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base

from rdsiam.pool import Login

_REGION = "rdsiam_region"
_login = cache(Login)


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]  # Django has no types
    """One connection of Django's. HOST, PORT and USER are needed, PASSWORD must be empty.

    `OPTIONS["rdsiam_region"]` names the region where the host's name doesn't tell it.
    """

    def get_connection_params(self) -> dict[str, Any]:
        """Return what to connect with; called for each new connection."""
        settings = self.settings_dict
        if settings["PASSWORD"]:
            raise ImproperlyConfigured("rdsiam logs in by token: take PASSWORD out of DATABASES")
        if settings["OPTIONS"].get("pool"):
            raise ImproperlyConfigured("Django's pool keeps the first token for ever: use CONN_MAX_AGE instead")
        if not (settings["HOST"] and settings["PORT"] and settings["USER"]):
            raise ImproperlyConfigured("rdsiam needs HOST, PORT and USER in DATABASES")
        params: dict[str, Any] = super().get_connection_params()
        region = params.pop(_REGION, None)
        return params | _login(settings["HOST"], int(settings["PORT"]), settings["USER"], region).psycopg()
