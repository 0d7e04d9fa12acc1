"""Kinds of findings about the ways in which an account logs in: passwords, hosts, TLS."""

from collections.abc import Callable, Iterable

from rdsiam.engines.remediation import RemediationSql
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import BY_EXPOSURE, Case, Kind
from rdsiam.findings.logins import BREAKS_CLIENTS, adopt, convert_declared, retire_or_declare, usage
from rdsiam.findings.references import ACCOUNTS, IAM_AUTHENTICATION, MYSQL, RDS
from rdsiam.findings.remediation import onboard, sql

#: Evidence of every finding about one account.
EVIDENCE = {
    "plugin": "authentication plugin on MySQL and MariaDB",
    "password": "the account accepts a password; null if the server hides that, as PostgreSQL does on RDS",
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
    return lambda case: sql(
        case.on, lambda engine: statements(engine, case), note=f"{usage(case.accounts)} {note}".strip()
    )


def _convert_or_retire(case: Case) -> list[Remediation]:
    """Convert users that are declared, or may be; migrate, rotate or lock undeclared users."""
    return retire_or_declare(case) if case.evidence["declared"] is False else convert_declared(case)


def _partly(case: Case) -> list[Remediation]:
    """Adopt all host patterns of a declared user: onboarding refuses accounts that rdsiam doesn't manage."""
    user = case.declared
    if case.evidence["declared"] is False or user is None:
        return _convert_or_retire(case)
    whole = [grant for grant in user.grants if grant.schemas is None]
    level = next((grant.privileges for grant in whole if isinstance(grant.privileges, str)), None)
    on = [grant.on for grant in whole if grant.privileges == level]
    note = f"{usage([account for account in case.accounts if not account.iam])} {BREAKS_CLIENTS}"
    adopted = adopt(case.on, user.name, level, on, 1, note) if isinstance(level, str) else []
    return [*adopted, onboard(case.on)] if adopted else convert_declared(case)


ACCOUNT_KINDS = (
    Kind(
        id="user-without-iam",
        title="{user} can log in with a password",
        severity="medium",
        severity_rule=BY_EXPOSURE,
        risk="Anyone who gets the password, from a file, a log or a former colleague, can log in from every place that "
        "reaches the database, until somebody changes the password. AWS doesn't record it.",
        why="The account doesn't accept tokens. PostgreSQL on RDS hides whether a role has a password: each role that "
        "may log in, and not by token, has this finding, whether it ever had a password or not. Other problems of the "
        "account, such as missing TLS, are fixed by the same steps and have no finding of their own.",
        evidence=EVIDENCE,
        remedy=_convert_or_retire,
        references=(IAM_AUTHENTICATION, ACCOUNTS),
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
        references=(ACCOUNTS, MYSQL + "account-names.html"),
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
            ACCOUNTS,
            MYSQL + "password-management.html",
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
        references=(ACCOUNTS, MYSQL + "account-names.html"),
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
        remedy=_on_account(
            lambda engine, case: engine.drop(case.accounts[0]),
            note="Clients that give an unknown user name, or none, are refused afterwards.",
        ),
        references=(MYSQL + "connection-access.html",),
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
        remedy=_on_account(
            lambda engine, case: engine.require_tls(case.accounts[0]),
            note="Clients that connect as this user without TLS are refused afterwards: set TLS up in them first.",
        ),
        references=(ACCOUNTS, RDS + "mysql-ssl-connections.html"),
        source="session",
    ),
)
