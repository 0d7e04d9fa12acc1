"""Sessions as manager or as master, and the refusal if a master without a secret takes no token either."""

from dataclasses import replace
from typing import Any

from rdsiam.aws.rds import Database
from rdsiam.aws.rds_commands import modify_command
from rdsiam.core.changes import Authority
from rdsiam.engines.connection import ASKS_FOR_PASSWORD, NO_LOCKS, NO_SLOT
from rdsiam.engines.logins import MANAGER, Logins, Token, manage_master_password
from rdsiam.engines.protocols import Engine
from rdsiam.errors import ConnectionFailed, Refused

#: Text of PostgreSQL's answer to an IAM user whose token is refused.
_TOKEN_REFUSED = "PAM authentication failed"  # noqa: S105  a text, no password
#: Number of MySQL's answer to every login that it refuses.
_ACCESS_DENIED = "1045"


def connect_as(
    authority: Authority,
    engine: Engine,
    logins: Logins,
    database: Database,
    name: str | None,
    source: Database | None = None,
) -> Any:
    """Open a session as manager or as master.

    :param source: the database whose secret opens this one, if this one is a read replica.
    :raises ConnectionFailed: with the stage at which it failed.
    :raises Refused: the master has no secret and takes no token, or its secret is not in the form that RDS writes.
    """
    if authority == "manager":
        return engine.connect(database, logins.manager(database), name)
    source = source or database
    login = logins.master(_with_own_tokens(source, database) if source.master_may_take_tokens else source)
    try:
        return engine.connect(database, login, name)
    except ConnectionFailed as error:
        refused = _refused(source, error, database) if isinstance(login, Token) else None
        if refused is None:
            raise
        raise refused from None


def _with_own_tokens(source: Database, database: Database) -> Database:
    """Return the source as tokens for its replica name it: each has its own endpoint and resource id."""
    return replace(source, arn=database.arn, resource_id=database.resource_id, host=database.host, port=database.port)


def _refused(database: Database, error: ConnectionFailed, opened: Database) -> Refused | None:
    """Return the refusal of a login as master by token; None if the login failed for another reason.

    Advice to let RDS manage the password would take the tokens from a master that is an IAM user. So it is given only
    if the server asks for a password, or with that condition.

    :param opened: the database itself, or its read replica, to which the login was made.
    """
    if error.stage != "login" or error.server_code in NO_SLOT or error.server_code == NO_LOCKS:
        return None
    problem = f"{database.identifier}: {MANAGER} can't log in, or may not do this, and there is no master secret in "
    problem += "Secrets Manager"
    if not opened.iam_enabled:  # so that it asks IAM users for passwords too
        switch = modify_command(opened, "--enable-iam-database-authentication", "--apply-immediately")
        off = f"{problem}; IAM authentication is off on {opened.identifier}"
        return Refused(off, f"run: {switch}", "master-token")
    master, manage = database.master_user, manage_master_password(database)
    if error.server_code == ASKS_FOR_PASSWORD:
        asked = f"{problem}; {master} is no IAM user, since the server asks for its password"
        return Refused(asked, f"run: {manage}", "master-secret")
    permitted = (
        f"check that ProofRole may connect: no SCP and no permissions boundary denies it rds-db:connect on "
        f"{database.connect_arn(master)}"
    )
    if _TOKEN_REFUSED in str(error):
        return Refused(f"{problem}; {master} is an IAM user, and its token was refused", permitted, "master-token")
    if error.server_code == _ACCESS_DENIED:
        either = f"if {master} is an IAM user: {permitted}; only if it has a password, run: {manage}"
        return Refused(f"{problem}; the server refused a token as {master}", either, "master-token")
    return None
