"""Click options that commands share, each defined once.

A decorator here adds a set of options to a command and passes it one object made of their values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeAlias

import click

from rdsiam.command import names
from rdsiam.command.installation import Installation
from rdsiam.command.output import Format, Output

Command: TypeAlias = Callable[..., Any]
Decorator: TypeAlias = Callable[[Command], Command]

everything = click.option(
    "--all", "everything", is_flag=True, help="Fetch from S3 the lists that the answer had no room for."
)
plan = click.option("--plan", is_flag=True, help="Change nothing; show what would be changed.")


@dataclass(frozen=True)
class Mode:
    """Mode of a change: planned only, or beyond the change limit."""

    plan: bool
    confirm: bool

    def payload(self) -> dict[str, bool]:
        """Return the fields of a function's payload, without those that are off."""
        return {name: True for name, on in (("plan", self.plan), ("confirm", self.confirm)) if on}


_SETTINGS = {
    "access_bucket": click.option("--access-bucket", metavar="NAME", help="Bucket of access.yaml."),
    "api_url": click.option("--api-url", metavar="URL", help="Address of the API."),
    "audit_function": click.option("--audit-function", metavar="NAME", help="AuditFunction with its alias."),
    "inventory_table": click.option(
        "--inventory-table", metavar="NAME", help="Table of databases and applied version."
    ),
    "migrate_function": click.option("--migrate-function", metavar="NAME", help="MigrateFunction with its alias."),
    "onboard_function": click.option("--onboard-function", metavar="NAME", help="OnboardFunction with its alias."),
    "report_bucket": click.option("--report-bucket", metavar="NAME", help="Bucket of the audit's reports."),
    "secrets_function": click.option("--secrets-function", metavar="NAME", help="SecretsFunction with its alias."),
    "stack": click.option("--stack", metavar="NAME", help="CloudFormation stack. Default: rdsiam."),
}
_PROFILE = click.option(
    "--profile", metavar="NAME", shell_complete=names.of_profiles, help="Profile of the AWS configuration."
)
_REGION = click.option("--region", metavar="NAME", help="AWS region. Default: the profile's.")


def gather(name: str, names: Sequence[str], make: Callable[[Mapping[str, Any]], object]) -> Decorator:
    """Pass a command one argument in place of several.

    :param name: of the argument.
    :param names: of the arguments that it replaces.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def gathered(**values: Any) -> Any:
            made = make({part: values.pop(part) for part in names})
            return command(**values, **{name: made})

        return gathered

    return decorate


def add(options: Sequence[Decorator], command: Command) -> Command:
    """Add options to a command; help lists them in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def databases(help: str) -> Decorator:
    """Add --database, which can be given several times; the command gets `databases`."""
    return click.option(
        "--database", "databases", multiple=True, metavar="DATABASE", shell_complete=names.of_fleet, help=help
    )


def mode(confirm: str) -> Decorator:
    """Add --plan and --confirm; the command gets a `mode`.

    :param confirm: what --confirm permits.
    """
    added = [plan, click.option("--confirm", is_flag=True, help=confirm)]

    def decorate(command: Command) -> Command:
        return add(added, gather("mode", ["plan", "confirm"], lambda values: Mode(**values))(command))

    return decorate


def output(*forms: Format, quiet: bool = False) -> Decorator:
    """Add --output; the command gets an `output`.

    :param forms: the first is the default; all of table, json and csv if there are none.
    :param quiet: add --quiet too.
    """
    choices = [str(form) for form in forms or ("table", "json", "csv")]
    form = click.option("--output", "form", type=click.Choice(choices), default=choices[0], show_default=True)
    options = [form, click.option("--quiet", "-q", is_flag=True, help="No progress.")] if quiet else [form]
    names = ["form", "quiet"] if quiet else ["form"]

    def decorate(command: Command) -> Command:
        return add(options, gather("output", names, lambda values: Output(**values))(command))

    return decorate


def installation(*settings: str) -> Decorator:
    """Add --profile and --region, --stack, and an option for each setting; the command gets a `installation`.

    :param settings: without any, the command knows no stack, and --stack is left out.
    """
    names = [*(name for name in settings if name != "stack"), "stack"] if settings else []

    def make(values: Mapping[str, Any]) -> Installation:
        return Installation({name: values[name] for name in names}, values["profile"], values["region"])

    def decorate(command: Command) -> Command:
        options = [*(_SETTINGS[name] for name in names), _PROFILE, _REGION]
        return add(options, gather("installation", [*names, "profile", "region"], make)(command))

    return decorate
