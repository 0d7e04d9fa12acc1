"""Logins with the passwords of secrets: to the endpoint that Describe returns, never in clear text."""

from typing import Any

from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.value import Secret
from rdsiam.engines.connection import ASKS_FOR_TOKEN
from rdsiam.engines.logins import Password
from rdsiam.engines.rotation import Rotator
from rdsiam.errors import ConnectionFailed, Refused


def log_in(engine: Rotator, database: Database, secret: Secret) -> Any | None:
    """Log in with a version of a secret; None if the password is wrong; every other failure raises.

    :return: a session, which the caller closes.
    :raises Refused: the server asks for a token.
    :raises ConnectionFailed: for any other reason.
    """
    login = Password(secret.user, secret.password, "scram-sha-256,md5", never_clear=True)
    try:
        return engine.connect(database, login, secret.database)
    except ConnectionFailed as error:
        if error.server_code == ASKS_FOR_TOKEN:
            raise Refused(
                f"{secret.user} is an IAM user and logs in by token, so nothing needs its secret",
                "switch its rotation off (aws secretsmanager cancel-rotate-secret) and delete it",
                "iam-user",
            ) from None
        if engine.wrong_password(error):
            return None
        raise


def logs_in(engine: Rotator, database: Database, secret: Secret) -> bool:
    """Tell whether a version of a secret logs in; raises as `log_in` does."""
    session = log_in(engine, database, secret)
    if session is None:
        return False
    session.close()
    return True
