"""Patches of moto's settings."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from localcloud.moto_patches.patch import Patch

#: moto reads these variables itself: code is run from where it lies, not from a bucket; and moto's limit of snapshots
#: counts automated ones, which RDS's does not.
ENVIRONMENT = {
    "VALIDATE_LAMBDA_S3": "false",
    "MOTO_RDS_SNAPSHOT_LIMIT": "1000000",
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
}


def set_environment() -> None:
    """Set the variables that moto reads."""
    os.environ |= ENVIRONMENT


def _changed_config(config: Any) -> Any:
    config["iam"]["load_aws_managed_policies"] = True
    config["lambda"]["use_docker"] = False
    return config  # the same object, since moto's modules hold it


class UserConfig(Patch):
    """AWS has its managed policies in every account. moto: leaves them out, and starts containers for functions."""

    target = "moto.core.config"
    changed_values: ClassVar = {"default_user_config": _changed_config}


class BucketNames(Patch):
    """The judge reads the bucket from the path: a host name must not tell moto another one."""

    changed_values: ClassVar = {"S3_IGNORE_SUBDOMAIN_BUCKETNAME": lambda _: True}

    def __init__(self, target: str) -> None:
        self.target = target
