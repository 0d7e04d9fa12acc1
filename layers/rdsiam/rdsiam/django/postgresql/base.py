"""Django's PostgreSQL backend, logging in with a fresh token over verified TLS each time it connects."""

from importlib.metadata import version
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base, psycopg_any

from rdsiam.django.postgresql.client import DatabaseClient
from rdsiam.django.settings import REGION, login_of

#: The first version of psycopg_pool that asks for the arguments of each connection.
_FRESH_ARGUMENTS = (3, 3)


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]  # Django has no types
    """One connection of Django's. HOST, PORT and USER are needed, PASSWORD must be empty.

    `OPTIONS["region"]` names the region if neither the host's name nor AWS_REGION tells it.
    """

    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        """Return what to connect with; called for each new connection."""
        login = login_of(self.settings_dict)
        params: dict[str, Any] = super().get_connection_params()
        params.pop(REGION, None)
        return params | (login.psycopg() if psycopg_any.is_psycopg3 else login.psycopg2())

    @property
    def pool(self) -> Any:
        """The pool of `OPTIONS["pool"]`, None without; it isn't open yet when it is made.

        Django would give it the first token for all connections.
        """
        pool = super().pool
        if pool is None or callable(pool.kwargs):
            return pool
        installed = version("psycopg-pool")
        if tuple(map(int, installed.split(".")[:2])) < _FRESH_ARGUMENTS:
            raise ImproperlyConfigured(f'OPTIONS["pool"] needs psycopg_pool 3.3 or newer, not {installed}')
        login, others = login_of(self.settings_dict), pool.kwargs
        pool.kwargs = lambda: others | login.psycopg()
        return pool
