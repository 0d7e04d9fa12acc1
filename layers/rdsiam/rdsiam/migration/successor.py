"""The successor of a user in access.yaml, and the lines that declare one."""

from rdsiam.access.fields import takes_tokens
from rdsiam.access.lines import lines_for
from rdsiam.access.successors import successor_item, successor_name
from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds_models import Database


def successor_of(declared: tuple[DeclaredUser, ...], user: str) -> str | None:
    """Return the user that replaces `user` by access.yaml: `user` itself if it is adopted; None if there is none."""
    for candidate in declared:
        if candidate.replaces == user or (candidate.name == user and candidate.adopt):
            return candidate.name
    return None


def lines_to_add(database: Database, user: str, in_place: bool) -> tuple[str, str]:
    """Return problem and remedy if no successor is declared: the remedy has lines to paste into access.yaml."""
    problem = f"access.yaml declares no successor of {user}"
    if in_place and not takes_tokens(user):
        in_place = False
        problem = f"{user} can't take tokens itself, since no policy of IAM can name it, and {problem}"
    successor = user if in_place else successor_name(database, user)
    lines = lines_for(database, successor_item(user, successor))
    if lines is None:
        return problem, "access.yaml can't name this user: rename it, then run this again"
    return (
        problem,
        f"add to `databases`, with the role of the application, publish, and run this again:\n{lines}",
    )
