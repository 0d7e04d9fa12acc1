"""Steps of rotations in processes of their own, which end at a point without another word."""

import contextlib
import os
from collections.abc import Callable

import boto3

from rdsiam.aws.rds import Database
from rdsiam.errors import RotationFailed
from rdsiam.events.rotate import RotationRequest, Step
from rdsiam.state.record import SecretRecord
from tests.integration.children import preload
from tests.integration.rotation.rotating import REGION, Fault, OneDatabase, Rotating, faulty_rotation

preload(__name__)
_SESSION = boto3.Session("testing", "testing", region_name=REGION)
_SESSION.client("secretsmanager")  # reads botocore's model of it, which would take each child longer than its step

#: Runs a step until a point, counted from 0, and returns whether the process died there.
DieAt = Callable[[Rotating, Step, str, int], bool]


class _Deadly(Fault):
    def strikes(self) -> bool:
        if super().strikes():
            os._exit(9)
        return False


def run_until(
    request: RotationRequest, point: int, database: Database, user: str, record: SecretRecord, endpoint: str, ca: str
) -> None:
    os.environ["RDSIAM_CA"] = ca
    client = _SESSION.client("secretsmanager", endpoint_url=endpoint)
    with contextlib.suppress(RotationFailed):
        faulty_rotation(client, OneDatabase(database, user, record), _Deadly(point))[0].run(request)
