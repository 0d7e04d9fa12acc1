"""Kinds of findings about accounts that rds_iam took the password from, and that need it or didn't choose that."""

from rdsiam.engines.logins import MANAGER
from rdsiam.findings import runners
from rdsiam.findings.accounts import EVIDENCE
from rdsiam.findings.commands import aws, modify
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import BY_EXPOSURE, FIXED, Case, Kind
from rdsiam.findings.logins import lock_unused, retire_or_declare, usage
from rdsiam.findings.parameters import set_parameter
from rdsiam.findings.references import IAM_AUTHENTICATION, MEMBERSHIP, RDS
from rdsiam.findings.remediation import AS_GRANTOR, accept, onboard, sql


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


def _inherits(case: Case) -> list[Remediation]:
    if case.evidence["declared"] is not False:
        note = "Afterwards the user holds rds_iam itself, and keeps its login when the group loses rds_iam."
        steps = sql(case.on, lambda engine: engine.convert(case.accounts[0]), note=note)
        return [*steps, *([onboard(case.on, way=2)] if case.managed else [])]
    return retire_or_declare(case)


def _take_iam_of_administrator(case: Case) -> list[Remediation]:
    account = case.accounts[0]
    # The account itself can't log in by its password; the master can, unless it is the account.
    runner = runners.by_token(case.on, MANAGER) if case.evidence["master"] else None
    note = f"Or as another administrator, in a session that is still open. {AS_GRANTOR}"
    steps = sql(case.on, lambda engine: engine.remove_iam(account), note=note, runner=runner)
    # On MySQL this takes a new password, which RDS sets for its master.
    managed = "rotate" if case.on.master_secret_arn else "manage"
    new = "The master gets a new password: programs that know the former one need the new one."
    return steps or [modify(case.on, f"--{managed}-master-user-password", note=new)]


def _accept_iam_master(case: Case) -> list[Remediation]:
    """Accept a master that is an IAM user; no statement, since without rds_iam such a master has no login at all."""
    label, reason = case.accounts[0].label, "MasterUserAuthenticationType is iam-db-auth"
    return accept(case, "master-by-token", reason, user=label)


def _replication(case: Case) -> list[Remediation]:
    """Let the user replicate first, by its password or by token; locking it, or taking the right, comes last."""
    account, steps = case.accounts[0], []
    if case.evidence["declared"] is False:
        note = f"Afterwards the user replicates by its password again. {AS_GRANTOR}"
        steps = sql(case.on, lambda engine: engine.remove_iam(account), note=note)
        steps += accept(case, "user-without-iam", "replicates by password", 1, account.label) if steps else []
    steps += _allow_tokens_for_replication(case, 1 + bool(steps))
    way = max((step.way for step in steps), default=0) + 1
    if case.evidence["declared"] is False:
        return [*steps, *lock_unused(case, way)]
    note = f"{usage(case.accounts)} Let another user, with a password, replicate first."
    return [*steps, *sql(case.on, lambda engine: engine.stop_replicating(account), way, note)]


def _allow_tokens_for_replication(case: Case, way: int) -> list[Remediation]:
    """Return the parameter with which users replicate by token; only PostgreSQL has one."""
    if case.on.family != "postgres":
        return []
    note = (
        "rds.logical_replication must be 1 too. From then on every user with rds_iam needs a token to replicate: its "
        "clients must be able to sign tokens."
    )
    return set_parameter(case.on, "rds.iam_auth_for_replication", "1", note, way)


def _proxy_user(case: Case) -> list[Remediation]:
    back = (
        f"{usage(case.accounts)} Afterwards the proxy logs in by the password in its secret again; clients that log in "
        f"to the database itself with tokens are refused. {AS_GRANTOR}"
    )
    steps = sql(case.on, lambda engine: engine.remove_iam(case.accounts[0]), note=back)
    way = 2 if steps else 1
    note = "Move all clients of the proxy to tokens first: afterwards it passes tokens on and refuses passwords."
    words = ("rds", "modify-db-proxy", "--db-proxy-name")
    return [
        *steps,
        *(
            aws(case.on, *words, name, "--default-auth-scheme", "IAM_AUTH", way=way, note=note)
            for name in case.evidence["proxies"]
        ),
    ]


LOST_PASSWORD_KINDS = (
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
        references=(IAM_AUTHENTICATION, MEMBERSHIP),
        source="session",
    ),
    Kind(
        id="user-inherits-rds-iam",
        title="{user} can't log in by password: it inherits rds_iam",
        severity="medium",
        severity_rule=BY_EXPOSURE,
        risk="Clients with a password of the user fail with `PAM authentication failed` although it is right. As soon "
        "as the membership ends, the user accepts its password again, if it has one, and nobody notices.",
        why="The user is a member of a role that has rds_iam. Nobody decided that it logs in by token.",
        evidence=EVIDENCE | {"through": "the roles from which it inherits rds_iam, nearest first"},
        remedy=_inherits,
        references=(IAM_AUTHENTICATION, MEMBERSHIP),
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
        references=(IAM_AUTHENTICATION, MEMBERSHIP),
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
        references=(IAM_AUTHENTICATION,),
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
        references=(IAM_AUTHENTICATION,),
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
        references=(RDS + "rds-proxy-iam-setup.html", RDS + "rds-proxy-connecting.html"),
        source="session",
    ),
)
