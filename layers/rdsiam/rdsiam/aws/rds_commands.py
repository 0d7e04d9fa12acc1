"""Commands of the AWS CLI about a database, as plans, refusals and remediations print them."""

import shlex

from rdsiam.aws.rds_models import Database


def modify_command(database: Database, *options: str) -> str:
    """Return the command that modifies an instance or a cluster; of a cluster's member, its cluster.

    It names the region: an instance of the same identifier may exist in the region of the caller's profile.
    """
    kind = "cluster" if database.cluster else "instance"
    identifier = database.cluster or database.identifier
    words = ("aws", "rds", f"modify-db-{kind}", f"--db-{kind}-identifier", identifier)
    return shlex.join([*words, *options, "--region", database.region])
