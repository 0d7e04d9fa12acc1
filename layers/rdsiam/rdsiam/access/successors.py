"""Names of successors, which log in by token in place of users with passwords, and the items that declare them."""

import re
from typing import Any

from rdsiam.access.fields import longest_name, takes_tokens
from rdsiam.aws.rds_models import Database

_SUFFIX = "_iam"


def successor_name(database: Database, user: str) -> str:
    """Return a name for the successor of a user, as long as the engine allows; a publisher may choose another one."""
    name = re.sub(r"[^A-Za-z0-9_.@-]", "_", user)
    name = name if takes_tokens(name) else f"u{name}"
    return name[: longest_name(database.engine) - len(_SUFFIX)] + _SUFFIX


def successor_item(user: str, successor: str) -> dict[str, Any]:
    """Return the item of `databases` in access.yaml that declares a successor, still without a role."""
    return {"users": [{"name": successor, "replaces": user, "roles": []}]}
