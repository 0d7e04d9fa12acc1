"""New passwords, from the operating system's random numbers, of characters that no engine, shell or URL minds."""

import secrets
import string

from rdsiam.aws.rds import Family
from rdsiam.aws.secrets.value import PasswordRules
from rdsiam.errors import InvalidRequest

#: One of each kind, as password policies ask. Of the marks those that RDS's masters may hold and that need no quoting
#: in a shell's double quotes, a URL, a connection string or a properties file.
KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "*+,-.=_~")
SHORTEST = 8
#: RDS's limits for its own users; MySQL's and MariaDB's is the older one.
LONGEST: dict[Family, int] = {"postgres": 128, "mysql": 41}


def new_password(rules: PasswordRules, family: Family) -> str:
    """Return a password that has at least one character of each kind that the rules leave.

    :raises InvalidRequest: so much is excluded that passwords could be guessed, or the length is out of bounds.
    """
    if not SHORTEST <= rules.length <= LONGEST[family]:
        raise InvalidRequest("password length", f"must be {SHORTEST} to {LONGEST[family]} characters on this engine")
    kinds = ["".join(c for c in kind if c not in rules.excluded) for kind in KINDS]
    kinds = [kind for kind in kinds if kind]
    everything = "".join(kinds)
    if len(everything) < 10:
        raise InvalidRequest("excluded characters", "leave fewer than 10 to make a password of")
    while True:
        password = "".join(secrets.choice(everything) for _ in range(rules.length))
        if all(set(kind) & set(password) for kind in kinds):
            return password
