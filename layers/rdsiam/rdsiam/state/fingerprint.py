"""Fingerprints: whether anything that an onboarding depends on is other than when it last ended, without a connection.

A fingerprint is made of what Describe says of one database and of the entries of access.yaml that match it. It stays
the same when an entry for another database changes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rdsiam.access.groups import NO_GROUPS
from rdsiam.access.rotation import RotatingUser
from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database
from rdsiam.state.record import KEPT

#: Raised by one whenever onboarding makes something else of the same declaration: every database is then visited once.
FORMAT = 1


def of_declared(users: Sequence[DeclaredUser], rotating: Sequence[RotatingUser] = ()) -> str:
    """Return the fingerprint of what access.yaml declares for one database."""
    declared: list[Any] = [
        {
            "name": user.name,
            "grants": [grant.to_json() for grant in user.grants],
            "roles": user.roles,
            "callers": [caller.model_dump(mode="json") for caller in user.callers],
            "adopt": user.adopt,
            # Left out if there is none, so that other databases keep their fingerprints.
            **({"replaces": user.replaces} if user.replaces else {}),
            **({"connections": user.connections} if user.connections is not None else {}),
            **({"excluded_schemas": user.excluded_schemas} if user.excluded_schemas else {}),
            **({"groups": user.groups._asdict()} if user.groups != NO_GROUPS else {}),
        }
        for user in users
    ]
    return _digest(declared + [asdict(user) for user in rotating])


def of_database(database: Database, declared: str) -> str:
    """Return the fingerprint of a database as it is now, and what is declared for it.

    :param declared: from `of_declared`.
    """
    described = {name: getattr(database, name) for name in KEPT} | {"tags": dict(database.tags)}
    return _digest({"format": FORMAT, "arn": database.arn, "described": described, "declared": declared})


def of_text(text: str) -> str:
    """Return the fingerprint of a text."""
    return _digest(text)


def _digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
