"""`python -m demo.as_master DATABASE STATEMENT`: runs a statement as the master of a PostgreSQL database of localcloud.

It does what an administrator with the master's secret could do at any time, such as creating a user with a password.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import psycopg


def main() -> int:
    """Run the statement in the second argument on the database in the first."""
    if len(sys.argv) != 3:
        sys.stderr.write("usage: python -m demo.as_master DATABASE STATEMENT\n")
        return 2
    done = run_as_master(boto3.client, Path(os.environ["RDSIAM_CA"]), *sys.argv[1:])
    sys.stdout.write(f"{done}\n")
    return 0


def run_as_master(client: Callable[..., Any], ca: Path, identifier: str, statement: str) -> str:
    """Log in with the password in the master's secret, run a statement, and return what the server answers.

    :param client: makes clients of AWS's services.
    :param ca: the certificate authority of the database.
    """
    (instance,) = client("rds").describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
    secret = instance["MasterUserSecret"]["SecretArn"]
    value = json.loads(client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"])
    with psycopg.connect(
        host=instance["Endpoint"]["Address"],
        port=instance["Endpoint"]["Port"],
        user=value["username"],
        password=value["password"],
        dbname=instance["DBName"],
        sslmode="verify-full",
        sslrootcert=str(ca),
    ) as connection:
        return connection.execute(statement.encode()).statusmessage or ""


if __name__ == "__main__":
    sys.exit(main())
