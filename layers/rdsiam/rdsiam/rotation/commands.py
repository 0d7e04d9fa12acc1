"""Commands of `rdsiam rotate` that messages advise, with the database and the user that they are about."""

from rdsiam.core import shell


def set_up(database: str, user: str, *options: str) -> str:
    """Return the command that sets the schedule of a user's secret."""
    return _command("set-up", database, user, *options)


def unstick(database: str, user: str) -> str:
    """Return the command that gives up a rotation that never ends."""
    return _command("unstick", database, user)


def now(database: str, user: str) -> str:
    """Return the command that rotates at once."""
    return _command("now", database, user)


def _command(verb: str, database: str, user: str, *options: str) -> str:
    words = ["rdsiam", "rotate", verb]
    if user.startswith("-"):  # it would be taken for an option
        return shell.join((*words, *options, database, "--", user))
    return shell.join((*words, database, user, *options))
