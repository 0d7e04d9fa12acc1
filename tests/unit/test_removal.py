"""The result of a removal survives a checkpoint."""

import json

from rdsiam.changes import Change, Unreached
from rdsiam.removal import Removal


def test_a_removal_is_the_same_after_a_checkpoint():
    removal = Removal(
        (Change("disable-user", "app", 'ALTER ROLE "app" NOLOGIN'), Change("end-sessions", "app", "SELECT", False)),
        (Unreached("arn:aws:rds:eu-west-1:123456789012:db:replica", "it is rebooting", "run this again"),),
    )
    assert Removal.from_json(json.loads(json.dumps(removal.to_json()))) == removal
