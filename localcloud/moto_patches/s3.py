"""Patches of moto's S3."""

from __future__ import annotations

from typing import Any

from moto.iam.access_control import PermissionResult

from localcloud.moto_patches.patch import Patch, replaces


class BucketPolicies(Patch):
    """Bucket policies."""

    target = "moto.s3.models.FakeBucket"

    @replaces
    def get_permission(self, _: Any, __: Any, *___: Any) -> PermissionResult:
        """Leave the decision to the judge.

        AWS: bucket policies are judged with their conditions. moto: ignores conditions, so that every Deny denies all.
        """
        return PermissionResult.NEUTRAL
