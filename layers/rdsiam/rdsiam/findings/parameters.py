"""Steps that set a parameter of a database: in its own parameter group, or in a new one in place of RDS's default.

All parameters here are dynamic. RDS applies a dynamic parameter at once if the group is attached already; so the group
is attached first, and set after that. Members of a cluster may still need a reboot after another group was attached.
"""

import shlex

from rdsiam.aws.rds import Database
from rdsiam.findings import runners
from rdsiam.findings.commands import aws, noun, step
from rdsiam.findings.finding import Remediation
from rdsiam.findings.runners import Runner

_DEFAULT = "default."
_NO_REBOOT = "No reboot follows: the parameter is dynamic."


def set_parameter(database: Database, parameter: str, value: str, note: str, way: int = 1) -> list[Remediation]:
    """Return the commands that set a dynamic parameter; none if the database's parameter group is unknown.

    :param note: what follows from the value.
    """
    group, shared = database.parameter_group, "This holds for every database with the parameter group"
    if not group:
        return []
    if not group.startswith(_DEFAULT):
        return [_set(database, group, (parameter, value), f"{note} {shared} {group}. {_NO_REBOOT}", way)]
    family = group.removeprefix(_DEFAULT)
    new = f"{database.identifier}-{family}".replace(".", "-")
    reboot = "A reboot may follow: see the next step." if database.kind == "cluster" else _NO_REBOOT
    return [
        *_attach(database, new, family, way),
        _set(database, new, (parameter, value), f"{note} {reboot}", way),
        *(_reboot(database, way) if database.kind == "cluster" else ()),
    ]


def _option(database: Database) -> str:
    return "--db-cluster-parameter-group" if database.kind == "cluster" else "--db-parameter-group"


def _attach(database: Database, group: str, family: str, way: int) -> list[Remediation]:
    kind, option = noun(database), _option(database)
    create = ("rds", f"create-{option.removeprefix('--')}", f"{option}-name", group, f"{option}-family", family)
    if database.kind == "cluster":
        create = (*create[:4], "--db-parameter-group-family", family)
    default = f"{_DEFAULT}{family} is RDS's default parameter group, which can't be changed: this makes another one."
    attached = "The new group has the values of the default one, so this changes no parameter, and reboots nothing."
    own = (f"--db-{kind}-identifier", database.identifier)
    return [
        aws(database, *create, "--description", f"Parameters of {database.identifier}", way=way, note=default),
        aws(database, "rds", f"modify-db-{kind}", *own, f"{option}-name", group, way=way, note=attached),
        aws(database, "rds", "wait", f"db-{kind}-available", *own, way=way),
    ]


def _set(database: Database, group: str, setting: tuple[str, str], note: str, way: int) -> Remediation:
    option, (parameter, value) = _option(database), setting
    words = ("rds", f"modify-{option.removeprefix('--')}", f"{option}-name", group, "--parameters")
    wanted = f"ParameterName={parameter},ParameterValue={value},ApplyMethod=immediate"
    return aws(database, *words, wanted, way=way, note=note)


def _reboot(database: Database, way: int) -> list[Remediation]:
    """Return the command that reboots the members of a cluster for which RDS asks that; the others stay as they are."""
    region = shlex.join(["--region", database.region])
    own = shlex.join(["--db-cluster-identifier", database.identifier])
    query = "DBClusters[0].DBClusterMembers[?DBClusterParameterGroupStatus=='pending-reboot'].DBInstanceIdentifier"
    waiting = f'$(aws rds describe-db-clusters {own} --query "{query}" --output text {region})'
    if database.engine.startswith("aurora"):
        action = "rds:RebootDBInstance"
        text = (
            f'for member in {waiting}; do aws rds reboot-db-instance --db-instance-identifier "$member" {region}; done'
        )
    else:
        action = "rds:RebootDBCluster"
        text = f'test -z "{waiting}" || aws rds reboot-db-cluster {own} {region}'
    note = (
        "This reboots only members that wait for it (`pending-reboot`), as RDS may ask after another cluster parameter "
        "group was attached. A reboot ends all connections for some seconds: choose a quiet hour."
    )
    runner = Runner(f"a principal of AWS with rds:DescribeDBClusters and {action}", "a shell with the AWS CLI")
    return [step("cli", text, runner, way=way, note=note)]


def parameter_template(database: Database, parameter: str, value: str, way: int) -> Remediation:
    """Return the parameter as a property of the parameter group in a template."""
    kind = "AWS::RDS::DBClusterParameterGroup" if database.kind == "cluster" else "AWS::RDS::DBParameterGroup"
    text = f'Type: {kind}\nProperties:\n  Parameters:\n    {parameter}: "{value}"'
    note = "The database's own parameter group: the default one can't be changed."
    return step("cloudformation", text, runners.STACK_OWNER, way=way, note=note)
