"""The commands and their options."""

import click

from rdsiam.command import audit

app = click.Group(
    "rdsiam",
    help="Passwordless logins for a fleet of Amazon RDS and Aurora databases.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_command(audit.audit)
