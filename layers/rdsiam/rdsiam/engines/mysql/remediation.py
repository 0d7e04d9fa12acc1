"""SQL that remediates findings on MySQL and MariaDB, for an administrator to run by hand."""

import re
from collections.abc import Collection, Sequence

import pymysql

from rdsiam.access.groups import NO_GROUPS, Groups
from rdsiam.access.users import DeclaredUser
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.mysql import privileges
from rdsiam.engines.mysql.catalog import NEVER_LOCKING, drop_factors
from rdsiam.engines.mysql.grants import identifier
from rdsiam.engines.mysql.privileges import LEVELS, by_schema
from rdsiam.engines.remediation import Granted, Privileges
from rdsiam.errors import Refused
from rdsiam.state.escalations import Escalation

_TOKENS_ONLY = "IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL"


def _on(account: AccountFacts, schema: str) -> frozenset[str]:
    """Return the privileges on a schema, whether its name was granted plain or escaped."""
    names = account.schema_names
    spellings = {names.stored(schema), names.pattern(schema)}
    return frozenset(privilege for spelling in spellings for privilege in account.privileges.get(spelling, ()))


def _literal(value: str) -> str:
    """Quote a text for a statement that people paste, whatever `sql_mode` their session has.

    A quote is doubled, never escaped: with NO_BACKSLASH_ESCAPES, `\\'` would end the text.
    """
    return "'" + pymysql.converters.escape_string(value).replace("\\'", "''") + "'"


def _name(account: AccountFacts) -> str:
    return f"{_literal(account.name)}@{_literal(account.host)}"


def _schema(name: str) -> str:
    """Quote a schema's name.

    :raises Refused: the `mysql` client would read a backslash before the closing quote as its own, and the text after
        it as a command, so no statement is returned.
    """
    quoted = identifier(name)
    if not re.fullmatch(r"(?:[^\\`]|``|\\[^`])*", quoted[1:-1], re.DOTALL):
        raise Refused(
            "a schema's name can't be written so that every client reads it alike", "rename it", "name-unsafe"
        )
    return quoted


class MysqlRemediationSql:
    """The statements for `mysql`, `mariadb` and Aurora MySQL."""

    tls_parameter = "require_secure_transport"
    sessions_without_tls = (
        "SELECT PROCESSLIST_USER, PROCESSLIST_HOST, PROCESSLIST_DB FROM performance_schema.threads "
        "WHERE CONNECTION_TYPE = 'TCP/IP' ORDER BY 1, 2, 3;"
    )

    def tls_value(self, engine: str) -> str:
        """Return the value of `tls_parameter` that refuses logins without TLS."""
        return "ON" if engine.startswith("aurora") else "1"

    def convert(self, account: AccountFacts) -> Sequence[str]:
        """Return the change to the plugin, over TLS only; the password is lost, the grants stay."""
        return [*_without_factors(account), f"ALTER USER {_name(account)} {_TOKENS_ONLY}{_without_locking(account)};"]

    def lock(self, account: AccountFacts) -> Sequence[str]:
        """Return ACCOUNT LOCK."""
        return [f"ALTER USER {_name(account)} ACCOUNT LOCK;"]

    def unlock(self, account: AccountFacts) -> Sequence[str]:
        """Return the plugin and ACCOUNT UNLOCK."""
        end = f"{_TOKENS_ONLY}{_without_locking(account)} ACCOUNT UNLOCK"
        return [*_without_factors(account), f"ALTER USER {_name(account)} {end};"]

    def drop(self, account: AccountFacts) -> Sequence[str]:
        """Return DROP USER."""
        return [f"DROP USER {_name(account)};"]

    def require_tls(self, account: AccountFacts) -> Sequence[str]:
        """Return REQUIRE SSL."""
        return [f"ALTER USER {_name(account)} REQUIRE SSL;"]

    def discard_second_password(self, account: AccountFacts, engine: str) -> Sequence[str]:
        """Return the removal of the second method: MariaDB sets all methods anew, MySQL discards the old password."""
        return self.convert(account) if engine == "mariadb" else [f"ALTER USER {_name(account)} DISCARD OLD PASSWORD;"]

    def remove_iam(self, account: AccountFacts) -> Sequence[str]:  # noqa: ARG002
        """Return nothing, since the statement would contain a password."""
        return []

    def remove_membership(self, group: str, account: AccountFacts) -> Sequence[str]:
        """Return REVOKE of the role `group`."""
        return [f"REVOKE {_literal(group)} FROM {_name(account)};"]

    def stop_replicating(self, account: AccountFacts) -> Sequence[str]:
        """Return REVOKE of the right to replicate."""
        return [f"REVOKE REPLICATION SLAVE ON *.* FROM {_name(account)};"]

    def grant(self, account: AccountFacts, on: str, privileges: Granted, groups: Groups = NO_GROUPS) -> Sequence[str]:  # noqa: ARG002
        """Return GRANT of privileges on a schema.

        :raises Refused: the name is too long to be escaped in a GRANT.
        """
        if not account.schema_names.grantable(on):
            raise Refused(
                "a schema's name is too long for a GRANT once its _ and % are escaped", "rename it", "name-unsafe"
            )
        return [f"GRANT {_list(privileges)} ON {_schema(account.schema_names.pattern(on))}.* TO {_name(account)};"]

    def revoke(self, account: AccountFacts, on: str, privileges: Granted, groups: Groups = NO_GROUPS) -> Sequence[str]:  # noqa: ARG002
        """Return REVOKE of privileges on a schema, or of global privileges (`*`).

        :raises Refused: the name has a `_` or `%`, which may have been granted as a wildcard or escaped, and a REVOKE
            must have the same spelling. Onboarding reads which.
        """
        if on == "*":
            return [f"REVOKE {_list(privileges)} ON *.* FROM {_name(account)};"]
        if account.schema_names.pattern(on) != on:
            raise Refused(
                "a schema's name can have been granted plain or escaped", "onboard the database again", "name-unsafe"
            )
        return [f"REVOKE {_list(privileges)} ON {_schema(on)}.* FROM {_name(account)};"]

    def user_of(self, label: str) -> str:
        """Return the text before the last @. A user's name may contain an @, a host pattern can't."""
        return label.rpartition("@")[0] or label

    def held(self, accounts: Sequence[AccountFacts], databases: Sequence[str]) -> tuple[str, Sequence[str]]:
        """Return the lowest level that covers the accounts' privileges, and the schemas on which they have any."""
        held = {name for account in accounts for names in account.privileges.values() for name in names}
        level = next((name for name, covered in LEVELS.items() if held <= covered), "owner")
        on = {name for account in accounts for name in databases if _on(account, name)}
        return level, sorted(on)

    def differences(
        self, account: AccountFacts, user: DeclaredUser, databases: Sequence[str], managed: Collection[str]
    ) -> tuple[Privileges, Privileges]:
        """Return the privileges that the account lacks, by schema, and its surplus privileges; `*` is everything.

        :param managed: accounts that rdsiam created; surplus privileges of other accounts are left to their owner.
        """
        declared = by_schema(user.grants_on(databases), account.schema_names)
        lacking = {on: tuple(sorted(needed - _on(account, on))) for on, needed in sorted(declared.items())}
        surplus: dict[str, tuple[str, ...]] = {}
        if account.name in managed:
            names = account.schema_names
            by_pattern = {spelling: needed for on, needed in declared.items() for spelling in (on, names.pattern(on))}
            surplus = {
                pattern: tuple(sorted(set(held) - by_pattern.get(pattern, frozenset()) - {"USAGE"}))
                for pattern, held in sorted(account.privileges.items())
            }
        return [item for item in lacking.items() if item[1]], [item for item in surplus.items() if item[1]]

    def absent(self, user: DeclaredUser, databases: Sequence[str]) -> Sequence[str]:  # noqa: ARG002
        """Return nothing: privileges can be granted on a schema that does not exist yet."""
        return []

    def give_objects(self, account: AccountFacts, successor: str) -> str:
        """Refuse: MySQL's objects have no owner, except for the definers of stored objects."""
        raise Refused(
            f"objects of {account.name} can't be given to {successor} on MySQL", "change their definer", "not-supported"
        )

    def end_escalation(self, escalation: Escalation) -> Sequence[str]:
        """Refuse: onboarding finds no escalations on MySQL and MariaDB."""
        raise Refused(
            f"the rights of {escalation.grantee} on tables of {escalation.owner} are PostgreSQL's", code="not-supported"
        )

    def administer(self, name: str, manager: AccountFacts) -> Sequence[str]:  # noqa: ARG002
        """Return nothing: CREATE USER lets the manager change all accounts."""
        return []

    def close_schema(self, schema: str) -> str:
        """Refuse: MySQL and MariaDB have no PUBLIC with privileges by default."""
        raise Refused(f"schema {schema}: only PostgreSQL lets everybody create objects in one", code="not-supported")

    def create_database(self, name: str) -> str:
        """Return CREATE DATABASE."""
        return f"CREATE DATABASE {_schema(name)};"


def _without_factors(account: AccountFacts) -> list[str]:
    """Return the removal of further factors, since a token isn't enough to log in with them."""
    return [f"ALTER USER {_name(account)} {drop_factors(account.further_factors)};"] if account.further_factors else []


def _without_locking(account: AccountFacts) -> str:
    """Return the option that ends locking by failed logins, if the account has it."""
    return f" {NEVER_LOCKING}" if account.locking else ""


def _list(granted: Granted) -> str:
    return ", ".join(sorted(privileges.of(granted)))
