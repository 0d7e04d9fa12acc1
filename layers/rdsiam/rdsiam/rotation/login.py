"""Logins with what a secret holds: to the database that Describe points to, never in clear text."""

from typing import Any

from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.value import Secret
from rdsiam.engines.connection import ASKS_FOR_TOKEN
from rdsiam.engines.logins import Password
from rdsiam.engines.rotation import Rotator
from rdsiam.errors import ConnectionFailed, Refused


def log_in(engine: Rotator, database: Database, secret: Secret) -> Any | None:
    """Log in with a version of a secret; None where the password is wrong, and for that reason alone.

    :return: a session, to be closed by the caller.
    :raises Refused: the server asks for a token.
    :raises ConnectionFailed: for any other reason.
    """
    login = Password(secret.user, secret.password, "scram-sha-256,md5", never_clear=True)
    try:
        return engine.connect(database, login, secret.database)
    except ConnectionFailed as error:
        if error.server_code == ASKS_FOR_TOKEN:
            raise Refused(
                f"{secret.user} is an IAM user and logs in by token: nothing needs its secret; turn rotation off "
                "(aws secretsmanager cancel-rotate-secret) and delete it"
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
