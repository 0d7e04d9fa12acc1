"""Events of Secrets Manager to RotateFunction."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rdsiam.errors import InvalidRequest
from rdsiam.events import fields

Step = Literal["createSecret", "setSecret", "testSecret", "finishSecret"]
STEPS: tuple[Step, ...] = get_args(Step)
_LONGEST_PROOF = 4096


@dataclass(frozen=True)
class RotationRequest:
    """A step of a rotation, as Secrets Manager asks RotateFunction for it.

    :ivar secret: ARN.
    :ivar token: id of the version that is to become the current one.
    :ivar rotation_token: proves to Secrets Manager that the caller is the function that it invoked; a secret.
    """

    step: Step
    secret: str
    token: str
    rotation_token: str | None = field(default=None, repr=False)


def rotation_request(event: Any) -> RotationRequest:
    """Read an event of Secrets Manager.

    :raises InvalidRequest: naming the field.
    """
    if not isinstance(event, Mapping):
        raise InvalidRequest("event", "must be a JSON object")
    step, token, proof = (event.get(name) for name in ("Step", "ClientRequestToken", "RotationToken"))
    if not isinstance(step, str) or step not in STEPS:
        raise InvalidRequest("Step", f"must be one of {', '.join(STEPS)}")
    secret = fields.secret(event, "SecretId")
    if not isinstance(token, str) or re.fullmatch(r"[A-Za-z0-9-]{32,64}", token) is None:
        raise InvalidRequest("ClientRequestToken", "must be the id of a version, 32 to 64 letters, digits and dashes")
    if proof is not None and (not isinstance(proof, str) or not 0 < len(proof) <= _LONGEST_PROOF):
        raise InvalidRequest("RotationToken", "must be text")
    return RotationRequest(step, secret, token, proof)
