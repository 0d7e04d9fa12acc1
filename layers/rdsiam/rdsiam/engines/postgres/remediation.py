"""SQL that remediates findings on PostgreSQL, for an administrator to run by hand."""

from collections.abc import Collection, Iterator, Sequence

from psycopg import sql

from rdsiam.access.groups import NO_GROUPS, Groups
from rdsiam.access.users import LEVELS, DeclaredUser
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.postgres.groups import group_name, is_direct
from rdsiam.engines.postgres.lockout import IAM_ROLE
from rdsiam.engines.postgres.memberships import administer
from rdsiam.engines.postgres.replication import REPLICATION_ROLE
from rdsiam.engines.postgres.sql_text import compose
from rdsiam.engines.remediation import Granted, Privileges
from rdsiam.state.escalations import Escalation


def _groups(account: AccountFacts, databases: Sequence[str], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield database and level of every group of rdsiam that the account is a direct member of."""
    for database in databases:
        for level in LEVELS:
            if group_name(database, level, prefix) in account.member_of:
                yield database, level


class PostgresRemediationSql:
    """The statements for `postgres` and Aurora PostgreSQL. Only the grantor of a membership can revoke it."""

    tls_parameter = "rds.force_ssl"
    sessions_without_tls = (
        "SELECT a.usename, a.client_addr, a.application_name, a.datname FROM pg_catalog.pg_stat_activity a "
        "JOIN pg_catalog.pg_stat_ssl s USING (pid) WHERE NOT s.ssl AND a.client_addr IS NOT NULL ORDER BY 1, 2, 3, 4;"
    )

    def tls_value(self, engine: str) -> str:  # noqa: ARG002
        """Return the value of `tls_parameter` that refuses logins without TLS."""
        return "1"

    def convert(self, account: AccountFacts) -> Sequence[str]:
        """Return the membership in rds_iam, after which the role logs in by token and its password no longer counts."""
        return [compose("GRANT {iam} TO {u};", iam=IAM_ROLE, u=account.name)]

    def lock(self, account: AccountFacts) -> Sequence[str]:
        """Return NOLOGIN, and first the removal from rds_iam, which a role that can't log in must not have."""
        locked = compose("ALTER ROLE {u} NOLOGIN;", u=account.name)
        return [*self.remove_iam(account), locked] if account.iam and not account.iam_through else [locked]

    def unlock(self, account: AccountFacts) -> Sequence[str]:
        """Return LOGIN, and the membership in rds_iam if it is missing."""
        return [compose("ALTER ROLE {u} LOGIN;", u=account.name), *([] if account.iam else self.convert(account))]

    def drop(self, account: AccountFacts) -> Sequence[str]:
        """Return DROP ROLE."""
        return [compose("DROP ROLE {u};", u=account.name)]

    def require_tls(self, account: AccountFacts) -> Sequence[str]:  # noqa: ARG002
        """Return nothing: PostgreSQL can't require TLS for a single role."""
        return []

    def discard_second_password(self, account: AccountFacts, engine: str) -> Sequence[str]:  # noqa: ARG002
        """Return the membership in rds_iam, which leaves the token as the only login."""
        return self.convert(account)

    def remove_iam(self, account: AccountFacts) -> Sequence[str]:
        """Return the removal from rds_iam, or from the roles that pass it on; the password works again."""
        through = [role for role in account.iam_through if role in account.member_of] or account.iam_through[:1]
        return [compose("REVOKE {g} FROM {u};", g=role, u=account.name) for role in through or (IAM_ROLE,)]

    def remove_membership(self, group: str, account: AccountFacts) -> Sequence[str]:
        """Return the removal from `group`."""
        return [compose("REVOKE {g} FROM {u};", g=group, u=account.name)]

    def stop_replicating(self, account: AccountFacts) -> Sequence[str]:
        """Return the removal from the role that may replicate, or NOREPLICATION."""
        if REPLICATION_ROLE in account.member_of:
            return self.remove_membership(REPLICATION_ROLE, account)
        return [compose("ALTER ROLE {u} NOREPLICATION;", u=account.name)]

    def grant(self, account: AccountFacts, on: str, privileges: Granted, groups: Groups = NO_GROUPS) -> Sequence[str]:
        """Return the membership in the group of a level on a database."""
        assert isinstance(privileges, str)
        return [compose("GRANT {g} TO {u};", g=group_name(on, privileges, groups.prefix), u=account.name)]

    def revoke(self, account: AccountFacts, on: str, privileges: Granted, groups: Groups = NO_GROUPS) -> Sequence[str]:
        """Return the removal from the group of a level on a database."""
        assert isinstance(privileges, str)
        return self.remove_membership(group_name(on, privileges, groups.prefix), account)

    def user_of(self, label: str) -> str:
        """Return the label, since roles have no host pattern."""
        return label

    def held(self, accounts: Sequence[AccountFacts], databases: Sequence[str]) -> tuple[str, Sequence[str]]:
        """Return the strongest level of the accounts' groups, and the databases of those groups."""
        groups = [group for account in accounts for group in _groups(account, databases)]
        level = max((level for _, level in groups), key=LEVELS.index, default=LEVELS[0])
        return level, sorted({database for database, _ in groups})

    def differences(
        self, account: AccountFacts, user: DeclaredUser, databases: Sequence[str], managed: Collection[str]
    ) -> tuple[Privileges, Privileges]:
        """Return the levels that the account lacks, and its surplus levels, by database.

        Grants to the user itself are left out, since the audit doesn't read them: lists, and levels on some schemas.

        :param managed: accounts that rdsiam created, and groups that it manages.
        """
        grants = [grant for grant in user.grants_on(databases) if not is_direct(grant)]
        levels = [(g.on, g.privileges) for g in grants if isinstance(g.privileges, str)]
        declared = {(on, level) for on, level in levels if on in databases}
        prefix = user.groups.prefix
        actual = set(_groups(account, databases, prefix))
        surplus = {(on, level) for on, level in actual - declared if group_name(on, level, prefix) in managed}
        return sorted(declared - actual), sorted(surplus)

    def absent(self, user: DeclaredUser, databases: Sequence[str]) -> Sequence[str]:
        """Return the databases that the user is declared on and that don't exist."""
        return sorted({grant.on for grant in user.grants} - {"*", *databases})

    def give_objects(self, account: AccountFacts, successor: str) -> str:
        """Return the transaction that makes `successor` the owner of all objects of the account in one database.

        The administrator must be a member of both roles to reassign objects. The membership exists within this
        transaction only, invisible to other sessions, since a member of an IAM user loses its password login.
        """
        return compose(
            "BEGIN; GRANT {u}, {h} TO CURRENT_USER; REASSIGN OWNED BY {u} TO {h}; "
            "REVOKE {u}, {h} FROM CURRENT_USER; COMMIT;",
            u=account.name,
            h=successor,
        )

    def end_escalation(self, escalation: Escalation) -> Sequence[str]:
        """Return the statements that the owner of the tables, or a member of it, runs in their database."""
        owner = sql.Identifier(escalation.owner)
        grantee = sql.Identifier(escalation.grantee) if escalation.grantee else sql.SQL("PUBLIC")
        privileges = sql.SQL(", ").join(map(sql.SQL, escalation.privileges))
        if escalation.held == "trigger":
            drop = sql.SQL("DROP TRIGGER {} ON {};")
            return [
                drop.format(sql.Identifier(trigger), sql.Identifier(schema, table)).as_string()
                for schema, table, trigger in escalation.objects
            ]
        if escalation.held == "future tables":
            alter = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}{} REVOKE {} ON TABLES FROM {};")
            schemas = [sql.SQL(" IN SCHEMA {}").format(*map(sql.Identifier, name)) if name else sql.SQL("")
                       for name in escalation.objects]  # fmt: skip
            return [alter.format(owner, schema, privileges, grantee).as_string() for schema in schemas]
        tables = sql.SQL(", ").join(sql.Identifier(*name) for name in escalation.objects)
        return [sql.SQL("REVOKE {} ON {} FROM {};").format(privileges, tables, grantee).as_string()]

    def administer(self, name: str, manager: AccountFacts) -> Sequence[str]:
        """Return the grant of ADMIN OPTION; in a group that it is a member of, the manager keeps its other options."""
        if name in manager.member_of:
            return [compose("GRANT {r} TO {m} WITH ADMIN TRUE;", r=name, m=manager.name)]
        return [f"{administer(name, manager.name)};"]

    def close_schema(self, schema: str) -> str:
        """Return REVOKE CREATE, which the schema's owner runs."""
        return compose("REVOKE CREATE ON SCHEMA {s} FROM PUBLIC;", s=schema)

    def create_database(self, name: str) -> str:
        """Return CREATE DATABASE."""
        return compose("CREATE DATABASE {d};", d=name)
