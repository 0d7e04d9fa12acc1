"""The successor of a user in access.yaml, and the lines that declare one."""

import json
import re

from rdsiam.access.fields import takes_tokens
from rdsiam.access.users import DeclaredUser


def successor_of(declared: tuple[DeclaredUser, ...], user: str) -> str | None:
    """Return the user that replaces `user` by access.yaml: `user` itself if it is adopted; None if there is none."""
    for candidate in declared:
        if candidate.replaces == user or (candidate.name == user and candidate.adopt):
            return candidate.name
    return None


def lines_to_add(identifier: str, user: str, in_place: bool) -> tuple[str, str]:
    """Return problem and remedy if no successor is declared: the remedy has lines to paste into access.yaml."""
    problem = f"access.yaml declares no successor of {user}"
    if in_place and not takes_tokens(user):
        in_place = False
        problem = f"{user} can't take tokens itself, since no policy of IAM can name it, and {problem}"
    name = json.dumps(user if in_place else _name_of_successor(user))
    lines = (
        f"  - match: {{identifier: {json.dumps(identifier)}}}\n    users:\n"
        f"      - {{name: {name}, replaces: {json.dumps(user, ensure_ascii=False)}, roles: []}}"
    )
    return (
        problem,
        f"add to `databases`, with the role of the application, publish, and run this again:\n{lines}",
    )


def _name_of_successor(user: str) -> str:
    """Return a name for the successor of a user; an administrator may choose another one."""
    name = re.sub(r"[^A-Za-z0-9_.@-]", "_", user)
    return f"{name if takes_tokens(name) else f'u{name}'}_iam"
