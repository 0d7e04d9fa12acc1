"""`rdsiam completion`: what a shell needs to complete commands and options."""

import click
from click.shell_completion import get_completion_class


@click.command(
    epilog="""\b
Examples:
  eval "$(rdsiam completion bash)"                       # in ~/.bashrc
  eval "$(rdsiam completion zsh)"                        # in ~/.zshrc
  rdsiam completion fish > ~/.config/fish/completions/rdsiam.fish"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "rdsiam", "_RDSIAM_COMPLETE").source())
