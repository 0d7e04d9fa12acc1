"""The SQL that remediates findings, whatever the engine: text for people to run, never run by rdsiam itself."""

from collections.abc import Collection, Sequence
from typing import Protocol

from rdsiam.access.groups import NO_GROUPS, Groups
from rdsiam.access.users import DeclaredUser
from rdsiam.engines.facts import AccountFacts
from rdsiam.state.escalations import Escalation

#: Databases or schemas, each with a level or a list of SQL privileges; sorted.
Privileges = Sequence[tuple[str, str | tuple[str, ...]]]
#: A level or a list of SQL privileges.
Granted = str | Sequence[str]


class RemediationSql(Protocol):
    """Statements of one family of engines, each complete and ended by a semicolon. Instances hold no state.

    All methods raise Refused for a name that no statement can hold safely.
    """

    #: The parameter that makes the server refuse logins without TLS.
    tls_parameter: str
    #: The query that shows the open sessions without TLS.
    sessions_without_tls: str

    def tls_value(self, engine: str) -> str:
        """Return the value of `tls_parameter` that refuses logins without TLS."""

    def convert(self, account: AccountFacts) -> Sequence[str]:
        """Return the statements after which the account logs in by token over TLS, and in no other way."""

    def lock(self, account: AccountFacts) -> Sequence[str]:
        """Return the statements that lock the account; it keeps its objects and privileges."""

    def unlock(self, account: AccountFacts) -> Sequence[str]:
        """Return the statements that let a declared user log in by token again."""

    def drop(self, account: AccountFacts) -> Sequence[str]:
        """Return the statements that drop the account."""

    def require_tls(self, account: AccountFacts) -> Sequence[str]:
        """Return the statements that refuse the account's logins without TLS."""

    def discard_second_password(self, account: AccountFacts, engine: str) -> Sequence[str]:
        """Return the statements that remove all login methods besides the token."""

    def remove_iam(self, account: AccountFacts) -> Sequence[str]:
        """Return the statements after which the account logs in by its password again; none if it needs a new one."""

    def remove_membership(self, group: str, account: AccountFacts) -> Sequence[str]:
        """Return the statements that remove the account from a role."""

    def stop_replicating(self, account: AccountFacts) -> Sequence[str]:
        """Return the statements that take the right to replicate from the account."""

    def grant(self, account: AccountFacts, on: str, privileges: Granted, groups: Groups = NO_GROUPS) -> Sequence[str]:
        """Return the statements that grant a level, or a list of privileges, on a database or schema.

        :param groups: what is declared about the groups of a PostgreSQL server.
        """

    def revoke(self, account: AccountFacts, on: str, privileges: Granted, groups: Groups = NO_GROUPS) -> Sequence[str]:
        """Return the statements that revoke them."""

    def user_of(self, label: str) -> str:
        """Return the user in the label of an account, without the host pattern."""

    def held(self, accounts: Sequence[AccountFacts], databases: Sequence[str]) -> tuple[str, Sequence[str]]:
        """Return a level that covers the accounts' privileges, and where they have any: a proposal for access.yaml."""

    def differences(
        self, account: AccountFacts, user: DeclaredUser, databases: Sequence[str], managed: Collection[str]
    ) -> tuple[Privileges, Privileges]:
        """Return the privileges that the account lacks, and those that rdsiam granted and that are not declared.

        :param managed: accounts that rdsiam created, and groups that it manages.
        """

    def absent(self, user: DeclaredUser, databases: Sequence[str]) -> Sequence[str]:
        """Return the databases that the user is declared on and whose absence makes onboarding fail."""

    def give_objects(self, account: AccountFacts, successor: str) -> str:
        """Return the statement that makes `successor` the owner of all objects of the account in one database."""

    def end_escalation(self, escalation: Escalation) -> Sequence[str]:
        """Return the statements that take from a role its ways to act as an administrator."""

    def administer(self, name: str, manager: AccountFacts) -> Sequence[str]:
        """Return the statements after which `rdsiam_manager` may change an account or role again."""

    def close_schema(self, schema: str) -> str:
        """Return the statement after which not everybody may create objects in a schema."""

    def create_database(self, name: str) -> str:
        """Return the statement that creates a database or schema."""
