"""`rdsiam completion`: prints the script with which a shell completes commands and options."""

import click
from click.shell_completion import get_completion_class


@click.command(
    epilog="""\b
Examples:
  eval "$(rdsiam completion bash)"
      in ~/.bashrc
  eval "$(rdsiam completion zsh)"
      in ~/.zshrc
  rdsiam completion fish > ~/.config/fish/completions/rdsiam.fish"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL."""
    completion_class = get_completion_class(shell)
    assert completion_class is not None
    click.echo(completion_class(context.find_root().command, {}, "rdsiam", "_RDSIAM_COMPLETE").source())
