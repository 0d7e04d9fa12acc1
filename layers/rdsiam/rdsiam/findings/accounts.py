"""Kinds of findings about accounts in a database: how users log in, and whether access.yaml declares them."""

import json
from collections.abc import Callable, Iterable

from rdsiam.access.groups import NO_GROUPS
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
    set_parameter,
    sql,
    suppression,
)

#: Maximum number of databases that a remediation names.
_NAMED = 50
_RDS = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/"
_IAM_AUTH = _RDS + "UsingWithRDS.IAMDBAuth.html"
_ACCOUNTS = _RDS + "UsingWithRDS.IAMDBAuth.DBAccounts.html"
_PROXY = _RDS + "rds-proxy-iam-setup.html"
_MEMBERSHIP = "https://www.postgresql.org/docs/current/role-membership.html"
_MYSQL_ACCOUNTS = "https://dev.mysql.com/doc/refman/8.4/en/account-names.html"

#: Evidence of every finding about one account.
EVIDENCE = {
    "plugin": "authentication plugin on MySQL and MariaDB",
    "administrator": "the account may create or change other accounts",
    "tls": "the account can't log in without TLS",
    "owns": "number of objects that it owns",
    "sessions": "number of open sessions; null if unknown",
    "last_seen": "time of the last login that was observed; null if unknown",
    "declared": "access.yaml declares the user; null if access.yaml is invalid for this database",
    "exposure": "what makes the finding more severe: `privileged`, `public`, `any-host`, `clear-text`",
}


def _on_account(
    statements: Callable[[RemediationSql, Case], Iterable[str]], note: str = ""
) -> Callable[[Case], list[Remediation]]:
    """Return a remedy that consists of statements on the account of a case."""
    return lambda case: sql(case.on, lambda engine: statements(engine, case), note=note)


def _convert_or_retire(case: Case) -> list[Remediation]:
    """Convert users that are declared, or may be; lock or declare undeclared users."""
    if case.evidence["declared"] is False:
        return retire_or_declare(case.on, case.accounts, case.schemas)
    return convert_declared(case.on, case.accounts, case.managed)


def _partly(case: Case) -> list[Remediation]:
    """Adopt all host patterns of a declared user: onboarding refuses accounts that rdsiam doesn't manage."""
    user = case.declared
    if case.evidence["declared"] is False or user is None:
        return _convert_or_retire(case)
    whole = [grant for grant in user.grants if grant.schemas is None]
    level = next((grant.privileges for grant in whole if isinstance(grant.privileges, str)), None)
    on = [grant.on for grant in whole if grant.privileges == level]
    adopt = entry(case.on, user.name, level, on, 1, BREAKS_CLIENTS) if isinstance(level, str) else []
    return [*adopt, onboard(case.on)] if adopt else convert_declared(case.on, case.accounts, case.managed)


def _undeclared(case: Case) -> list[Remediation]:
    disable = [onboard(case.on, note="rdsiam created this user, and disables it.")] if case.managed else []
    return [*disable, *retire_or_declare(case.on, case.accounts, case.schemas, way=1 + len(disable))]


def _not_removed(case: Case) -> list[Remediation]:
    note = "This tries again now, and names what can't be reached. Resolve that first; the reason names it."
    steps = sql(
        case.on,
        lambda engine: [text for account in case.accounts for text in engine.lock(account)],
        way=2,
        note="As the master. Afterwards end the user's sessions, on read replicas too.",
    )
    return [onboard(case.on, note=note), *steps]


def _take_iam_of_administrator(case: Case) -> list[Remediation]:
    steps = sql(
        case.on,
        lambda engine: engine.remove_iam(case.accounts[0]),
        note=f"Run it as another administrator, in a session that is still open, or as rdsiam_manager. {AS_GRANTOR}",
    )
    # On MySQL this takes a new password, which RDS sets for its master.
    managed = "rotate" if case.on.master_secret_arn else "manage"
    return steps or [modify(case.on, f"--{managed}-master-user-password")]


def _accept_iam_master(case: Case) -> list[Remediation]:
    """Accept a master that is an IAM user; no statement, since without rds_iam such a master has no login at all."""
    label, reason = case.accounts[0].label, "MasterUserAuthenticationType is iam-db-auth"
    return [suppression(case.on, "master-by-token", label, reason, case.accepted_until, 1)]


def _inherits(case: Case) -> list[Remediation]:
    if case.evidence["declared"] is not False:
        note = "Afterwards the user holds rds_iam itself, and keeps its login when the group loses rds_iam."
        steps = sql(case.on, lambda engine: engine.convert(case.accounts[0]), note=note)
        return [*steps, *([onboard(case.on, way=2)] if case.managed else [])]
    return retire_or_declare(case.on, case.accounts, case.schemas)


def _ungroup(case: Case) -> list[Remediation]:
    note = f"Members with a password log in by it again, and get findings for that. {AS_GRANTOR}"
    if not case.accounts[0].login:
        return sql(case.on, lambda engine: engine.remove_iam(case.accounts[0]), note=note)
    group = case.accounts[0].name
    return sql(
        case.on,
        lambda engine: [text for member in case.accounts[1:] for text in engine.remove_membership(group, member)],
        note=f"Members lose the privileges of this role: grant these by a group without rds_iam. {AS_GRANTOR}",
    )


def _missing(case: Case) -> list[Remediation]:
    if not case.accounts:
        return [onboard(case.on)]
    return [
        *sql(case.on, lambda engine: [text for account in case.accounts for text in engine.unlock(account)]),
        *([onboard(case.on, way=2)] if case.managed else []),
    ]


def _privileges(case: Case) -> list[Remediation]:
    account = case.accounts[0]
    groups = case.declared.groups if case.declared else NO_GROUPS
    way = 2 if case.managed else 1
    statements = sql(
        case.on,
        lambda engine: [
            *(text for on, privileges in case.lacking for text in engine.grant(account, on, privileges, groups)),
            *(text for on, privileges in case.surplus for text in engine.revoke(account, on, privileges, groups)),
        ],
        way=way,
        note=f"On PostgreSQL as rdsiam_manager, which created the groups. {AS_GRANTOR}",
    )
    return [*([onboard(case.on)] if case.managed else []), *statements]


def _replication(case: Case) -> list[Remediation]:
    account = case.accounts[0]
    if case.evidence["declared"] is not False:
        note = "Let another user, with a password, replicate."
        steps = sql(case.on, lambda engine: engine.stop_replicating(account), note=note)
        return [*steps, *_allow_tokens_for_replication(case, 1 + bool(steps))]
    locked = sql(case.on, lambda engine: engine.lock(account))
    note = f"Afterwards the user replicates by its password again. {AS_GRANTOR}"
    back = sql(case.on, lambda engine: engine.remove_iam(account), way=2, note=note)
    reason = "replicates by password"
    accept = suppression(case.on, "user-without-iam", account.label, reason, case.accepted_until, 2)
    return [*locked, *back, *([accept] if back else []), *_allow_tokens_for_replication(case, 2 + bool(back))]


def _allow_tokens_for_replication(case: Case, way: int) -> list[Remediation]:
    """Return the parameter with which users replicate by token; only PostgreSQL has one."""
    if case.on.family != "postgres":
        return []
    note = (
        "Needs no reboot. rds.logical_replication must be 1 too. From then on every user with rds_iam needs a token to "
        "replicate, on every database with this parameter group: its clients must be able to sign tokens."
    )
    return [set_parameter(case.on, "rds.iam_auth_for_replication", "1", note, way)]


def _proxy_user(case: Case) -> list[Remediation]:
    steps = sql(
        case.on,
        lambda engine: engine.remove_iam(case.accounts[0]),
        note=f"Afterwards the proxy logs in by the password in its secret again. {AS_GRANTOR}",
    )
    way = 2 if steps else 1
    note = "Move all clients of the proxy to tokens first: afterwards it passes tokens on and refuses passwords."
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
    note = "In each database in which the clone owns objects."
    engine = REMEDIATIONS[case.on.family]
    return [
        Remediation(
            "sql", engine.give_objects(case.accounts[0], successor), database=name, note=note if not number else ""
        )
        for number, name in enumerate(case.schemas)
    ]


def _end_escalation(case: Case) -> list[Remediation]:
    escalation = case.escalation
    assert escalation is not None
    owner = escalation.owner
    note = f"As {owner}, in {escalation.database}. If users need foreign keys or triggers there, {owner} creates them."
    steps = [
        Remediation("sql", text, database=escalation.database, note=note if number == 0 else "")
        for number, text in enumerate(REMEDIATIONS[case.on.family].end_escalation(escalation))
    ]
    return [*steps, onboard(case.on, note="This examines the database again.")]


def _administer(case: Case) -> list[Remediation]:
    manager = case.accounts[0]
    steps = sql(
        case.on,
        lambda engine: [text for name in case.evidence["roles"] for text in engine.administer(name, manager)],
        way=2,
        note="As the master, which on RDS may do this as a member of rds_superuser.",
    )
    return [onboard(case.on), *steps]


def _examine(case: Case) -> list[Remediation]:
    reason = "owners of tables there grant nobody TRIGGER or REFERENCES"
    accept = suppression(case.on, "administrators-unexamined", None, reason, case.accepted_until, 2)
    names = ", ".join(case.evidence["databases"][:_NAMED])
    text = f"# declare a user on each of: {json.dumps(names)}"
    declare = Remediation(
        "access", text, note="Onboarding examines the databases on which access.yaml declares a user."
    )
    return [declare, onboard(case.on), accept]


ACCOUNT_KINDS = (
    Kind(
        id="user-without-iam",
        title="{user} can log in with a password",
        severity="medium",
        severity_rule=BY_EXPOSURE,
        risk="Anyone who gets the password, from a file, a log or a former colleague, can log in from every place that "
        "reaches the database, until somebody changes the password. AWS doesn't record it.",
        why="The account doesn't accept tokens. PostgreSQL on RDS hides whether a role has a password: a role that may "
        "log in, and not by token, counts as one with a password. Other problems of the account, such as missing TLS, "
        "are fixed by the same step and have no finding of their own.",
        evidence=EVIDENCE,
        remedy=_convert_or_retire,
        references=(_IAM_AUTH, _ACCOUNTS),
        source="session",
    ),
    Kind(
        id="user-with-empty-password",
        title="{user} can log in without any password",
        severity="high",
        severity_rule=BY_EXPOSURE,
        risk="Anyone with network access to the port can log in.",
        why="The account was created without a password, or its password was set to the empty string.",
        evidence=EVIDENCE,
        remedy=_convert_or_retire,
        references=(_ACCOUNTS, _MYSQL_ACCOUNTS),
        source="session",
    ),
    Kind(
        id="user-with-second-password",
        title="{user} accepts tokens, and a password as well",
        severity="medium",
        severity_rule=BY_EXPOSURE,
        risk="The user looks passwordless and is not: the old password still works.",
        why="MariaDB's `OR` between plugins has kept a second way to log in. MySQL drops an account's second password "
        "when its plugin becomes that of tokens, and retains none beside it.",
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
        title="{user} accepts tokens from some hosts and passwords from others",
        severity="medium",
        severity_rule=BY_EXPOSURE,
        risk="The server selects the account by the client's host: some clients still log in by password, and a test "
        "from the wrong host shows that all is done.",
        why="On MySQL and MariaDB an account is a user and a host pattern, and each account has its own plugin.",
        evidence=EVIDENCE
        | {
            "hosts_with_tokens": "host patterns that accept tokens",
            "hosts_with_passwords": "host patterns that accept passwords",
        },
        remedy=_partly,
        references=(_ACCOUNTS, _MYSQL_ACCOUNTS),
        source="session",
    ),
    Kind(
        id="anonymous-user",
        title="Anyone can log in under any name as {user}",
        severity="high",
        severity_rule=BY_EXPOSURE,
        risk="A client with an unknown user name is let in. Since the more specific host wins, the account also "
        "shadows real users, whose logins then fail.",
        why="`mariadb-install-db` and old versions of MySQL create accounts with an empty name, for tests.",
        evidence=EVIDENCE,
        remedy=_on_account(lambda engine, case: engine.drop(case.accounts[0])),
        references=("https://dev.mysql.com/doc/refman/8.4/en/connection-access.html",),
        source="session",
    ),
    Kind(
        id="user-without-tls",
        title="{user} can send its token without TLS",
        severity="medium",
        severity_rule="One step more severe with an administrator or a public endpoint, two steps with both.",
        risk="MySQL sends a token in clear text: anyone who can read the traffic can log in with it for 15 minutes.",
        why="The account lacks `REQUIRE SSL`, and the server doesn't enforce TLS either.",
        evidence=EVIDENCE,
        remedy=_on_account(lambda engine, case: engine.require_tls(case.accounts[0])),
        references=(_ACCOUNTS, _RDS + "mysql-ssl-connections.html"),
        source="session",
    ),
    Kind(
        id="undeclared-user",
        title="{user} accepts tokens, and access.yaml doesn't declare it",
        severity="medium",
        severity_rule=BY_EXPOSURE,
        risk="Anyone whom IAM lets connect as this user can log in, although nobody decided that.",
        why="Somebody created the user by hand, or it came with a restored copy, or it was removed from access.yaml "
        "and is not disabled yet. A second password or missing TLS is fixed by the same steps and has no finding of "
        "its own.",
        evidence=EVIDENCE | {"second_password": "the account accepts a password as well"},
        remedy=_undeclared,
        references=(_ACCOUNTS,),
        source="session",
    ),
    Kind(
        id="login-not-removed",
        title="{user} was removed or revoked, and its login still exists",
        severity="critical",
        severity_rule=FIXED,
        risk="A user that must no longer log in still can, or is still logged in: on the database itself, or on a read "
        "replica of it.",
        why="rdsiam could not complete the removal: the database or a replica does not answer, a session holds a lock "
        "that locking the user needs, or policies could not be changed. rdsiam tries again every hour.",
        evidence={
            "reason": "what prevented the removal last",
            "login": "the user can log in now; null if the database could not be read",
            "revoked": "an operator has revoked the user; otherwise access.yaml no longer declares it",
        },
        remedy=_not_removed,
        references=(_ACCOUNTS,),
        source="rds",
    ),
    Kind(
        id="missing-user",
        title="{user} is declared and can't log in",
        severity="medium",
        severity_rule=FIXED,
        risk="An application or a person that should have access has none, and looks for another way.",
        why="The database was not onboarded since the user was declared, or somebody dropped or locked the user.",
        evidence={
            "state": "`absent`, or `locked`: the user exists and nobody can log in as it",
            "exposure": "always empty",
        },
        remedy=_missing,
        references=(_ACCOUNTS,),
        source="session",
    ),
    Kind(
        id="privileges-differ",
        title="{user} has other privileges than access.yaml declares",
        severity="low",
        severity_rule="Medium with privileges beyond the declared ones; then one step more severe with a public "
        "endpoint.",
        risk="The user may do more than was decided, or its application fails.",
        why="Somebody granted or revoked privileges by hand. rdsiam compares privileges on schemas and global ones "
        "on MySQL and MariaDB, and memberships in rdsiam's groups on PostgreSQL. Further privileges of a user that "
        "rdsiam adopted are its owner's decision.",
        evidence={
            "lacking": "declared privileges that the user lacks, each with `on` and `privileges`",
            "surplus": "privileges beyond the declared ones",
            "exposure": "what makes the finding more severe",
        },
        remedy=_privileges,
        references=(_ACCOUNTS,),
        source="session",
    ),
    Kind(
        id="group-with-rds-iam",
        title="Members of {user} lose their passwords: it has rds_iam",
        severity="high",
        severity_rule=FIXED,
        risk="Current and future members of this role can no longer log in by password, administrators included: the "
        "next GRANT locks somebody out.",
        why="RDS decides by membership in rds_iam, direct or indirect, whatever INHERIT says. So only login roles may "
        "have rds_iam, and they may have no members. Members that lost their passwords have findings of their own; a "
        "login role has this finding only if all of its members hold rds_iam themselves.",
        evidence={"login": "the role itself can log in", "members": "its members, sorted"},
        remedy=_ungroup,
        references=(_IAM_AUTH, _MEMBERSHIP),
        source="session",
    ),
    Kind(
        id="user-inherits-rds-iam",
        title="{user} lost its password: it inherits rds_iam",
        severity="medium",
        severity_rule=BY_EXPOSURE,
        risk="Clients of the user fail with `PAM authentication failed` although their password is right. As soon as "
        "the membership ends, the user accepts its password again, and nobody notices.",
        why="The user is a member of a role that has rds_iam. Nobody decided that it logs in by token.",
        evidence=EVIDENCE | {"through": "the roles from which it inherits rds_iam, nearest first"},
        remedy=_inherits,
        references=(_IAM_AUTH, _MEMBERSHIP),
        source="session",
    ),
    Kind(
        id="administrator-locked-out",
        title="Administrator {user} can no longer log in by password",
        severity="critical",
        severity_rule=FIXED,
        risk="When tokens fail, because of IAM, the network or a policy, nobody can log in to repair that: the "
        "emergency access is closed.",
        why="The master's password is the emergency access, so a master that has one must never accept tokens. Other "
        "administrators lose their passwords by becoming a member of a user with rds_iam: `GRANT app TO admin` is "
        "enough, and so is CREATE ROLE from PostgreSQL 16 on, which makes the creator a member.",
        evidence={
            "master": "the account is the master user",
            "through": "the roles from which it inherits rds_iam, nearest first; empty if it holds rds_iam itself",
        },
        remedy=_take_iam_of_administrator,
        references=(_IAM_AUTH, _MEMBERSHIP),
        source="session",
    ),
    Kind(
        id="master-by-token",
        title="The master {user} logs in by token only",
        severity="low",
        severity_rule=FIXED,
        risk="There is no emergency access by password: when tokens fail, because of IAM, the network or a policy, "
        "nobody can log in to repair that.",
        why="The master has rds_iam, and RDS keeps no secret for it. Either it was made an IAM user "
        "(`MasterUserAuthenticationType: iam-db-auth`), which RDS doesn't report, or somebody granted rds_iam to a "
        "master with a password of its own. rdsiam logs in as this master by token, if it has to. In the second case, "
        "have another administrator revoke rds_iam from it.",
        evidence={"secret": "RDS keeps a secret for the master: false"},
        remedy=_accept_iam_master,
        references=(_IAM_AUTH,),
        source="session",
    ),
    Kind(
        id="replication-user-with-iam",
        title="{user} replicates, which this database allows by password only",
        severity="medium",
        severity_rule=FIXED,
        risk="Replication, or the tool that reads the changes, fails at its next connection.",
        why="RDS accepts tokens for replication only on PostgreSQL with `rds.iam_auth_for_replication = 1`, "
        "which the audit reads from the server. A user with IAM can't use its password.",
        evidence=EVIDENCE,
        remedy=_replication,
        references=(_IAM_AUTH,),
        source="session",
    ),
    Kind(
        id="proxy-user-with-iam",
        title="A proxy can't log in as {user}: this user accepts tokens only",
        severity="high",
        severity_rule=FIXED,
        risk="Every connection through the proxy as this user is refused.",
        why="A proxy that gets passwords from secrets logs in to the database with them. Its users must keep their "
        "passwords, or the proxy must pass tokens on to the database.",
        evidence=EVIDENCE | {"proxies": "names of the proxies that log in as this user"},
        remedy=_proxy_user,
        references=(_PROXY, _RDS + "rds-proxy-connecting.html"),
        source="session",
    ),
    Kind(
        id="objects-owned-by-clone",
        title="{user}, a clone for rotation, owns objects",
        severity="low",
        severity_rule=FIXED,
        risk="After every other rotation the application can't change, or even see, objects that it created itself.",
        why="Rotation with alternating users logs the application in as `<user>` and `<user>_clone` in turn; objects "
        "belong to the user that it logged in as when it created them.",
        evidence={"owns": "number of objects that the clone owns", "successor": "the user that it is a clone of"},
        remedy=_reassign,
        references=("https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotation-strategy.html",),
        source="session",
    ),
    Kind(
        id="acts-as-administrator",
        title="{user} can act as an administrator of {database}",
        severity="high",
        severity_rule=FIXED,
        risk="Anyone who logs in as one of these users has the rights of the administrator: on every role, every "
        "password, every row.",
        why="The function of a trigger runs as the user that writes to the table. A foreign key is checked by a query "
        "that runs as the owner of the referenced table, and calls the cast of the referring column's type. So "
        "TRIGGER and REFERENCES on a table of an administrator give the administrator's rights; `GRANT ALL ON ALL "
        "TABLES` gives both. If another role owns the function of a trigger, that role decides what the function does. "
        "Onboarding examines `postgres` and each database on which access.yaml declares a user, and takes such "
        "privileges from users and groups that rdsiam manages.",
        evidence={
            "in": "the database",
            "owner": "the administrator that owns the tables",
            "held": "`tables`, `future tables` (default privileges), or `trigger` (the function of a trigger)",
            "privileges": "the privileges that are held; empty for a trigger",
            "objects": "the first tables, or triggers; of future tables the schema, if they are limited to one",
            "count": "number of objects",
            "users": "the first users who can make use of it",
        },
        remedy=_end_escalation,
        references=("https://www.postgresql.org/docs/current/ddl-priv.html",),
        source="session",
    ),
    Kind(
        id="manager-without-admin",
        title="rdsiam can't change users that it created on {database}",
        severity="high",
        severity_rule=FIXED,
        risk="A user whose privileges were lowered keeps them, and new users are not created: onboarding fails as soon "
        "as access.yaml changes. Users that leave are locked only while RDS keeps the master's secret.",
        why="From PostgreSQL 16 on a role is changed by roles with ADMIN OPTION on it. A major upgrade from an earlier "
        "version gives this option to nobody, as no role needed it before. The next onboarding restores it, which an "
        "upgrade starts; it has not run since, or failed.",
        evidence={"roles": "the first users and groups of which it is so", "count": "number of users and groups"},
        remedy=_administer,
        references=(_RDS + "USER_UpgradeDBInstance.PostgreSQL.html", _MEMBERSHIP),
        source="session",
    ),
    Kind(
        id="administrators-unexamined",
        title="It is unknown which users can act as an administrator of {database}",
        severity="low",
        severity_rule=FIXED,
        risk="In these databases users may have TRIGGER or REFERENCES on tables of an administrator, which give the "
        "administrator's rights: see `acts-as-administrator`.",
        why="PostgreSQL keeps the privileges on tables in each database, and the audit opens one session. Onboarding "
        "examines `postgres` and each database on which access.yaml declares a user.",
        evidence={
            "databases": "databases that were not examined",
            "onboarded": "onboarding has examined some database of the server",
        },
        remedy=_examine,
        references=("https://www.postgresql.org/docs/current/ddl-priv.html",),
        source="session",
    ),
)
