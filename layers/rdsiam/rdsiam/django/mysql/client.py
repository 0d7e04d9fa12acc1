"""mysql, opened by `manage.py dbshell` with a fresh token over verified TLS."""

from collections.abc import Mapping
from typing import Any

from django.db.backends.mysql import client

from rdsiam.django.settings import login_of
from rdsiam.tokens import mysql_clients

#: Options of Django's that would replace a part of the login.
_LOGIN = {"host", "port", "read_default_file", "ssl", "ssl_mode", "user"}


class DatabaseClient(client.DatabaseClient):  # type: ignore[misc]  # Django has no types
    """The client that dbshell opens: MySQL's or MariaDB's."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: Mapping[str, Any], parameters: list[str]
    ) -> tuple[list[str], dict[str, str]]:
        """Return the command and its variables; the token is one of these."""
        login = login_of(settings_dict)
        options = {name: value for name, value in settings_dict["OPTIONS"].items() if name not in _LOGIN}
        others = {"OPTIONS": options, "HOST": "", "PORT": "", "USER": ""}
        command, _ = super().settings_to_cmd_args_env({**settings_dict, **others}, parameters)
        files = ["--no-defaults"] if mysql_clients.other_password() else []
        flags = mysql_clients.flags(command[0], login.host, login.port, login.user)
        return [command[0], *files, *flags, *command[1:]], {
            "MYSQL_PWD": login.token(),
            **mysql_clients.NO_LOGIN_PATHS,
        }
