"""Logins that access.yaml declares: who logs in as which user of which database."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from rdsiam.access.change_limit import caller_name
from rdsiam.access.users import DeclaredUser


@dataclass(frozen=True, order=True)
class Login:
    """A login of a caller, or of a role that signs tokens itself, as a user of a database.

    :ivar caller: ARN of the role, or the claims as JSON; empty for a user that nobody may log in as.
    """

    database: str
    user: str
    caller: str


def logins(database: str, user: DeclaredUser, at: datetime) -> Iterator[Login]:
    """Yield the logins as a user at that time; one without a caller if there are none."""
    callers = {caller_name(rule) for rule in user.callers if rule.until is None or at < rule.until}
    for caller in sorted(callers | set(user.roles)) or [""]:
        yield Login(database, user.name, caller)
