"""Django's MySQL backend, logging in with a fresh token over verified TLS each time it connects."""

from typing import Any

from django.db.backends.mysql import base

from rdsiam.django.mysql.client import DatabaseClient
from rdsiam.django.settings import REGION, login_of


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]  # Django has no types
    """One connection of Django's, by mysqlclient or by PyMySQL in its place.

    HOST, PORT and USER are needed, PASSWORD must be empty. `OPTIONS["region"]` names the region if neither the host's
    name nor AWS_REGION tells it.
    """

    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        """Return what to connect with; called for each new connection."""
        login = login_of(self.settings_dict)
        params: dict[str, Any] = super().get_connection_params()
        params.pop(REGION, None)
        # pymysql.install_as_MySQLdb() puts PyMySQL in mysqlclient's place.
        by_pymysql = base.Database.__name__ == "pymysql"
        return params | (login.pymysql() if by_pymysql else login.mysqlclient())
