"""Users and clients that run the steps of a remediation, named so that nobody has to guess them."""

from dataclasses import dataclass
from functools import lru_cache

from rdsiam.aws.rds import Database
from rdsiam.core import shell

#: The bundle of certificates that RDS's documentation has its clients verify servers with.
_CERTIFICATES = "global-bundle.pem"


@dataclass(frozen=True)
class Runner:
    """The user that runs a step, and the client.

    :ivar user: as in `Remediation.user`.
    :ivar client: as in `Remediation.client`.
    """

    user: str
    client: str


OPERATOR = Runner("an operator (the stack's parameter Operators)", "rdsiam")
PUBLISHER = Runner("a publisher of access.yaml", "rdsiam access publish access.yaml")
STACK_OWNER = Runner("the owner of the stack that has the resource", "CloudFormation")


def master(database: Database, name: str | None = None) -> Runner:
    """Return the master user, with a client that opens the database `name`; by default the one of the instance."""
    return Runner(f"{database.master_user}, the master", _client(database, database.master_user, name))


def owner(database: Database, role: str, name: str) -> Runner:
    """Return a role that owns objects of the database `name`, with a client."""
    return Runner(f"{role}, or a member of it", _client(database, role, name))


def by_token(database: Database, user: str) -> Runner:
    """Return a user of PostgreSQL that logs in by token, with a client that signs it with the caller's permissions."""
    client = _client(database, user, None)
    if database.host is None:
        return Runner(user, client)
    words = ("aws", "rds", "generate-db-auth-token", "--hostname", database.host, "--port", str(database.port))
    token = shell.join([*words, "--username", user, "--region", database.region])
    return Runner(user, f'PGPASSWORD="$({token})" {client}')


def aws(service: str, operation: str) -> Runner:
    """Return the principal of AWS that may call an operation, which is named as the AWS CLI names it."""
    action = "".join("DB" if word == "db" else word.capitalize() for word in operation.split("-"))
    return Runner(f"a principal of AWS with {service}:{action}", "AWS CLI")


def _program(database: Database) -> str:
    if database.family == "postgres":
        return "psql"
    return "mariadb" if database.engine == "mariadb" else "mysql"


def _client(database: Database, user: str, name: str | None) -> str:
    """Return the command line of a client that verifies the server and asks for the password."""
    program = _program(database)
    if database.host is None:
        return program
    place = (database.host, str(database.port), user)
    return (
        _psql(*place, name or database.default_database or "postgres") if program == "psql" else _mysql(program, *place)
    )


@lru_cache(maxsize=256)
def _psql(host: str, port: str, user: str, name: str) -> str:
    parts = {"host": host, "port": port, "user": user, "dbname": name, "sslmode": "verify-full"}
    parts["sslrootcert"] = _CERTIFICATES
    return shell.join(["psql", " ".join(f"{key}={_quoted(value)}" for key, value in parts.items())])


@lru_cache(maxsize=256)
def _mysql(program: str, host: str, port: str, user: str) -> str:
    options = (f"--host={host}", f"--port={port}", f"--user={user}", f"--ssl-ca={_CERTIFICATES}")
    return shell.join([program, *options, "--password"])


def _quoted(value: str) -> str:
    """Quote a value of a connection string of libpq, if it needs that."""
    if value and not set(value) & set(" '\\\t\r\n\v\f"):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
