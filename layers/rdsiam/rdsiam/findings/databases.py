"""Kinds of findings about a database as a whole: RDS's description, access.yaml, the server, proxies."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from rdsiam.access.selection import Attributes
from rdsiam.aws.rds import Database
from rdsiam.aws.rds_models import in_transition
from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.findings import runners
from rdsiam.findings.commands import aws, modify, modify_in_window, noun, rdsiam, step
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import FIXED, Case, Kind
from rdsiam.findings.parameters import parameter_template, set_parameter
from rdsiam.findings.references import ACCOUNTS, ENABLING, IAM, IAM_AUTHENTICATION, POSTGRES, RDS
from rdsiam.findings.remediation import access, cloudformation, onboard, sql, template


def is_transient(unreachable: Mapping[str, Any]) -> bool:
    """Return whether RDS is changing a database that could not be read, so that this may pass by itself.

    :param unreachable: evidence of `database-unreachable`.
    """
    return in_transition(unreachable["status"]) and unreachable["stage"] != "iam"


def _enable(case: Case) -> list[Remediation]:
    """Switch it on at once, which needs no downtime, unless RDS would apply other pending changes with it."""
    option = "--enable-iam-database-authentication"
    steps = [modify(case.on, option, note="Without downtime.")]
    if others := sorted(set(case.on.pending) - {"IAMDatabaseAuthenticationEnabled"}):
        outage = f"Without downtime of its own, but together with the pending changes ({', '.join(others)})."
        steps = modify_in_window(case.on, option, outage=outage)
    return [*steps, cloudformation(case.on, "EnableIAMDatabaseAuthentication: true", way=len(steps) + 1)]


def _upgrade(case: Case) -> list[Remediation]:
    target = case.evidence["upgrade"]
    if target is None:
        offers = "OrderableDBInstanceOptions[?SupportsIAMDatabaseAuthentication].EngineVersion"
        words = ("rds", "describe-orderable-db-instance-options", "--engine", case.on.engine, "--query", offers)
        note = (
            "RDS offers no upgrade to a version with IAM authentication. These versions have it: move the data to one."
        )
        return [aws(case.on, *words, "--output", "text", note=note)]
    outage = (
        "The database is unavailable during the upgrade, and RDS can't take it back: take a snapshot, and try it on a "
        "restored copy first. Then declare users in access.yaml: onboarding switches IAM authentication on."
    )
    change = ("--engine-version", target, "--allow-major-version-upgrade")
    return [
        *modify_in_window(case.on, *change, outage=outage),
        cloudformation(case.on, f'EngineVersion: "{target}"\n  AllowMajorVersionUpgrade: true', way=3),
    ]


def _reach(case: Case) -> list[Remediation]:
    database, stage, status = case.on, case.evidence["stage"], case.evidence["status"]
    if is_transient(case.evidence):
        text = shlex.join(["rdsiam", "audit", "--database", database.arn])
        return [step("cli", text, runners.OPERATOR, note=f"When RDS has finished: it is {status}.")]
    if stage == "state":
        kind, identifier = noun(database), database.cluster or database.identifier
        if status.startswith("stop"):
            return [aws(database, "rds", f"start-db-{kind}", f"--db-{kind}-identifier", identifier)]
        source = ("--source-identifier", identifier, "--source-type", f"db-{kind}", "--duration", "20160")
        return [aws(database, "rds", "describe-events", *source, note=f"These say why it is {status}.")]
    if stage in {"login", "query", "iam"}:
        steps = [onboard(database, note="This creates rdsiam_auditor and its privileges again.")]
        if case.evidence["declared"] is False:
            # The users to declare can't be derived.
            text = f"# declare the users of {json.dumps(database.identifier)}, as docs/access.md shows"
            steps.insert(0, access(text, note="rdsiam leaves databases without declared users alone."))
        return steps
    note = "This names the cause: host name, route, security group, certificate."
    return [rdsiam("doctor", database, user="rdsiam_auditor", note=note)]


def _confirm_or_restore(case: Case) -> list[Remediation]:
    """Confirm the gains, or restore the recorded attributes if there are any."""
    note = "Only if every user under `gains` may have these logins; the plan names them too."
    steps = [
        rdsiam("onboard", case.on, "--plan"),
        rdsiam("onboard", case.on, "--confirm", note=note),
    ]
    if case.recorded_attributes is not None:
        steps += _restore_tags(case.on, case.recorded_attributes)
        steps += _restore_identifier(case.on, case.recorded_attributes)
    return steps


def _restore_tags(database: Database, recorded: Attributes) -> list[Remediation]:
    """Return the commands that restore the tags. As JSON, since the CLI would split a value at its commas."""
    commands: list[tuple[str, ...]] = []
    changed = {key: value for key, value in recorded.tags.items() if database.tags.get(key) != value}
    if changed:
        tags = [{"Key": key, "Value": value} for key, value in sorted(changed.items())]
        commands.append(("add-tags-to-resource", "--resource-name", database.arn, "--tags", json.dumps(tags)))
    if added := sorted(set(database.tags) - set(recorded.tags)):
        commands.append(("remove-tags-from-resource", "--resource-name", database.arn, "--tag-keys", json.dumps(added)))
    return [
        aws(database, "rds", *words, way=2, note="" if number else "Restores the tags.")
        for number, words in enumerate(commands)
    ]


def _restore_identifier(database: Database, recorded: Attributes) -> list[Remediation]:
    if recorded.identifier == database.identifier or database.kind == "proxy":
        return []
    note = "Restores the identifier; the endpoint changes, and clients that use the present one fail."
    return [modify(database, f"--new-db-{noun(database)}-identifier", recorded.identifier, way=2, note=note)]


def _enforce_tls(case: Case) -> list[Remediation]:
    """Show who connects without TLS, then refuse it."""
    database, engine = case.on, REMEDIATIONS[case.on.family]
    look = sql(
        database,
        lambda _: [engine.sessions_without_tls],
        note="These clients connect without TLS now, and would be refused. It shows open sessions only.",
    )
    value = engine.tls_value(database.engine)
    note = "Afterwards clients that connect without TLS are refused: set TLS up in them first."
    steps = set_parameter(database, engine.tls_parameter, value, note)
    way = 1 + bool(steps)
    return [*(look if steps else []), *steps, parameter_template(database, engine.tls_parameter, value, way)]


def _proxy_tls(case: Case) -> list[Remediation]:
    name = case.evidence["proxy"]
    note = "Afterwards clients that connect to the proxy without TLS are refused: set TLS up in them first."
    return [
        aws(case.on, "rds", "modify-db-proxy", "--db-proxy-name", name, "--require-tls", note=note),
        template("AWS::RDS::DBProxy", "RequireTLS: true", 2),
    ]


def _bigger(case: Case) -> list[Remediation]:
    bigger = case.evidence["class"].removesuffix(".micro") + ".small"
    outage = "The database is unavailable for some minutes."
    return [
        *modify_in_window(case.on, "--db-instance-class", bigger, outage=outage),
        cloudformation(case.on, f"DBInstanceClass: {bigger}", way=3),
    ]


def _create_missing(case: Case) -> list[Remediation]:
    note = "Or correct `on`."
    create = sql(case.on, lambda engine: [engine.create_database(case.evidence["name"])], note=note)
    return [*create, onboard(case.on)]


def _correct_access(case: Case) -> list[Remediation]:
    lines = "\n".join(f"# {problem}" for problem in case.evidence["problems"])
    return [access(lines, note="Correct these lines, then publish the file.")]


DATABASE_KINDS = (
    Kind(
        id="iam-authentication-off",
        title="{database} accepts no tokens: IAM authentication is off",
        severity="high",
        severity_rule="Critical with a public endpoint.",
        risk="All users log in by password, and the audit can't read the database: its users are unknown.",
        why="IAM authentication was never switched on, or a tool that doesn't know it switched it off.",
        evidence={"status": "as RDS reports it", "exposure": "what makes the finding more severe"},
        remedy=_enable,
        references=(IAM_AUTHENTICATION, ENABLING),
        source="rds",
    ),
    Kind(
        id="iam-authentication-unavailable",
        title="{database} can't accept tokens: its version has no IAM authentication here",
        severity="high",
        severity_rule="Critical with a public endpoint.",
        risk="All users log in by password, and the audit can't read the database: its users are unknown.",
        why="RDS offers IAM authentication by engine, version and region, for example not for MariaDB before 10.11. "
        "Switching it on is refused, so onboarding leaves the database alone until it is upgraded.",
        evidence={
            "engine": "the engine",
            "version": "the engine's version",
            "upgrade": "the nearest version with IAM authentication that RDS can upgrade it to; null if there is none",
            "exposure": "what makes the finding more severe",
        },
        remedy=_upgrade,
        references=(IAM_AUTHENTICATION, RDS + "Concepts.RDS_Fea_Regions_DB-eng.Feature.IamDatabaseAuthentication.html"),
        source="rds",
    ),
    Kind(
        id="iam-authentication-pending",
        title="{database} changes IAM authentication only in its maintenance window",
        severity="medium",
        severity_rule=FIXED,
        risk="Until then the database accepts or refuses tokens contrary to its settings; then it changes unannounced.",
        why="The setting was modified without `--apply-immediately`, so it is one of the pending changes.",
        evidence={"enabled": "IAM authentication is on now", "pending": "all pending changes"},
        remedy=_enable,
        references=(ENABLING, RDS + "USER_ModifyInstance.ApplyImmediately.html"),
        source="rds",
    ),
    Kind(
        id="database-unreachable",
        title="{database} is unknown: the audit could not read it",
        severity="high",
        severity_rule="Low while the database is stopped: then nobody can log in. Low for a day while RDS creates, "
        "modifies, reboots or upgrades it.",
        risk="The users of the database are unknown. Unknown is not compliant.",
        why="No connection, no login, or no answer in time. `stage` tells how far the audit came.",
        evidence={
            "stage": "`state`, `iam`, `name`, `port`, `tls`, `login`, `query` or `time`",
            "cause": "the message of the server, the driver or the system",
            "status": "the status that RDS reports",
            "declared": "access.yaml declares users of the database; null if access.yaml is invalid for it",
        },
        remedy=_reach,
        references=(RDS + "CHAP_Troubleshooting.html", RDS + "UsingWithRDS.IAMDBAuth.Connecting.html"),
        source="rds",
    ),
    Kind(
        id="access-file-invalid",
        title="access.yaml can't be applied to {database}",
        severity="high",
        severity_rule=FIXED,
        risk="Nobody gets a token for the database, onboarding refuses it, and the audit doesn't know its declared "
        "users.",
        why="The file declares something impossible on this database: a name that is too long or the master's, a role "
        "of another account, a privilege that the engine doesn't have.",
        evidence={"problems": "each with line and key"},
        remedy=_correct_access,
        references=(ACCOUNTS,),
        source="rds",
    ),
    Kind(
        id="gains-need-confirmation",
        title="Changed tags or another name of {database} would give unconfirmed logins",
        severity="high",
        severity_rule=FIXED,
        risk="Somebody who may tag, rename or copy databases may try to get logins that access.yaml gives for other "
        "databases. Nobody has these logins yet; but logins that only the recorded attributes gave are gone.",
        why="Entries of access.yaml match identifier, tags and engine. The attributes that are recorded with the "
        "resource id differ from the current ones, or the database is a copy and its source's attributes differ. "
        "Logins that only the current attributes give wait for confirmation.",
        evidence={
            "changed": "how the attributes differ from the recorded ones",
            "entries": "the entries that match the current attributes only",
            "gains": "the gains of each user",
        },
        remedy=_confirm_or_restore,
        references=(
            RDS + "USER_Tagging.html",
            IAM + "access_tags.html",
        ),
        source="rds",
    ),
    Kind(
        id="declared-database-missing",
        title="access.yaml names a database that {database} doesn't have",
        severity="medium",
        severity_rule=FIXED,
        risk="Onboarding refuses the whole server until this is resolved: no other change of access.yaml is applied "
        "there.",
        why="The database was dropped or renamed, or it is misspelled under `on`. On MySQL and MariaDB a schema may be "
        "created later.",
        evidence={"name": "the missing database", "users": "declared users that have it under `on`"},
        remedy=_create_missing,
        references=(POSTGRES + "sql-createdatabase.html",),
        source="session",
    ),
    Kind(
        id="tls-not-enforced",
        title="{database} accepts logins without TLS",
        severity="medium",
        severity_rule="Low if every account requires TLS itself; high with a public endpoint.",
        risk="Passwords and data of clients that connect without TLS can be read on the network.",
        why="`rds.force_ssl` is off by default before PostgreSQL 15, `require_secure_transport` on MySQL and MariaDB.",
        evidence={"parameter": "the parameter that is off", "exposure": "what makes the finding more severe"},
        remedy=_enforce_tls,
        references=(RDS + "PostgreSQL.Concepts.General.SSL.html", RDS + "mysql-ssl-connections.html"),
        source="session",
    ),
    Kind(
        id="instance-too-small",
        title="{database} has little memory for IAM authentication",
        severity="low",
        severity_rule=FIXED,
        risk="Logins fail now and then, with `PAM authentication failed` or a timeout, especially many logins at once.",
        why="IAM authentication takes 300 to 1,000 MiB of the instance's memory.",
        evidence={"class": "the instance's class"},
        remedy=_bigger,
        references=(IAM_AUTHENTICATION,),
        source="rds",
    ),
    Kind(
        id="proxy-without-tls",
        title="A proxy in front of {database} accepts connections without TLS",
        severity="medium",
        severity_rule=FIXED,
        risk="Passwords, tokens and data can be read between the client and the proxy.",
        why="The proxy was created without `RequireTLS`.",
        evidence={"proxy": "name of the proxy", "classic": "the proxy accepts passwords"},
        remedy=_proxy_tls,
        references=(RDS + "rds-proxy-connecting.html", RDS + "rds-proxy-setup.html"),
        source="rds",
    ),
)
