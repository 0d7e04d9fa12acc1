"""Changes by a new version of access.yaml: logins that are lost and gained, and what exceeds a change limit."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from rdsiam.access.logins import Login, logins
from rdsiam.access.model import AccessFile
from rdsiam.access.selection import select
from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database
from rdsiam.core.arn import Arn, is_arn
from rdsiam.errors import AccessFileInvalid, Refused
from rdsiam.onboarding.limits import limit_file, limit_users

HEADER = ("change", "database", "user", "caller")


@dataclass
class Changes:
    """Changes of a fleet.

    :ivar lost: logins that the new version doesn't give.
    :ivar gained: logins that the old one doesn't give.
    :ivar needs_confirmation: database, or `the fleet` → why its onboarding waits for an operator's confirmation.
    :ivar invalid: database → problems of the new version that exist on this database only.
    """

    lost: set[Login] = field(default_factory=set)
    gained: set[Login] = field(default_factory=set)
    needs_confirmation: dict[str, str] = field(default_factory=dict)
    invalid: dict[str, str] = field(default_factory=dict)

    def rows(self, short: bool) -> list[tuple[str, str, str, str]]:
        """Return change, database, user and caller, lost logins first.

        :param short: name roles without partition and service.
        """
        return [
            (change, login.database, login.user, _short(login.caller) if short else login.caller)
            for change, group in (("lost", self.lost), ("gained", self.gained))
            for login in sorted(group)
        ]


def changes(old: AccessFile | None, new: AccessFile, databases: Sequence[Database], at: datetime) -> Changes:
    """Return how the logins of these databases change if one version replaces another.

    :param old: None if there is none, or if it is invalid.
    """
    result = Changes()
    if old is not None:
        with _limit(result, "the fleet"):
            limit_file(len(old.databases), len(new.databases))
    for database in sorted(databases, key=lambda database: database.arn):
        name = database.identifier
        before = _declared(old, database) if old is not None else ()
        try:
            after = new.declared(select(database, None))
        except AccessFileInvalid as error:
            result.invalid[name] = "; ".join(error.problems)
            continue
        held, given = _logins(name, before, at), _logins(name, after, at)
        result.lost |= held - given
        result.gained |= given - held
        leaving = {user.name for user in before} - {user.name for user in after}
        with _limit(result, name):
            limit_users(leaving, len(before), len(after))
    return result


@contextmanager
def _limit(result: Changes, subject: str) -> Iterator[None]:
    """Note the refusal of a limit."""
    try:
        yield
    except Refused as error:
        result.needs_confirmation[subject] = error.problem


def _declared(file: AccessFile, database: Database) -> tuple[DeclaredUser, ...]:
    try:
        return file.declared(select(database, None))
    except AccessFileInvalid:
        return ()  # nothing is declared by a version that is invalid there


def _logins(database: str, users: Iterable[DeclaredUser], at: datetime) -> set[Login]:
    return {login for user in users for login in logins(database, user, at)}


def _short(caller: str) -> str:
    if not is_arn(caller):
        return caller
    role = Arn.parse(caller)
    return f"{role.account}:{role.resource}"
