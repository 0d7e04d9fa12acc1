"""The steps that mend findings: SQL from the engines, commands quoted for a shell, entries of access.yaml."""

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
from rdsiam.findings.finding import Remediation

BREAKS_CLIENTS = "Clients that still log in by password are refused from then on: move them to tokens first."
PROVE_ADMINISTRATOR = (
    "On PostgreSQL, prove a second login of the administrator while this session is open, and take it back if that "
    "fails: members of the user, its creator among them from PostgreSQL 16 on, may lose their passwords with it."
)
AS_GRANTOR = "From PostgreSQL 16 on a membership is taken by the role that granted it."


def sql(
    database: Database, statements: Callable[[RemediationSql], Iterable[str]], way: int = 1, note: str = ""
) -> list[Remediation]:
    """Return statements as steps; none where a name can be in no statement safely."""
    try:
        texts = list(statements(REMEDIATIONS[database.family]))
    except Refused:
        return []
    return [Remediation("sql", text, way=way, note=note if number == 0 else "") for number, text in enumerate(texts)]


def command(*words: str, way: int = 1, note: str = "") -> Remediation:
    """Return a command for a shell, every word quoted."""
    return Remediation("cli", shlex.join(words), way=way, note=note)


def onboard(database: Database, way: int = 1, note: str = "") -> Remediation:
    """Return the command that makes a database what access.yaml declares."""
    return command("rdsiam", "onboard", database.arn, way=way, note=note)


def modify(database: Database, *words: str, way: int = 1, note: str = "") -> Remediation:
    """Return the command that modifies an instance or cluster at once."""
    what = "cluster" if database.kind == "cluster" else "instance"
    pending = ", ".join(name for name in database.pending if name != "IAMDatabaseAuthenticationEnabled")
    warning = f"Other changes wait, and are applied with it, which may reboot: {pending}. " if pending else ""
    start = ("aws", "rds", f"modify-db-{what}", f"--db-{what}-identifier", database.identifier)
    return command(*start, *words, "--apply-immediately", way=way, note=(warning + note).strip())


def cloudformation(database: Database, properties: str, way: int) -> Remediation:
    """Return properties of the template's instance or cluster."""
    kind = "AWS::RDS::DBCluster" if database.kind == "cluster" else "AWS::RDS::DBInstance"
    return Remediation("cloudformation", f"Type: {kind}\nProperties:\n  {properties}", way=way)


def entry(database: Database, user: str, privileges: str, on: Sequence[str], way: int, note: str) -> list[Remediation]:
    """Return an item of `databases` in access.yaml that takes a user over; none where its name can't be declared."""
    try:
        declared = User(name=user, privileges=privileges, on=list(on), adopt=True)
        Match(identifier=database.identifier)
    except ValidationError:
        return []
    if list(access_fields.problems_on(database, declared.name, declared.privileges, declared.on, [])):
        return []
    fields = f"name: {json.dumps(user)}, privileges: {privileges}, on: {json.dumps(list(on))}, adopt: true"
    lines = (_match(database), "    users:", f"      - {{{fields}}}")
    return [Remediation("access", "\n".join(lines), way=way, note=note)]


def suppression(database: Database, finding: str, user: str | None, reason: str, until: str, way: int) -> Remediation:
    """Return an item of `databases` in access.yaml that accepts a finding, of one user if there is one."""
    narrowed = "" if user is None else f"user: {json.dumps(user)}, "
    fields = f"finding: {finding}, {narrowed}reason: {json.dumps(reason)}, until: {until}"
    lines = (_match(database), "    suppress:", f"      - {{{fields}}}")
    return Remediation("access", "\n".join(lines), way=way)


def retire_or_declare(
    database: Database, accounts: Sequence[AccountFacts], schemas: Sequence[str], way: int = 1
) -> list[Remediation]:
    """Return what to do about a login that nobody declared: lock it, or declare it and let onboarding take it over."""
    locked = "Nobody can log in as it from then on. It keeps what it owns and what it was granted."
    steps = sql(database, lambda engine: [text for one in accounts for text in engine.lock(one)], way, locked)
    level, on = REMEDIATIONS[database.family].held(accounts, schemas)
    usual = database.default_database if database.default_database in schemas else next(iter(schemas), "*")
    way += bool(steps)
    declare = entry(
        database,
        accounts[0].name,
        level,
        on or [usual or "*"],
        way,
        "Correct what it may do, and add `roles` or `callers`: without them nobody can log in as it. "
        "Onboarding makes it log in by token only: move its clients to tokens first.",
    )
    return [*steps, *declare, *([onboard(database, way)] if declare else [])]


def convert_declared(database: Database, accounts: Sequence[AccountFacts], managed: bool) -> list[Remediation]:
    """Return what makes a declared user log in by token only; onboarding does it too, where the user is its to mend."""
    note = f"{BREAKS_CLIENTS} {PROVE_ADMINISTRATOR}"
    steps = sql(database, lambda engine: [t for one in accounts for t in engine.convert(one)], note=note)
    return [*steps, *([onboard(database, way=2)] if managed else [])]


def _match(database: Database) -> str:
    return f"  - match: {{identifier: {json.dumps(database.identifier)}}}"
