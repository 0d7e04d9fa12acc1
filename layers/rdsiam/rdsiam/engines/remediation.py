"""The SQL that mends findings, whatever the engine: text for people to run, never run by rdsiam itself."""

from collections.abc import Collection, Sequence
from typing import Protocol

from rdsiam.access.users import DeclaredUser
from rdsiam.engines.facts import AccountFacts
from rdsiam.state.escalations import Escalation

#: Databases or schemas, each with a level or a list of SQL privileges; sorted.
Privileges = Sequence[tuple[str, str | tuple[str, ...]]]


class RemediationSql(Protocol):
    """Statements of one family of engines, each complete and ended by a semicolon. Instances hold no state.

    All raise Refused for a name that no statement can hold safely.
    """

    tls_parameter: str

    def tls_value(self, engine: str) -> str:
        """Return the value of `tls_parameter` that refuses logins without TLS."""

    def convert(self, account: AccountFacts) -> Sequence[str]:
        """Return what makes it log in by token over TLS, and by nothing else."""

    def lock(self, account: AccountFacts) -> Sequence[str]:
        """Return what keeps anybody from logging in as it; it keeps what it owns and what it was granted."""

    def unlock(self, account: AccountFacts) -> Sequence[str]:
        """Return what lets a declared user log in by token again."""

    def drop(self, account: AccountFacts) -> Sequence[str]:
        """Return what removes it."""

    def require_tls(self, account: AccountFacts) -> Sequence[str]:
        """Return what refuses its logins without TLS."""

    def discard_second_password(self, account: AccountFacts, engine: str) -> Sequence[str]:
        """Return what takes the ways in beside the token."""

    def take_iam(self, account: AccountFacts) -> Sequence[str]:
        """Return what makes it log in by its password again; nothing where that takes a new password."""

    def take_membership(self, group: str, account: AccountFacts) -> Sequence[str]:
        """Return what takes it out of a role."""

    def stop_replicating(self, account: AccountFacts) -> Sequence[str]:
        """Return what makes it an ordinary user."""

    def grant(self, account: AccountFacts, on: str, privileges: str | Sequence[str]) -> Sequence[str]:
        """Return what gives it a level, or a list of privileges, on a database or schema."""

    def revoke(self, account: AccountFacts, on: str, privileges: str | Sequence[str]) -> Sequence[str]:
        """Return what takes them."""

    def user_of(self, label: str) -> str:
        """Return the user of an account that people write like that, without the host pattern."""

    def held(self, accounts: Sequence[AccountFacts], databases: Sequence[str]) -> tuple[str, Sequence[str]]:
        """Return a level that covers what it holds, and where it holds something: a proposal for access.yaml."""

    def differences(
        self, account: AccountFacts, user: DeclaredUser, databases: Sequence[str], ours: Collection[str]
    ) -> tuple[Privileges, Privileges]:
        """Return what it lacks, and what rdsiam gave it and isn't declared (any more).

        :param ours: accounts and groups that rdsiam made.
        """

    def absent(self, user: DeclaredUser, databases: Sequence[str]) -> Sequence[str]:
        """Return what it is declared on, doesn't exist and so stands in onboarding's way."""

    def give_objects(self, account: AccountFacts, successor: str) -> str:
        """Return what makes `successor` the owner of all that it owns in one database."""

    def end_escalation(self, escalation: Escalation) -> Sequence[str]:
        """Return what takes from a role the ways to act as an administrator."""

    def create_database(self, name: str) -> str:
        """Return what makes a database or schema."""
