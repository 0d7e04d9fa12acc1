"""Logins of the auditor for the tests' servers, and their dialect of MySQL."""

from rdsiam.aws.rds import Database
from rdsiam.engines.logins import AUDITOR, Token
from tests.integration.audit.mysql_accounts import DIALECTS, Dialect
from tests.integration.place import Place


class Tokens:
    """Makes the auditor's logins for the tests' servers."""

    def __init__(self, secret: str = f"token-of-{AUDITOR}") -> None:
        self.secret = secret
        self.asked = 0

    def auditor(self, database: Database) -> Token:  # noqa: ARG002
        self.asked += 1
        return Token(AUDITOR, self.secret)


def dialect(place: Place) -> Dialect:
    return DIALECTS[place.database.engine]
