"""Evaluates one server that a session has read; no I/O.

One problem is one finding: an undeclared account has one, whatever else is wrong with it, since the same steps remedy
all of that. Accounts that nobody can log in as have none. Neither have the master (unless it lost its password),
rdsiam's own users, and users by whose password a classic proxy logs in.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from rdsiam.audit.evaluate_declared import evaluate_declared
from rdsiam.audit.evaluate_logins import evaluate_logins
from rdsiam.audit.evaluate_secrets import evaluate_secrets
from rdsiam.audit.server import Server
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import Finding
from rdsiam.findings.kind import Case
from rdsiam.state.escalations import Escalation, Examined

#: Role of RDS for PostgreSQL whose members log in by token.
_IAM_ROLE = "rds_iam"
#: Maximum number of roles that a finding names.
_NAMED = 50


def evaluate_server(server: Server) -> Iterator[Finding]:
    """Yield all findings that need a session."""
    yield from _tls(server)
    yield from evaluate_logins(server)
    yield from _locked_out_administrators(server)
    yield from _groups(server)
    yield from _clones(server)
    if server.database.family == "postgres":
        yield from _escalations(server)
        yield from _public_schemas(server)
        yield from _unadministered(server)
    if server.declared is not None:
        yield from evaluate_declared(server, server.declared)
    secrets = server.account.secrets_of(server.database)
    yield from evaluate_secrets(server.database, secrets, _token_only_users(server), server.account.proxies, server.at)


def _token_only_users(server: Server) -> set[str]:
    """Return the users who log in by token and by nothing else."""
    users = {account.name for account in server.usable if account.iam and not account.iam_through}
    return users - {account.name for account in server.usable if not account.iam or account.second_password}


def _tls(server: Server) -> Iterator[Finding]:
    if server.facts.tls_enforced is not False:
        return
    exposure = ("public",) if server.database.public else ()
    all_require_tls = all(account.tls for account in server.usable)
    case = Case(
        server.database,
        None,
        (server.database.resource_id,),
        {"parameter": REMEDIATIONS[server.database.family].tls_parameter, "exposure": list(exposure)},
        exposure=() if all_require_tls else exposure,
        severity="low" if all_require_tls else None,
    )
    yield KINDS["tls-not-enforced"].finding(case)


def _locked_out_administrators(server: Server) -> Iterator[Finding]:
    """Find administrators who lost their passwords: the master, unless it may be an IAM user; others by inheritance."""
    for account in server.facts.accounts:
        if _is_master(server, account) and account.iam:
            if not _is_iam_master(server, account):
                yield _locked_out(server, account, master=True)
            elif not server.database.express:
                yield _administrator(server, "master-by-token", account, {"secret": False})
    for account in server.usable:
        replicates = account.replication and not server.facts.replication_by_token
        inherits = account.administrator and account.iam_through and not replicates
        if inherits and account.name not in server.proxy_users:
            yield _locked_out(server, account, master=False)


def _is_master(server: Server, account: AccountFacts) -> bool:
    return account.name == server.database.master_user and account.host in {"", "%"}


def _is_iam_master(server: Server, master: AccountFacts) -> bool:
    """Return whether a master that takes tokens may have been made an IAM user by RDS, which gives it rds_iam itself.

    RDS then keeps no secret for it. Describe doesn't say which masters are IAM users; only PostgreSQL's can be.
    """
    database = server.database
    itself = _IAM_ROLE in master.member_of and not master.iam_through
    return itself and database.family == "postgres" and database.master_may_take_tokens


def _locked_out(server: Server, account: AccountFacts, master: bool) -> Finding:
    evidence = {"master": master, "through": list(account.iam_through)}
    return _administrator(server, "administrator-locked-out", account, evidence)


def _administrator(server: Server, kind: str, account: AccountFacts, evidence: Mapping[str, object]) -> Finding:
    case = Case(
        server.database,
        account.label,
        (server.database.resource_id, account.name, account.host),
        evidence,
        accounts=(account,),
        accepted_until=server.accepted_until,
    )
    return KINDS[kind].finding(case)


def _groups(server: Server) -> Iterator[Finding]:
    """Find roles with rds_iam that hand it on, or would."""
    members_of: dict[str, list[AccountFacts]] = defaultdict(list)
    for account in server.accounts:
        for name in account.member_of if account.login else ():
            members_of[name].append(account)
    for group in server.accounts:
        if not group.iam or group.iam_through or group.host:
            continue
        members = members_of.get(group.name, [])
        if not _is_risk(server, group, members):
            continue
        case = Case(
            server.database,
            group.name,
            (server.database.resource_id, group.name),
            {"login": group.login, "members": [account.name for account in members]},
            accounts=(group, *members),
        )
        yield KINDS["group-with-rds-iam"].finding(case)


def _is_risk(server: Server, group: AccountFacts, members: list[AccountFacts]) -> bool:
    if group.login:
        # Members that lost their passwords have findings of their own, whose remediation remedies this as well.
        return bool(members) and not any(account.iam_through for account in members)
    if server.is_declared(group.name):
        return False  # a declared user that can't log in is missing
    is_disabled_user = not members and group.name in server.ownership
    return not is_disabled_user


def _clones(server: Server) -> Iterator[Finding]:
    """Find clones of alternating rotations that own objects."""
    names = {account.name for account in server.usable if not account.host}
    for account in server.usable:
        user = account.name.removesuffix("_clone")
        if not account.owns or account.host or user == account.name or user not in names:
            continue
        case = Case(
            server.database,
            account.label,
            (server.database.resource_id, account.name),
            {"owns": account.owns, "successor": user},
            accounts=(account,),
            schemas=server.facts.databases,
        )
        yield KINDS["objects-owned-by-clone"].finding(case)


def _escalations(server: Server) -> Iterator[Finding]:
    """Find users who can act as an administrator, and databases that were not examined for that."""
    examined = server.facts.examined or Examined((), ())
    for escalation in examined.escalations:
        yield _escalation(server, escalation)
    unexamined = sorted({*server.facts.databases} - {*examined.databases})
    if unexamined:
        evidence = {"databases": unexamined, "onboarded": server.facts.examined is not None}
        yield server.finding("administrators-unexamined", None, (), evidence)


def _public_schemas(server: Server) -> Iterator[Finding]:
    """Find schemas in which everybody may create objects."""
    examined = server.facts.examined or Examined((), ())
    for schema in examined.schemas.public:
        evidence = {"in": schema.database, "schema": schema.schema, "owner": schema.owner}
        yield server.finding("public-may-create", None, (schema.database, schema.schema), evidence)


def _unadministered(server: Server) -> Iterator[Finding]:
    """Find users and groups that rdsiam created and can no longer change."""
    created = {name for name, ownership in server.ownership.items() if ownership == "created" and name != MANAGER}
    names = sorted(created & server.facts.unadministered)
    manager = next((account for account in server.facts.accounts if account.name == MANAGER), None)
    if not names or manager is None:
        return
    case = Case(
        server.database,
        None,
        (server.database.resource_id,),
        {"roles": names[:_NAMED], "count": len(names)},
        accounts=(manager,),
    )
    yield KINDS["manager-without-admin"].finding(case)


def _escalation(server: Server, escalation: Escalation) -> Finding:
    evidence = {
        "in": escalation.database,
        "owner": escalation.owner,
        "held": escalation.held,
        "privileges": list(escalation.privileges),
        "objects": [".".join(name) for name in escalation.objects],
        "count": escalation.count,
        "users": list(escalation.users),
    }
    identity = (escalation.database, escalation.owner, escalation.grantee, escalation.held, *escalation.privileges)
    case = Case(
        server.database,
        escalation.grantee or "PUBLIC",
        (server.database.resource_id, *identity),
        evidence,
        escalation=escalation,
    )
    return KINDS["acts-as-administrator"].finding(case)
