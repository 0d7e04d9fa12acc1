"""`python -m demo.as_master DATABASE STATEMENT`: runs a statement as the master of a PostgreSQL database of localcloud.

It does what an administrator with the master's secret could do at any time, such as creating a user with a password.
"""

import json
import os
import sys

import boto3
import psycopg


def main() -> int:
    """Log in with the password in the master's secret, and run the statement."""
    if len(sys.argv) != 3:
        sys.stderr.write("usage: python -m demo.as_master DATABASE STATEMENT\n")
        return 2
    instances = boto3.client("rds").describe_db_instances(DBInstanceIdentifier=sys.argv[1])["DBInstances"]
    (instance,) = instances
    secret = instance["MasterUserSecret"]["SecretArn"]
    value = json.loads(boto3.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"])
    with psycopg.connect(
        host=instance["Endpoint"]["Address"],
        port=instance["Endpoint"]["Port"],
        user=value["username"],
        password=value["password"],
        dbname=instance["DBName"],
        sslmode="verify-full",
        sslrootcert=os.environ["RDSIAM_CA"],
    ) as connection:
        sys.stdout.write(f"{connection.execute(sys.argv[2].encode()).statusmessage}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
