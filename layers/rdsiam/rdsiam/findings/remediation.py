"""Steps of remediations: SQL from the engines, commands quoted for a shell, entries of access.yaml."""

import json
import shlex
from collections.abc import Callable, Iterable, Sequence

from pydantic import ValidationError

from rdsiam.access import fields as access_fields
from rdsiam.access.model import Match, User
from rdsiam.aws.rds import Database
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.engines.remediation import RemediationSql
from rdsiam.errors import Refused
from rdsiam.findings.commands import command
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import Case

BREAKS_CLIENTS = "Move all clients to tokens first: afterwards, logins by password are refused."
PROVE_ADMINISTRATOR = (
    "On PostgreSQL, keep this session open while you test a second login of the administrator, and revert the change "
    "if it fails: members of the user may lose their passwords with it. From PostgreSQL 16 on, the role that created "
    "the user is a member."
)
AS_GRANTOR = (
    "From PostgreSQL 16 on, the role that granted a membership has to revoke it; what rdsadmin granted, the master "
    "revokes."
)
#: Sizes of instance classes, smallest first.
_SIZES = ("micro", "small", "medium", "large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge")


def sql(
    database: Database, statements: Callable[[RemediationSql], Iterable[str]], way: int = 1, note: str = ""
) -> list[Remediation]:
    """Return statements as steps; none if a name can't be quoted safely."""
    try:
        texts = list(statements(REMEDIATIONS[database.family]))
    except Refused:
        return []
    return [Remediation("sql", text, way=way, note=note if number == 0 else "") for number, text in enumerate(texts)]


def onboard(database: Database, way: int = 1, note: str = "") -> Remediation:
    """Return the command that makes a database match access.yaml."""
    return command("rdsiam", "onboard", database.arn, way=way, note=note)


def set_parameter(database: Database, parameter: str, value: str, note: str, way: int = 1) -> Remediation:
    """Return the command that sets a dynamic parameter in the parameter group of a database."""
    if database.kind == "cluster":
        noun, group = "cluster", "DBClusters[0].DBClusterParameterGroup"
        change, option = "modify-db-cluster-parameter-group", "--db-cluster-parameter-group-name"
    else:
        noun, group = "instance", "DBInstances[0].DBParameterGroups[0].DBParameterGroupName"
        change, option = "modify-db-parameter-group", "--db-parameter-group-name"
    describe = ("aws", "rds", f"describe-db-{noun}s", f"--db-{noun}-identifier", database.identifier)
    find = shlex.join([*describe, "--query", group, "--output", "text"])
    setting = f"ParameterName={parameter},ParameterValue={value},ApplyMethod=immediate"
    return Remediation("cli", f'aws rds {change} {option} "$({find})" --parameters {setting}', way=way, note=note)


def cloudformation(database: Database, properties: str, way: int) -> Remediation:
    """Return properties of the instance or cluster in a template."""
    kind = "AWS::RDS::DBCluster" if database.kind == "cluster" else "AWS::RDS::DBInstance"
    return Remediation("cloudformation", f"Type: {kind}\nProperties:\n  {properties}", way=way)


def entry(database: Database, user: str, privileges: str, on: Sequence[str], way: int, note: str) -> list[Remediation]:
    """Return an item of `databases` in access.yaml that adopts a user; none if its name can't be declared."""
    try:
        declared = User(name=user, privileges=privileges, on=list(on), adopt=True)
        Match(identifier=database.identifier)
    except ValidationError:
        return []
    if list(access_fields.problems_on(database, declared.name, declared.privileges, on, [])):
        return []
    fields = f"name: {json.dumps(user)}, privileges: {privileges}, on: {json.dumps(list(on))}, adopt: true"
    lines = (_match(database), "    users:", f"      - {{{fields}}}")
    return [Remediation("access", "\n".join(lines), way=way, note=note)]


def next_size(instance_class: str) -> str | None:
    """Return the instance class of the same family with the next size; None if there is none."""
    family, _, size = instance_class.rpartition(".")
    if size not in _SIZES[:-1]:
        return None
    return f"{family}.{_SIZES[_SIZES.index(size) + 1]}"


def accept(case: Case, kind: str, reason: str, way: int = 1, user: str | None = None) -> Remediation:
    """Return an item of `databases` in access.yaml that accepts a finding, only of one user if a user is given."""
    narrowed = "" if user is None else f"user: {json.dumps(user)}, "
    fields = f"finding: {kind}, {narrowed}reason: {json.dumps(reason)}, until: {case.accepted_until}"
    lines = (_match(case.on), "    suppress:", f"      - {{{fields}}}")
    return Remediation("access", "\n".join(lines), way=way)


def retire_or_declare(
    database: Database, accounts: Sequence[AccountFacts], schemas: Sequence[str], way: int = 1
) -> list[Remediation]:
    """Return the remediation of an undeclared login: lock it, or declare it and let onboarding adopt it."""
    locked = "Afterwards nobody can log in as this user. The user keeps its objects and its privileges."
    steps = sql(database, lambda engine: [text for account in accounts for text in engine.lock(account)], way, locked)
    level, on = REMEDIATIONS[database.family].held(accounts, schemas)
    usual = database.default_database if database.default_database in schemas else next(iter(schemas), "*")
    way += bool(steps)
    declare = entry(
        database,
        accounts[0].name,
        level,
        on or [usual or "*"],
        way,
        "Correct the privileges, and add `roles` or `callers`: without them nobody can log in as this user. "
        "Move its clients to tokens first: onboarding makes the user log in by token only.",
    )
    return [*steps, *declare, *([onboard(database, way)] if declare else [])]


def convert_declared(database: Database, accounts: Sequence[AccountFacts], managed: bool) -> list[Remediation]:
    """Return the steps that make a declared user log in by token only; onboarding does the same if it may."""
    note = f"{BREAKS_CLIENTS} {PROVE_ADMINISTRATOR}"
    steps = sql(database, lambda engine: [text for account in accounts for text in engine.convert(account)], note=note)
    return [*steps, *([onboard(database, way=2)] if managed else [])]


def _match(database: Database) -> str:
    return f"  - match: {{identifier: {json.dumps(database.identifier)}}}"
