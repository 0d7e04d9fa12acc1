"""Django's PostgreSQL backend, logging in with a fresh token over verified TLS each time it connects."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base, psycopg_any

from rdsiam.django.postgresql.client import DatabaseClient
from rdsiam.django.settings import REGION, login_of


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]  # Django has no types
    """One connection of Django's. HOST, PORT and USER are needed, PASSWORD must be empty.

    `OPTIONS["region"]` names the region if neither the host's name nor AWS_REGION tells it.
    """

    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        """Return what to connect with; called for each new connection."""
        login = login_of(self.settings_dict)
        if self.settings_dict["OPTIONS"].get("pool"):
            raise ImproperlyConfigured("Django's pool keeps the first token for ever: use CONN_MAX_AGE instead")
        params: dict[str, Any] = super().get_connection_params()
        params.pop(REGION, None)
        return params | (login.psycopg() if psycopg_any.is_psycopg3 else login.psycopg2())
