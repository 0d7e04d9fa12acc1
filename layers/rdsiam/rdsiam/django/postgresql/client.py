"""psql, opened by `manage.py dbshell` with a fresh token over verified TLS."""

from collections.abc import Mapping
from typing import Any

from django.db.backends.postgresql import client

from rdsiam.django.settings import login_of
from rdsiam.tokens.trust import ca_for


class DatabaseClient(client.DatabaseClient):  # type: ignore[misc]  # Django has no types
    """The client that dbshell opens."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: Mapping[str, Any], parameters: list[str]
    ) -> tuple[list[str], dict[str, str]]:
        """Return the command and its variables; the token is one of these."""
        login = login_of(settings_dict)
        command, variables = super().settings_to_cmd_args_env(settings_dict, parameters)
        return command, (variables or {}) | {
            "PGPASSWORD": login.token(),
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": ca_for(login.host),
            "PGGSSENCMODE": "disable",
            "PGREQUIREAUTH": "password",
        }
