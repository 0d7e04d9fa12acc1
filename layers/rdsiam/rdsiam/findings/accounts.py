"""Kinds of findings about accounts inside of a database: who can log in how, and whether that is declared."""

import json
from collections.abc import Callable, Iterable

from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.engines.remediation import RemediationSql
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import BY_EXPOSURE, FIXED, Case, Kind
from rdsiam.findings.remediation import (
    AS_GRANTOR,
    BREAKS_CLIENTS,
    command,
    convert_declared,
    entry,
    modify,
    onboard,
    retire_or_declare,
    sql,
    suppression,
)

#: As many databases are named at most in a remediation.
_NAMED = 50
_RDS = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/"
_IAM_AUTH = _RDS + "UsingWithRDS.IAMDBAuth.html"
_ACCOUNTS = _RDS + "UsingWithRDS.IAMDBAuth.DBAccounts.html"
_PROXY = _RDS + "rds-proxy-iam-setup.html"
_MEMBERSHIP = "https://www.postgresql.org/docs/current/role-membership.html"
_MYSQL_ACCOUNTS = "https://dev.mysql.com/doc/refman/8.4/en/account-names.html"

#: What every finding about one account shows.
EVIDENCE = {
    "plugin": "its authentication plugin on MySQL and MariaDB",
    "administrator": "it may make or change other accounts",
    "tls": "it can't log in without TLS",
    "owns": "how many objects it owns",
    "sessions": "sessions that are open now, null where that can't be seen",
    "last_seen": "when it was last seen logged in, null where that can't be seen",
    "declared": "access.yaml declares it; null where access.yaml is invalid for this database",
    "exposure": "what makes it worse: `privileged`, `public`, `any-host`, `clear-text`",
}


def _on_account(
    statements: Callable[[RemediationSql, Case], Iterable[str]], note: str = ""
) -> Callable[[Case], list[Remediation]]:
    """Return a remedy that is statements on the account of a case, and nothing else."""
    return lambda case: sql(case.on, lambda engine: statements(engine, case), note=note)


def _convert_or_retire(case: Case) -> list[Remediation]:
    """Convert what is declared, or may be; lock or declare the rest."""
    if case.evidence["declared"] is False:
        return retire_or_declare(case.on, case.accounts, case.schemas)
    return convert_declared(case.on, case.accounts, case.managed)


def _partly(case: Case) -> list[Remediation]:
    """Take all host patterns of a declared user over: onboarding refuses those that somebody else has made."""
    user = case.declared
    if case.evidence["declared"] is False or user is None:
        return _convert_or_retire(case)
    level = next((grant.privileges for grant in user.grants if isinstance(grant.privileges, str)), None)
    on = [grant.on for grant in user.grants if grant.privileges == level]
    adopt = entry(case.on, user.name, level, on, 1, BREAKS_CLIENTS) if isinstance(level, str) else []
    return [*adopt, onboard(case.on)] if adopt else convert_declared(case.on, case.accounts, case.managed)


def _undeclared(case: Case) -> list[Remediation]:
    disable = [onboard(case.on, note="rdsiam made it, and disables it.")] if case.managed else []
    return [*disable, *retire_or_declare(case.on, case.accounts, case.schemas, way=1 + len(disable))]


def _not_removed(case: Case) -> list[Remediation]:
    note = "It tries again at once, and names what it does not reach. Resolve that first, as the reason says."
    steps = sql(
        case.on,
        lambda engine: [t for one in case.accounts for t in engine.lock(one)],
        way=2,
        note="As the master. End the user's sessions then, on read replicas too.",
    )
    return [onboard(case.on, note=note), *steps]


def _take_iam_of_administrator(case: Case) -> list[Remediation]:
    steps = sql(
        case.on,
        lambda engine: engine.remove_iam(case.accounts[0]),
        note=f"Run it as another administrator, by a session that is still open, or as rdsiam_manager. {AS_GRANTOR}",
    )
    # MySQL has no way back without a password: RDS sets a new one for its master.
    managed = "rotate" if case.on.master_secret_arn else "manage"
    return steps or [modify(case.on, f"--{managed}-master-user-password")]


def _inherits(case: Case) -> list[Remediation]:
    if case.evidence["declared"] is not False:
        note = "It holds rds_iam by itself then, and keeps its login when the group loses it."
        steps = sql(case.on, lambda engine: engine.convert(case.accounts[0]), note=note)
        return [*steps, *([onboard(case.on, way=2)] if case.managed else [])]
    return retire_or_declare(case.on, case.accounts, case.schemas)


def _ungroup(case: Case) -> list[Remediation]:
    note = f"Its members log in by password again, if they have one, and are judged by that. {AS_GRANTOR}"
    if not case.accounts[0].login:
        return sql(case.on, lambda engine: engine.remove_iam(case.accounts[0]), note=note)
    group = case.accounts[0].name
    return sql(
        case.on,
        lambda engine: [t for one in case.accounts[1:] for t in engine.remove_membership(group, one)],
        note=f"What they may do through it ends: grant it to them by a group without rds_iam. {AS_GRANTOR}",
    )


def _missing(case: Case) -> list[Remediation]:
    if not case.accounts:
        return [onboard(case.on)]
    return [
        *sql(case.on, lambda engine: [t for one in case.accounts for t in engine.unlock(one)]),
        *([onboard(case.on, way=2)] if case.managed else []),
    ]


def _privileges(case: Case) -> list[Remediation]:
    account = case.accounts[0]
    way = 2 if case.managed else 1
    statements = sql(
        case.on,
        lambda engine: [
            *(t for on, privileges in case.lacking for t in engine.grant(account, on, privileges)),
            *(t for on, privileges in case.surplus for t in engine.revoke(account, on, privileges)),
        ],
        way=way,
        note="On PostgreSQL as rdsiam_manager, which made the groups.",
    )
    return [*([onboard(case.on)] if case.managed else []), *statements]


def _replication(case: Case) -> list[Remediation]:
    account = case.accounts[0]
    if case.evidence["declared"] is not False:
        note = "Let another user, with a password, replicate."
        return sql(case.on, lambda engine: engine.stop_replicating(account), note=note)
    locked = sql(case.on, lambda engine: engine.lock(account))
    note = f"It replicates by its password again. {AS_GRANTOR}"
    back = sql(case.on, lambda engine: engine.remove_iam(account), way=2, note=note)
    reason = "replicates, which RDS allows by password only"
    accept = suppression(case.on, "user-without-iam", account.label, reason, case.accepted_until, 2)
    return [*locked, *back, *([accept] if back else [])]


def _proxy_user(case: Case) -> list[Remediation]:
    steps = sql(
        case.on,
        lambda engine: engine.remove_iam(case.accounts[0]),
        note=f"The proxy logs in again by the password that its secret has. {AS_GRANTOR}",
    )
    way = 2 if steps else 1
    note = "The proxy passes tokens on from then on, and takes no passwords: move all of its clients to tokens first."
    return [
        *steps,
        *(
            command(
                "aws", "rds", "modify-db-proxy", "--db-proxy-name", name, "--default-auth-scheme", "IAM_AUTH",
                way=way, note=note,
            )
            for name in case.evidence["proxies"]
        ),
    ]  # fmt: skip


def _reassign(case: Case) -> list[Remediation]:
    successor = case.evidence["successor"]
    note = "In each database in which it owns something; what is to be given on elsewhere stays as it is."
    engine = REMEDIATIONS[case.on.family]
    return [
        Remediation(
            "sql", engine.give_objects(case.accounts[0], successor), database=name, note=note if not number else ""
        )
        for number, name in enumerate(case.schemas)
    ]


def _end_escalation(case: Case) -> list[Remediation]:
    one = case.escalation
    assert one is not None
    note = (
        f"As {one.owner}, in {one.database}. Whoever needs foreign keys or triggers there has them made by {one.owner}."
    )
    steps = [
        Remediation("sql", text, database=one.database, note=note if number == 0 else "")
        for number, text in enumerate(REMEDIATIONS[case.on.family].end_escalation(one))
    ]
    return [*steps, onboard(case.on, note="It looks again.")]


def _examine(case: Case) -> list[Remediation]:
    reason = "who owns tables there grants nobody TRIGGER or REFERENCES"
    accept = suppression(case.on, "administrators-unexamined", None, reason, case.accepted_until, 2)
    names = ", ".join(case.evidence["databases"][:_NAMED])
    text = f"# declare a user on each of: {json.dumps(names)}"
    declare = Remediation("access", text, note="Onboarding enters the databases on which access.yaml declares a user.")
    return [declare, onboard(case.on), accept]


ACCOUNT_KINDS = (
    Kind(
        id="user-without-iam",
        title="{user} can log in with a password",
        severity="medium",
        moves=BY_EXPOSURE,
        risk="Whoever gets hold of the password, from a file, a log or a leaver, logs in from wherever the database "
        "can be reached, as long as nobody changes it; AWS records nothing of it.",
        why="The account doesn't take tokens. On PostgreSQL nobody can see on RDS whether a role has a password: one "
        "that may log in, and not by token, counts as one that has. What is missing beside, such as TLS, is mended by "
        "the same step and no finding of its own.",
        evidence=EVIDENCE,
        remedy=_convert_or_retire,
        references=(_IAM_AUTH, _ACCOUNTS),
        source="session",
    ),
    Kind(
        id="user-with-empty-password",
        title="{user} can log in with no password at all",
        severity="high",
        moves=BY_EXPOSURE,
        risk="Everybody who reaches the port is in.",
        why="The account was made without a password, or its password was set to nothing.",
        evidence=EVIDENCE,
        remedy=_convert_or_retire,
        references=(_ACCOUNTS, _MYSQL_ACCOUNTS),
        source="session",
    ),
    Kind(
        id="user-with-second-password",
        title="{user} takes tokens, and a password beside",
        severity="medium",
        moves=BY_EXPOSURE,
        risk="It looks passwordless and isn't: the old password still opens the door.",
        why="MariaDB's `OR` between plugins, or MySQL's `RETAIN CURRENT PASSWORD`, kept another way in.",
        evidence=EVIDENCE,
        remedy=_on_account(
            lambda engine, case: engine.discard_second_password(case.accounts[0], case.on.engine), note=BREAKS_CLIENTS
        ),
        references=(
            _ACCOUNTS,
            "https://dev.mysql.com/doc/refman/8.4/en/password-management.html",
            "https://mariadb.com/kb/en/authentication-from-mariadb-10-4/",
        ),
        source="session",
    ),
    Kind(
        id="user-partly-converted",
        title="{user} takes tokens from some hosts, passwords from others",
        severity="medium",
        moves=BY_EXPOSURE,
        risk="The server picks the account by the client's host: some clients still log in by password, and who tests "
        "from the wrong host believes that all is done.",
        why="On MySQL and MariaDB an account is a user and a host pattern, and each has its own plugin.",
        evidence=EVIDENCE
        | {"hosts_with_tokens": "host patterns that take tokens", "hosts_with_passwords": "those that take passwords"},
        remedy=_partly,
        references=(_ACCOUNTS, _MYSQL_ACCOUNTS),
        source="session",
    ),
    Kind(
        id="anonymous-user",
        title="Anybody can log in under any name as {user}",
        severity="high",
        moves=BY_EXPOSURE,
        risk="A client with a user name that doesn't exist is let in; and since the more specific host wins, it "
        "shadows real users, whose logins then fail.",
        why="`mariadb-install-db` and old versions of MySQL make accounts with an empty name, for tests.",
        evidence=EVIDENCE,
        remedy=_on_account(lambda engine, case: engine.drop(case.accounts[0])),
        references=("https://dev.mysql.com/doc/refman/8.4/en/connection-access.html",),
        source="session",
    ),
    Kind(
        id="user-without-tls",
        title="{user} can send its token without TLS",
        severity="medium",
        moves="One step worse with an administrator or a public endpoint, two steps with both.",
        risk="On MySQL a token goes over the wire as it is: who can read along logs in with it for 15 minutes.",
        why="The account lacks `REQUIRE SSL`, and the server doesn't ask for TLS either.",
        evidence=EVIDENCE,
        remedy=_on_account(lambda engine, case: engine.require_tls(case.accounts[0])),
        references=(_ACCOUNTS, _RDS + "mysql-ssl-connections.html"),
        source="session",
    ),
    Kind(
        id="undeclared-user",
        title="{user} takes tokens, and access.yaml doesn't know it",
        severity="medium",
        moves=BY_EXPOSURE,
        risk="Whoever IAM lets connect as it is in, and nobody decided that he may.",
        why="Somebody made it by hand, or it came along with a restored copy, or it was taken out of access.yaml and "
        "not disabled yet. A second password or a lack of TLS is mended by the same steps and no finding of its own.",
        evidence=EVIDENCE | {"second_password": "there is a password beside the token"},
        remedy=_undeclared,
        references=(_ACCOUNTS,),
        source="session",
    ),
    Kind(
        id="login-not-removed",
        title="{user} was taken out or revoked, and its login is not gone",
        severity="critical",
        moves=FIXED,
        risk="A user that must not log in any longer still can, or is still logged in: on the database itself, or on a "
        "read replica of it.",
        why="rdsiam could not reach all of it: the database or a replica does not answer, a session holds what locking "
        "needs, or policies could not be changed. rdsiam tries again every hour.",
        evidence={
            "reason": "what stood in the way last",
            "login": "the user can log in now; null if the database could not be read",
            "revoked": "an operator has revoked the user; else access.yaml declares it no longer",
        },
        remedy=_not_removed,
        references=(_ACCOUNTS,),
        source="rds",
    ),
    Kind(
        id="missing-user",
        title="{user} is declared and can't log in",
        severity="medium",
        moves=FIXED,
        risk="An application or a person that should be let in is not, and looks for another way.",
        why="Onboarding has not been here since it was declared, or somebody dropped or locked it.",
        evidence={
            "state": "`absent`, or `locked`: it is there and nobody can log in as it",
            "exposure": "always empty",
        },
        remedy=_missing,
        references=(_ACCOUNTS,),
        source="session",
    ),
    Kind(
        id="privileges-differ",
        title="{user} may do something else than access.yaml says",
        severity="low",
        moves="Medium where it may do more than is declared; one step worse with a public endpoint.",
        risk="It may do more than was decided, or its application fails.",
        why="Somebody granted or revoked by hand. Compared are schema privileges on MySQL and MariaDB, memberships in "
        "rdsiam's groups on PostgreSQL; what users hold whom rdsiam did not make is their owner's.",
        evidence={
            "lacking": "what it lacks, each with `on` and `privileges`",
            "surplus": "what it holds beyond what is declared",
            "exposure": "what makes it worse",
        },
        remedy=_privileges,
        references=(_ACCOUNTS,),
        source="session",
    ),
    Kind(
        id="group-with-rds-iam",
        title="Members of {user} lose their passwords: it has rds_iam",
        severity="high",
        moves=FIXED,
        risk="Whoever is, or becomes, a member of it can't log in by password any more, administrators included: the "
        "next GRANT locks somebody out.",
        why="RDS's rule follows membership in rds_iam, direct or indirect, whatever INHERIT says. So only logins may "
        "have it, and nobody may be a member of those. Members that were caught have findings of their own; a login "
        "role is here only if all of its members hold rds_iam themselves.",
        evidence={"login": "it can log in itself", "members": "its members, sorted"},
        remedy=_ungroup,
        references=(_IAM_AUTH, _MEMBERSHIP),
        source="session",
    ),
    Kind(
        id="user-inherits-rds-iam",
        title="{user} lost its password: it inherits rds_iam",
        severity="medium",
        moves=BY_EXPOSURE,
        risk="Its clients fail with `PAM authentication failed` though their password is right; and it becomes a "
        "password user again, unseen, as soon as that membership ends.",
        why="It is a member of a role that has rds_iam. Nobody decided that it logs in by token.",
        evidence=EVIDENCE | {"through": "the roles that it has it from, nearest first"},
        remedy=_inherits,
        references=(_IAM_AUTH, _MEMBERSHIP),
        source="session",
    ),
    Kind(
        id="administrator-locked-out",
        title="Administrator {user} can't log in by password any more",
        severity="critical",
        moves=FIXED,
        risk="When tokens fail, be it by IAM, the network or a policy, nobody gets in to mend it: the way in for "
        "emergencies is closed.",
        why="The master's password is the last way in, so the master must never take tokens. Any administrator is "
        "caught by becoming a member of a user that does: `GRANT app TO admin` is enough, and so is CREATE ROLE from "
        "PostgreSQL 16 on, which makes its creator a member.",
        evidence={
            "master": "it is the master user",
            "through": "the roles that it has rds_iam from, nearest first; empty where it holds it itself",
        },
        remedy=_take_iam_of_administrator,
        references=(_IAM_AUTH, _MEMBERSHIP),
        source="session",
    ),
    Kind(
        id="replication-user-with-iam",
        title="{user} replicates, and tokens don't",
        severity="medium",
        moves=FIXED,
        risk="Replication, or the tool that reads the changes, fails with its next connection.",
        why="RDS takes no IAM logins for replication connections, and a user with IAM can't use its password.",
        evidence=EVIDENCE,
        remedy=_replication,
        references=(_IAM_AUTH,),
        source="session",
    ),
    Kind(
        id="proxy-user-with-iam",
        title="A proxy can't log in as {user}: it takes tokens only",
        severity="high",
        moves=FIXED,
        risk="Everybody who comes through the proxy as this user is refused.",
        why="A proxy that takes passwords from secrets logs in to the database with them. Its users must keep their "
        "passwords, or the proxy must pass tokens on from end to end.",
        evidence=EVIDENCE | {"proxies": "names of the proxies that log in as it"},
        remedy=_proxy_user,
        references=(_PROXY, _RDS + "rds-proxy-connecting.html"),
        source="session",
    ),
    Kind(
        id="objects-owned-by-clone",
        title="{user}, a clone made by rotation, owns objects",
        severity="low",
        moves=FIXED,
        risk="Every other rotation the application can't alter, or even see, what it made itself.",
        why="Rotation with alternating users logs the application in as `<user>` and `<user>_clone` in turn; what it "
        "makes belongs to the one it was just then.",
        evidence={"owns": "how many objects it owns", "successor": "the user that it is a clone of"},
        remedy=_reassign,
        references=("https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotation-strategy.html",),
        source="session",
    ),
    Kind(
        id="acts-as-administrator",
        title="{user} can act as an administrator of {database}",
        severity="high",
        moves=FIXED,
        risk="Whoever logs in as one of these users has the rights of the administrator: every role, every password, "
        "every row.",
        why="A trigger's function runs as whoever writes to the table. A foreign key is checked by a query that runs "
        "as the owner of the table that it refers to, and calls the cast of the referring column's type. So TRIGGER "
        "and REFERENCES on a table of an administrator are the administrator's rights; `GRANT ALL ON ALL TABLES` gives "
        "both. A trigger whose function somebody else owns does what that role makes of the function. Onboarding looks "
        "for it in `postgres` and in each database on which access.yaml declares a user, and takes such privileges "
        "from users and groups of rdsiam itself.",
        evidence={
            "in": "the database",
            "owner": "the administrator that owns the tables",
            "held": "`tables`, `future tables` (default privileges), or `trigger`: the function of one",
            "privileges": "what is held; empty for a trigger",
            "objects": "the first tables, or triggers; of future tables the schema, if it is limited to one",
            "count": "how many there are",
            "users": "the first users who can make use of it",
        },
        remedy=_end_escalation,
        references=("https://www.postgresql.org/docs/current/ddl-priv.html",),
        source="session",
    ),
    Kind(
        id="administrators-unexamined",
        title="Who can act as an administrator of {database} is not known",
        severity="low",
        moves=FIXED,
        risk="In these databases users may have TRIGGER or REFERENCES on tables of an administrator, which are the "
        "administrator's rights: see `acts-as-administrator`.",
        why="PostgreSQL keeps the privileges on tables in each database, and the audit opens one session. Onboarding "
        "looks in `postgres` and in each database on which access.yaml declares a user.",
        evidence={
            "databases": "databases in which nobody has looked",
            "onboarded": "whether onboarding has looked in any database of the server",
        },
        remedy=_examine,
        references=("https://www.postgresql.org/docs/current/ddl-priv.html",),
        source="session",
    ),
)
