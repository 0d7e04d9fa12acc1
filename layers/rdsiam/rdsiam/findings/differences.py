"""Differences of an onboarded database for which an audit starts an onboarding."""

from collections.abc import Mapping
from typing import Literal

DriftPart = Literal["databases", "owners", "policies", "users"]

#: Part → its text. `databases`: some were created or dropped. `owners`: other roles own objects. `users`: they are not
#: as declared. `policies`: roles lost logins.
TEXTS: Mapping[DriftPart, str] = {
    "databases": "databases and schemas",
    "owners": "owners of objects",
    "policies": "policies of roles",
    "users": "users and their privileges",
}
