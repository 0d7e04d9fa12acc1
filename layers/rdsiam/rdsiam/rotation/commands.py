"""Commands of `rdsiam rotate` that messages advise, with the database and the user that they are about."""

import shlex


def set_up(database: str, user: str, *options: str) -> str:
    """Return the command that sets the schedule of a user's secret."""
    return shlex.join(("rdsiam", "rotate", "set-up", database, user, *options))


def unstick(database: str, user: str) -> str:
    """Return the command that gives up a rotation that never ends."""
    return shlex.join(("rdsiam", "rotate", "unstick", database, user))


def now(database: str, user: str) -> str:
    """Return the command that rotates at once."""
    return shlex.join(("rdsiam", "rotate", "now", database, user))
