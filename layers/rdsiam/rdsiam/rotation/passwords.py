"""New passwords, from the operating system's random numbers, of characters that need no quoting."""

import secrets
import string

from rdsiam.aws.rds import Family
from rdsiam.aws.secrets.value import PasswordRules
from rdsiam.errors import InvalidRequest

#: A password has a character of each kind, as password policies ask. The marks are allowed by RDS for masters, and need
#: no quoting in a shell's double quotes, a URL, a connection string or a properties file.
CHARACTER_KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "*+,-.=_~")
SHORTEST = 8
#: RDS's limits for its own users; for MySQL and MariaDB the limit of the older versions.
LONGEST: dict[Family, int] = {"postgres": 128, "mysql": 41}


def new_password(rules: PasswordRules, family: Family) -> str:
    """Return a password that has at least one character of each kind that the rules allow.

    :raises InvalidRequest: too few characters are left for a safe password, or the length is out of bounds.
    """
    if not SHORTEST <= rules.length <= LONGEST[family]:
        raise InvalidRequest("password length", f"must be {SHORTEST} to {LONGEST[family]} characters on this engine")
    kinds = ["".join(c for c in kind if c not in rules.excluded) for kind in CHARACTER_KINDS]
    kinds = [kind for kind in kinds if kind]
    allowed = "".join(kinds)
    if len(allowed) < 10:
        raise InvalidRequest("excluded characters", "leave fewer than 10 characters for a password; exclude fewer")
    while True:
        password = "".join(secrets.choice(allowed) for _ in range(rules.length))
        if all(set(kind) & set(password) for kind in kinds):
            return password
