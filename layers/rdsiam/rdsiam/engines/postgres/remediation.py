"""What mends findings on PostgreSQL, as SQL that an administrator runs by hand."""

from collections.abc import Collection, Iterator, Sequence

from psycopg import sql

from rdsiam.access.users import LEVELS, DeclaredUser
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.postgres.engine import group_name
from rdsiam.engines.postgres.lockout import IAM_ROLE
from rdsiam.state.escalations import Escalation

#: Roles of RDS that let their members replicate.
_REPLICATION_ROLE = "rds_replication"
#: Databases, each with a level or a list of SQL privileges.
Privileges = Sequence[tuple[str, str | tuple[str, ...]]]


def _groups(account: AccountFacts, databases: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield database and level of every group of ours that it is a direct member of."""
    for database in databases:
        for level in LEVELS:
            if f"{database}_{level}" in account.member_of:
                yield database, level


def _sql(template: str, **names: str) -> str:
    """Compose a statement whose braces are identifiers, quoted by the driver."""
    return sql.SQL(template).format(**{key: sql.Identifier(name) for key, name in names.items()}).as_string()


class PostgresRemediationSql:
    """The statements for `postgres` and Aurora PostgreSQL. Those that take a role's membership need its grantor."""

    #: What refuses logins without TLS.
    tls_parameter = "rds.force_ssl"

    def tls_value(self, engine: str) -> str:  # noqa: ARG002  the other family needs it
        """Return the value of `tls_parameter` that refuses logins without TLS."""
        return "1"

    def convert(self, account: AccountFacts) -> Sequence[str]:
        """Return what makes it log in by token; its password counts no more from then on."""
        return [_sql("GRANT {iam} TO {u};", iam=IAM_ROLE, u=account.name)]

    def lock(self, account: AccountFacts) -> Sequence[str]:
        """Return what keeps anybody from logging in as it. A role that can't log in must not have rds_iam either."""
        locked = _sql("ALTER ROLE {u} NOLOGIN;", u=account.name)
        return [*self.take_iam(account), locked] if account.iam and not account.iam_through else [locked]

    def unlock(self, account: AccountFacts) -> Sequence[str]:
        """Return what lets a declared user log in by token again."""
        return [_sql("ALTER ROLE {u} LOGIN;", u=account.name), *([] if account.iam else self.convert(account))]

    def drop(self, account: AccountFacts) -> Sequence[str]:
        """Return what removes it."""
        return [_sql("DROP ROLE {u};", u=account.name)]

    def require_tls(self, account: AccountFacts) -> Sequence[str]:  # noqa: ARG002
        """Return nothing: no role of PostgreSQL can ask for TLS by itself."""
        return []

    def discard_second_password(self, account: AccountFacts, engine: str) -> Sequence[str]:  # noqa: ARG002
        """Return what makes it take tokens only."""
        return self.convert(account)

    def take_iam(self, account: AccountFacts) -> Sequence[str]:
        """Return what gives it back its password: out of rds_iam, or of the roles through which it is in it."""
        through = [role for role in account.iam_through if role in account.member_of] or account.iam_through[:1]
        return [_sql("REVOKE {g} FROM {u};", g=role, u=account.name) for role in through or (IAM_ROLE,)]

    def take_membership(self, group: str, account: AccountFacts) -> Sequence[str]:
        """Return what takes it out of `group`."""
        return [_sql("REVOKE {g} FROM {u};", g=group, u=account.name)]

    def stop_replicating(self, account: AccountFacts) -> Sequence[str]:
        """Return what makes it an ordinary user."""
        if _REPLICATION_ROLE in account.member_of:
            return self.take_membership(_REPLICATION_ROLE, account)
        return [_sql("ALTER ROLE {u} NOREPLICATION;", u=account.name)]

    def grant(self, account: AccountFacts, on: str, privileges: str | Sequence[str]) -> Sequence[str]:
        """Return what gives it the group of a level on a database."""
        assert isinstance(privileges, str)
        return [_sql("GRANT {g} TO {u};", g=group_name(on, privileges), u=account.name)]

    def revoke(self, account: AccountFacts, on: str, privileges: str | Sequence[str]) -> Sequence[str]:
        """Return what takes the group of a level on a database from it."""
        assert isinstance(privileges, str)
        return self.take_membership(group_name(on, privileges), account)

    def user_of(self, label: str) -> str:
        """Return the label: roles have no host pattern."""
        return label

    def held(self, accounts: Sequence[AccountFacts], databases: Sequence[str]) -> tuple[str, Sequence[str]]:
        """Return the strongest level whose group it is in, and the databases of those groups."""
        groups = [one for account in accounts for one in _groups(account, databases)]
        level = max((level for _, level in groups), key=LEVELS.index, default=LEVELS[0])
        return level, sorted({database for database, _ in groups})

    def differences(
        self, account: AccountFacts, user: DeclaredUser, databases: Sequence[str], ours: Collection[str]
    ) -> tuple[Privileges, Privileges]:
        """Return the levels it lacks and those it has too many, by database. Privileges that are listed can't be seen.

        :param ours: accounts and groups that rdsiam made.
        """
        levels = [(g.on, g.privileges) for g in user.grants_on(databases) if isinstance(g.privileges, str)]
        wanted = {(on, level) for on, level in levels if on in databases}
        has = set(_groups(account, databases))
        surplus = {(on, level) for on, level in has - wanted if group_name(on, level) in ours}
        return sorted(wanted - has), sorted(surplus)

    def absent(self, user: DeclaredUser, databases: Sequence[str]) -> Sequence[str]:
        """Return the databases that it is declared on and that don't exist."""
        return sorted({grant.on for grant in user.grants} - {"*", *databases})

    def give_objects(self, account: AccountFacts, successor: str) -> str:
        """Return what makes `successor` the owner of all that it owns in one database.

        Whoever reassigns must be a member of both roles; he is so inside of this transaction only, where nobody else
        sees it: a membership in an IAM user would take his password.
        """
        return _sql(
            "BEGIN; GRANT {u}, {h} TO CURRENT_USER; REASSIGN OWNED BY {u} TO {h}; "
            "REVOKE {u}, {h} FROM CURRENT_USER; COMMIT;",
            u=account.name,
            h=successor,
        )

    def end_escalation(self, escalation: Escalation) -> Sequence[str]:
        """Return what its owner, or a member of it, runs in its database to take it away."""
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

    def create_database(self, name: str) -> str:
        """Return what makes a database."""
        return _sql("CREATE DATABASE {d};", d=name)
