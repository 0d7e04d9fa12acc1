"""What mends findings on MySQL and MariaDB, as SQL that an administrator runs by hand."""

import re
from collections.abc import Collection, Sequence

import pymysql

from rdsiam.access.users import DeclaredUser
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.mysql.engine import LEVELS, schema_pattern
from rdsiam.engines.mysql.grants import identifier
from rdsiam.errors import Refused
from rdsiam.state.escalations import Escalation

_TOKENS_ONLY = "IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL"
#: Schemas, each with SQL privileges.
Privileges = Sequence[tuple[str, str | tuple[str, ...]]]


def _on(account: AccountFacts, schema: str) -> frozenset[str]:
    """Return what it holds on a schema, however that was spelled when it was granted."""
    return frozenset(account.privileges.get(schema, ())) | frozenset(account.privileges.get(schema_pattern(schema), ()))


def _literal(value: str) -> str:
    """Quote a text for a statement that people paste, whatever `sql_mode` their session has.

    A quote is doubled, never escaped: where NO_BACKSLASH_ESCAPES is on, `\\'` would end the text.
    """
    return "'" + pymysql.converters.escape_string(value).replace("\\'", "''") + "'"


def _name(account: AccountFacts) -> str:
    return f"{_literal(account.name)}@{_literal(account.host)}"


def _schema(name: str) -> str:
    """Quote a schema's name.

    :raises Refused: the `mysql` client would read a backslash before the closing quote as its own, and whatever
        follows as a command. No statement is better than that one.
    """
    quoted = identifier(name)
    if not re.fullmatch(r"(?:[^\\`]|``|\\[^`])*", quoted[1:-1], re.DOTALL):
        raise Refused("a schema's name can't be written so that every client reads it alike")
    return quoted


class MysqlRemediationSql:
    """The statements for `mysql`, `mariadb` and Aurora MySQL."""

    #: What refuses logins without TLS.
    tls_parameter = "require_secure_transport"

    def tls_value(self, engine: str) -> str:
        """Return the value of `tls_parameter` that refuses logins without TLS."""
        return "ON" if engine.startswith("aurora") else "1"

    def convert(self, account: AccountFacts) -> Sequence[str]:
        """Return what makes it log in by token; its password is gone for good, its grants stay."""
        return [f"ALTER USER {_name(account)} {_TOKENS_ONLY};"]

    def lock(self, account: AccountFacts) -> Sequence[str]:
        """Return what keeps anybody from logging in as it."""
        return [f"ALTER USER {_name(account)} ACCOUNT LOCK;"]

    def unlock(self, account: AccountFacts) -> Sequence[str]:
        """Return what lets a declared user log in by token again."""
        return [f"ALTER USER {_name(account)} {_TOKENS_ONLY} ACCOUNT UNLOCK;"]

    def drop(self, account: AccountFacts) -> Sequence[str]:
        """Return what removes it."""
        return [f"DROP USER {_name(account)};"]

    def require_tls(self, account: AccountFacts) -> Sequence[str]:
        """Return what refuses its logins without TLS."""
        return [f"ALTER USER {_name(account)} REQUIRE SSL;"]

    def discard_second_password(self, account: AccountFacts, engine: str) -> Sequence[str]:
        """Return what makes it take tokens only. MariaDB names all ways in anew; MySQL keeps the old one beside."""
        return self.convert(account) if engine == "mariadb" else [f"ALTER USER {_name(account)} DISCARD OLD PASSWORD;"]

    def take_iam(self, account: AccountFacts) -> Sequence[str]:  # noqa: ARG002
        """Return nothing: a password would have to be in the statement."""
        return []

    def take_membership(self, group: str, account: AccountFacts) -> Sequence[str]:
        """Return what takes the role `group` from it."""
        return [f"REVOKE {_literal(group)} FROM {_name(account)};"]

    def stop_replicating(self, account: AccountFacts) -> Sequence[str]:
        """Return what makes it an ordinary user."""
        return [f"REVOKE REPLICATION SLAVE ON *.* FROM {_name(account)};"]

    def grant(self, account: AccountFacts, on: str, privileges: str | Sequence[str]) -> Sequence[str]:
        """Return what gives it privileges on a schema."""
        return [f"GRANT {_list(privileges)} ON {_schema(schema_pattern(on))}.* TO {_name(account)};"]

    def revoke(self, account: AccountFacts, on: str, privileges: str | Sequence[str]) -> Sequence[str]:
        """Return what takes privileges on a schema, or on everything (`*`), from it.

        :raises Refused: the name has a `_` or `%`, which may have been granted as a wildcard or escaped: a REVOKE has
            to spell it alike. Onboarding sees which.
        """
        if on == "*":
            return [f"REVOKE {_list(privileges)} ON *.* FROM {_name(account)};"]
        if schema_pattern(on) != on:
            raise Refused("a schema's name can have been granted in two ways")
        return [f"REVOKE {_list(privileges)} ON {_schema(on)}.* FROM {_name(account)};"]

    def user_of(self, label: str) -> str:
        """Return what stands before the last @: a name may hold one, a host pattern never."""
        return label.rpartition("@")[0] or label

    def held(self, accounts: Sequence[AccountFacts], databases: Sequence[str]) -> tuple[str, Sequence[str]]:
        """Return the least level that covers what it holds, and the schemas that it holds something on."""
        privileges = {one for account in accounts for there in account.privileges.values() for one in there}
        level = next((name for name, covered in LEVELS.items() if privileges <= covered), "owner")
        on = {name for account in accounts for name in databases if _on(account, name)}
        return level, sorted(on)

    def differences(
        self, account: AccountFacts, user: DeclaredUser, databases: Sequence[str], ours: Collection[str]
    ) -> tuple[Privileges, Privileges]:
        """Return the privileges it lacks, by schema, and those it has too many; `*` is everything.

        :param ours: accounts that rdsiam made: what others hold beside what is declared is their owner's.
        """
        needs: dict[str, frozenset[str]] = {}
        for grant in user.grants_on(databases):
            given = LEVELS[grant.privileges] if isinstance(grant.privileges, str) else frozenset(grant.privileges)
            needs[grant.on] = needs.get(grant.on, frozenset()) | given
        lacking = {on: tuple(sorted(need - _on(account, on))) for on, need in sorted(needs.items())}
        surplus: dict[str, tuple[str, ...]] = {}
        if account.name in ours:
            by_pattern = {spelling: need for on, need in needs.items() for spelling in (on, schema_pattern(on))}
            surplus = {
                pattern: tuple(sorted(set(held) - by_pattern.get(pattern, frozenset()) - {"USAGE"}))
                for pattern, held in sorted(account.privileges.items())
            }
        return [one for one in lacking.items() if one[1]], [one for one in surplus.items() if one[1]]

    def absent(self, user: DeclaredUser, databases: Sequence[str]) -> Sequence[str]:  # noqa: ARG002
        """Return nothing: privileges on a schema can be granted before it is made."""
        return []

    def give_objects(self, account: AccountFacts, successor: str) -> str:
        """Return nothing to run: MySQL's objects belong to nobody, but for the definers of what is stored."""
        raise Refused(f"objects of {account.name} can't be given to {successor} on MySQL")

    def end_escalation(self, escalation: Escalation) -> Sequence[str]:
        """Return nothing to run: onboarding finds no escalations on MySQL and MariaDB."""
        raise Refused(f"the rights of {escalation.grantee} on tables of {escalation.owner} are PostgreSQL's")

    def create_database(self, name: str) -> str:
        """Return what makes a schema."""
        return f"CREATE DATABASE {_schema(name)};"


def _list(privileges: str | Sequence[str]) -> str:
    return ", ".join(sorted(LEVELS[privileges] if isinstance(privileges, str) else privileges))
