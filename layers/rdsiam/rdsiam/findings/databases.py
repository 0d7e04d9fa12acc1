"""Kinds of findings about a database as a whole: what RDS tells of it, its server, its proxies, its secrets."""

import json
import shlex
from dataclasses import replace

from rdsiam.access.selection import Attributes
from rdsiam.aws.rds import Database
from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import FIXED, Case, Kind
from rdsiam.findings.remediation import cloudformation, command, modify, onboard

_RDS = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/"
_IAM_AUTH = _RDS + "UsingWithRDS.IAMDBAuth.html"
_ENABLING = _RDS + "UsingWithRDS.IAMDBAuth.Enabling.html"
_SECRETS = "https://docs.aws.amazon.com/secretsmanager/latest/userguide/"


def _noun(database: Database) -> str:
    return "cluster" if database.kind == "cluster" else "instance"


def _enable(case: Case) -> list[Remediation]:
    return [
        modify(case.on, "--enable-iam-database-authentication", note="Without downtime."),
        cloudformation(case.on, "EnableIAMDatabaseAuthentication: true", way=2),
    ]


def _reach(case: Case) -> list[Remediation]:
    database, stage = case.on, case.evidence["stage"]
    if stage == "state":
        noun = _noun(database)
        return [command("aws", "rds", f"start-db-{noun}", f"--db-{noun}-identifier", database.identifier)]
    if stage in {"login", "query", "iam"}:
        steps = [onboard(database, note="It makes rdsiam_auditor, and what that may read, anew.")]
        if case.evidence["declared"] is False:
            # Whom to let in nobody can guess.
            text = f"# declare the users of {json.dumps(database.identifier)}, as docs/access.md shows"
            steps.insert(0, Remediation("access", text, note="rdsiam leaves databases alone that nobody declared."))
        return steps
    note = "It says what stands in the way: name, route, security group, certificate."
    return [command("rdsiam", "doctor", database.arn, "rdsiam_auditor", note=note)]


def _confirm_or_restore(case: Case) -> list[Remediation]:
    """Confirm the gains, or restore the recorded attributes if there are any."""
    note = "Only if every user under `gains` may have these logins; the plan names them too."
    steps = [
        command("rdsiam", "onboard", case.on.arn, "--plan"),
        command("rdsiam", "onboard", case.on.arn, "--confirm", note=note),
    ]
    if case.recorded_attributes is not None:
        steps += _restore_tags(case.on, case.recorded_attributes)
        steps += _restore_identifier(case.on, case.recorded_attributes)
    return steps


def _restore_tags(database: Database, recorded: Attributes) -> list[Remediation]:
    commands: list[tuple[str, ...]] = []
    changed = {key: value for key, value in recorded.tags.items() if database.tags.get(key) != value}
    if changed:
        tags = [f"Key={key},Value={value}" for key, value in sorted(changed.items())]
        commands.append(("add-tags-to-resource", "--resource-name", database.arn, "--tags", *tags))
    if added := sorted(set(database.tags) - set(recorded.tags)):
        commands.append(("remove-tags-from-resource", "--resource-name", database.arn, "--tag-keys", *added))
    return [
        command("aws", "rds", *words, way=2, note="" if number else "Restores the tags.")
        for number, words in enumerate(commands)
    ]


def _restore_identifier(database: Database, recorded: Attributes) -> list[Remediation]:
    if recorded.identifier == database.identifier or database.kind == "proxy":
        return []
    note = "Restores the identifier; the endpoint changes."
    option = f"--new-db-{_noun(database)}-identifier"
    return [modify(database, option, recorded.identifier, way=2, note=note)]


def _enforce_tls(case: Case) -> list[Remediation]:
    database, engine = case.on, REMEDIATIONS[case.on.family]
    cluster = database.kind == "cluster"
    what, members = ("cluster", "DBClusters[0].DBClusterParameterGroup") if cluster else (
        "instance", "DBInstances[0].DBParameterGroups[0].DBParameterGroupName")  # fmt: skip
    find = shlex.join(
        ["aws", "rds", f"describe-db-{what}s", f"--db-{what}-identifier", database.identifier, "--query", members,
         "--output", "text"]
    )  # fmt: skip
    change, option = (
        ("modify-db-cluster-parameter-group", "--db-cluster-parameter-group-name")
        if cluster
        else ("modify-db-parameter-group", "--db-parameter-group-name")
    )
    value = engine.tls_value(database.engine)
    setting = f"ParameterName={engine.tls_parameter},ParameterValue={value},ApplyMethod=immediate"
    note = (
        "Clients that connect without TLS are refused from then on. Default parameter groups can't be changed: attach "
        "one of your own first. It holds for every database with this group."
    )
    kind = "AWS::RDS::DBClusterParameterGroup" if cluster else "AWS::RDS::DBParameterGroup"
    text = f'Type: {kind}\nProperties:\n  Parameters:\n    {engine.tls_parameter}: "{value}"'
    return [
        Remediation("cli", f'aws rds {change} {option} "$({find})" --parameters {setting}', note=note),
        Remediation("cloudformation", text, way=2),
    ]


def _proxy_tls(case: Case) -> list[Remediation]:
    name = case.evidence["proxy"]
    note = "Clients that connect to it without TLS are refused from then on."
    properties = "Type: AWS::RDS::DBProxy\nProperties:\n  RequireTLS: true"
    return [
        command("aws", "rds", "modify-db-proxy", "--db-proxy-name", name, "--require-tls", note=note),
        Remediation("cloudformation", properties, way=2),
    ]


def _bigger(case: Case) -> list[Remediation]:
    bigger = case.evidence["class"].removesuffix(".micro") + ".small"
    note = "It is out of service for some minutes."
    return [
        modify(case.on, "--db-instance-class", bigger, note=note),
        cloudformation(case.on, f"DBInstanceClass: {bigger}", way=2),
    ]


def _correct_access(case: Case) -> list[Remediation]:
    lines = "\n".join(f"# {problem}" for problem in case.evidence["problems"])
    return [Remediation("access", lines, note="Correct each of these lines, then publish the file.")]


def _delete_secret(case: Case) -> list[Remediation]:
    arn = case.evidence["secret"]
    words = ("aws", "secretsmanager", "delete-secret", "--secret-id", arn, "--recovery-window-in-days", "30")
    return [command(*words, note="It can be restored for 30 days. See first that nobody reads it any more.")]


def _unstick(case: Case) -> list[Remediation]:
    arn, pending, current = (case.evidence[name] for name in ("secret", "pending_version", "current_version"))
    label = ("aws", "secretsmanager", "update-secret-version-stage", "--secret-id", arn, "--version-stage")
    rotated = case.evidence["rotation_lambda"] is not None
    rotate = [command("aws", "secretsmanager", "rotate-secret", "--secret-id", arn)] if rotated else []
    if pending is None:
        return rotate
    first = "If the database takes the current password. See it by logging in with it."
    other = "If it takes the pending password only: that one becomes current."
    result = [command(*label, "AWSPENDING", "--remove-from-version-id", pending, note=first), *rotate]
    if current is not None:
        move = (*label, "AWSCURRENT", "--move-to-version-id", pending, "--remove-from-version-id", current)
        result.append(command(*move, way=2, note=other))
    return result


def _rotate(case: Case, action: str, note: str) -> Remediation:
    return command("rdsiam", "rotate", action, case.on.arn, case.user or "", note=note)


def _status(case: Case) -> Remediation:
    return _rotate(case, "status", "What is pending since when. The cause is in the log of RotateFunction.")


def _now(case: Case) -> Remediation:
    return _rotate(case, "now", "Once the cause is gone: it goes on with the version that is pending.")


def _set_up(case: Case) -> Remediation:
    return _rotate(case, "set-up", "It says what stands in the way. Onboarding does the same with each reconcile.")


def _put_back(case: Case) -> list[Remediation]:
    arn, current, previous = (case.evidence[name] for name in ("secret", "current_version", "previous_version"))
    note = "It says what differs. If the change is meant, say in access.yaml which secret and administrator it is."
    meant = _rotate(case, "set-up", note)
    if current is None or previous is None:
        return [meant]
    label = (
        "aws",
        "secretsmanager",
        "update-secret-version-stage",
        "--secret-id",
        arn,
        "--version-stage",
        "AWSCURRENT",
    )
    move = (*label, "--move-to-version-id", previous, "--remove-from-version-id", current)
    back = "If its value before was right. See first who has changed it: CloudTrail, PutSecretValue."
    return [command(*move, note=back), replace(meant, way=2)]


_SECRET = {"secret": "ARN of the secret", "rotation_lambda": "ARN of the function that rotates it"}

DATABASE_KINDS = (
    Kind(
        id="iam-authentication-off",
        title="{database} takes no tokens: IAM authentication is off",
        severity="high",
        moves="Critical with a public endpoint.",
        risk="Everybody who logs in does so by password, and nobody can look into it: its users are unknown.",
        why="The flag was never switched on, or a tool that knows nothing of it switched it off.",
        evidence={"status": "as RDS reports it", "exposure": "what makes it worse"},
        remedy=_enable,
        references=(_IAM_AUTH, _ENABLING),
        source="rds",
    ),
    Kind(
        id="iam-authentication-pending",
        title="{database} changes IAM authentication only in its maintenance window",
        severity="medium",
        moves=FIXED,
        risk="Until then it takes tokens, or refuses them, other than its settings say; then it changes unannounced.",
        why="The flag was modified without `--apply-immediately`, so it waits among the pending changes.",
        evidence={"enabled": "whether it is on now", "pending": "all changes that wait"},
        remedy=_enable,
        references=(_ENABLING, _RDS + "USER_ModifyInstance.ApplyImmediately.html"),
        source="rds",
    ),
    Kind(
        id="database-unreachable",
        title="{database} is unknown: nobody could look into it",
        severity="high",
        moves="Low while it is stopped, or being made: nobody else gets in either.",
        risk="Whatever is in there, nobody sees it. Unknown is not in order.",
        why="No connection, no login, or no answer in time. `stage` says how far it came.",
        evidence={
            "stage": "`state`, `iam`, `name`, `port`, `tls`, `login`, `query` or `time`",
            "cause": "what the server, the driver or the system said",
            "declared": "access.yaml declares users of it; null where it is invalid for it",
        },
        remedy=_reach,
        references=(_RDS + "CHAP_Troubleshooting.html", _RDS + "UsingWithRDS.IAMDBAuth.Connecting.html"),
        source="rds",
    ),
    Kind(
        id="access-file-invalid",
        title="access.yaml can't be applied to {database}",
        severity="high",
        moves=FIXED,
        risk="Nobody gets a token for it, onboarding refuses it, and the audit can't tell who should be there.",
        why="What the file declares is impossible on this database: a name that is too long or the master's, a role of "
        "another account, a privilege that the engine doesn't have.",
        evidence={"problems": "each with line and key"},
        remedy=_correct_access,
        references=(_RDS + "UsingWithRDS.IAMDBAuth.DBAccounts.html",),
        source="rds",
    ),
    Kind(
        id="gains-need-confirmation",
        title="Other tags or another name of {database} would give logins that nobody has confirmed",
        severity="high",
        moves=FIXED,
        risk="Somebody who may tag, rename or copy databases may be after logins that access.yaml gives for others. "
        "Nobody has them yet; but logins that only the recorded attributes gave are gone.",
        why="Entries of access.yaml match identifier, tags and engine. Those recorded with the resource id differ from "
        "the current ones, or it is a copy and its source's differ. What only the current ones give waits.",
        evidence={
            "changed": "how the attributes differ from the recorded ones",
            "entries": "the entries that match the current attributes only",
            "gains": "what each user would gain",
        },
        remedy=_confirm_or_restore,
        references=(
            "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Tagging.html",
            "https://docs.aws.amazon.com/IAM/latest/UserGuide/access_tags.html",
        ),
        source="rds",
    ),
    Kind(
        id="declared-database-missing",
        title="access.yaml names a database that {database} doesn't have",
        severity="medium",
        moves=FIXED,
        risk="Onboarding refuses the whole server until it is settled: no other change of access.yaml arrives there.",
        why="It was dropped or renamed, or misspelled under `on`. On MySQL and MariaDB a schema may come later.",
        evidence={"name": "the database that isn't there", "users": "declared users that have it under `on`"},
        remedy=lambda case: [
            Remediation(
                "sql", REMEDIATIONS[case.on.family].create_database(case.evidence["name"]), note="Or correct `on`."
            ),
            onboard(case.on),
        ],
        references=("https://www.postgresql.org/docs/current/sql-createdatabase.html",),
        source="session",
    ),
    Kind(
        id="tls-not-enforced",
        title="{database} accepts logins without TLS",
        severity="medium",
        moves="Low where every account asks for TLS by itself; high with a public endpoint.",
        risk="Passwords and data of whoever connects carelessly can be read on the way.",
        why="`rds.force_ssl` is off by default before PostgreSQL 15, `require_secure_transport` on MySQL and MariaDB.",
        evidence={"parameter": "the setting that is off", "exposure": "what makes it worse"},
        remedy=_enforce_tls,
        references=(_RDS + "PostgreSQL.Concepts.General.SSL.html", _RDS + "mysql-ssl-connections.html"),
        source="session",
    ),
    Kind(
        id="instance-too-small",
        title="{database} has little memory for IAM authentication",
        severity="low",
        moves=FIXED,
        risk="Logins fail now and then, with `PAM authentication failed` or a time-out, most of all when many come at "
        "once.",
        why="IAM authentication takes 300 to 1,000 MiB of the instance's memory.",
        evidence={"class": "the instance's class"},
        remedy=_bigger,
        references=(_IAM_AUTH,),
        source="rds",
    ),
    Kind(
        id="proxy-without-tls",
        title="A proxy in front of {database} accepts connections without TLS",
        severity="medium",
        moves=FIXED,
        risk="Passwords, tokens and data can be read between the client and the proxy.",
        why="The proxy was made without `RequireTLS`.",
        evidence={"proxy": "its name", "classic": "it takes passwords"},
        remedy=_proxy_tls,
        references=(_RDS + "rds-proxy-connecting.html", _RDS + "rds-proxy-setup.html"),
        source="rds",
    ),
    Kind(
        id="secret-of-iam-user",
        title="A secret holds a password of {user}, who takes tokens only",
        severity="low",
        moves="Medium where something rotates it: on MySQL that makes it take a password again.",
        risk="Applications that read it can't log in; a rotation turns the user back without a word.",
        why="The user was converted and its secret was forgotten.",
        evidence=_SECRET | {"rotation_enabled": "something rotates it"},
        remedy=_delete_secret,
        references=(_SECRETS + "manage_delete-secret.html",),
        source="secrets",
    ),
    Kind(
        id="rotation-stuck",
        title="The rotation of {user}'s password is stuck",
        severity="medium",
        moves=FIXED,
        risk="The password never changes again: further rotations fail with `A previous rotation isn't complete`.",
        why="A step failed, nearly always for the network, and left a version labelled AWSPENDING.",
        evidence=_SECRET
        | {
            "pending_version": "the version that blocks",
            "current_version": "the version that is in use",
            "last_rotated": "when it was last rotated",
        },
        remedy=_unstick,
        references=(_SECRETS + "troubleshoot_rotation.html",),
        source="secrets",
    ),
    Kind(
        id="rotation-failing",
        title="The rotation of {user}'s password fails",
        severity="medium",
        moves=FIXED,
        risk="For some hours Secrets Manager tries again; then the rotation is stuck, and the password never changes.",
        why="A step failed, nearly always for the network: a rotation takes seconds, and this one has not ended.",
        evidence=_SECRET | {"pending_version": "the version that shall be current", "last_rotated": "when it last was"},
        remedy=lambda case: [_status(case), _now(case)],
        references=(_SECRETS + "troubleshoot_rotation.html",),
        source="secrets",
    ),
    Kind(
        id="rotation-not-set",
        title="The password of {user} is declared to be rotated, and is not",
        severity="medium",
        moves=FIXED,
        risk="A password that was meant to live for days lives on, while access.yaml says otherwise.",
        why="The user or its secret is missing, access.yaml names no secret of it, the secret's owner has not "
        "tagged it, somebody else rotates it, or its schedule was changed by hand. Onboarding says which.",
        evidence={"secret": "ARN of the recorded secret; null if there is none", "every": "how often access.yaml says"},
        remedy=lambda case: [_set_up(case)],
        references=(_SECRETS + "rotating-secrets.html",),
        source="secrets",
    ),
    Kind(
        id="secret-not-as-recorded",
        title="The secret of {user} holds another login than the one that is recorded",
        severity="high",
        moves=FIXED,
        risk="Whoever writes the secret tries to have rdsiam set the password of another user. RotateFunction refuses "
        "it, so the user's own password is no longer rotated, and applications that read the secret can't log in.",
        why="The value of a secret that access.yaml or an operator has chosen for this user names another user, "
        "database or administrator now.",
        evidence={
            "secret": "ARN of the secret",
            "username": "the user that its value names",
            "place": "the database or host that its value names",
            "administrator": "the administrator's secret that its value names (`masterarn`)",
            "recorded_administrator": "the one that is recorded",
            "current_version": "the version that is in use",
            "previous_version": "the version before; null if there is none",
        },
        remedy=_put_back,
        references=(_SECRETS + "rotating-secrets.html",),
        source="secrets",
    ),
    Kind(
        id="rotation-overdue",
        title="The password of {user} should have been rotated",
        severity="medium",
        moves=FIXED,
        risk="A password that was meant to live for days lives on; rotation may have failed for a year unseen.",
        why="Its schedule has passed by more than a day, and no rotation came.",
        evidence=_SECRET | {"last_rotated": "when it was last rotated", "next_rotation": "when it was due"},
        remedy=lambda case: [command("aws", "secretsmanager", "rotate-secret", "--secret-id", case.evidence["secret"])],
        references=(_SECRETS + "rotating-secrets.html", _SECRETS + "troubleshoot_rotation.html"),
        source="secrets",
    ),
)
