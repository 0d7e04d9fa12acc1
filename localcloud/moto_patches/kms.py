"""Patches of moto's KMS."""

from __future__ import annotations

import json
from typing import Any

from localcloud.moto_patches.patch import Patch, replaces


class Keys(Patch):
    """Keys."""

    target = "moto.kms.models.KmsBackend"

    @replaces
    def create_key(self, original: Any, backend: Any, policy: Any, *arguments: Any, **named: Any) -> Any:
        """Create a key.

        AWS: a key's policy is text, in whichever way it was given. moto: keeps what CloudFormation gives it.
        """
        return original(backend, json.dumps(policy) if isinstance(policy, dict) else policy, *arguments, **named)
