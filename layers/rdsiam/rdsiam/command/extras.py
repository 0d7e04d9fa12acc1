"""Commands that need an extra of the wheel: imported when they are used, and without it they name what to install."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import click

from rdsiam.core.extras import needs
from rdsiam.errors import ExtraMissing


def _access() -> click.Command:
    with needs("access"):
        from rdsiam.command.access import access
    return access


_IN_EXTRAS: Mapping[str, Callable[[], click.Command]] = {"access": _access}


class Commands(click.Group):
    """The commands, with those of the extras."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted([*super().list_commands(ctx), *_IN_EXTRAS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; in place of a command whose extra is not installed, one that says so."""
        if cmd_name not in _IN_EXTRAS:
            command = super().get_command(ctx, cmd_name)
        else:
            try:
                command = _IN_EXTRAS[cmd_name]()
            except ExtraMissing as missing:
                return _stand_in(cmd_name, missing)
        if command is not None:
            _set_context(command)
        return command


class _Context(click.Context):
    """A context that names itself in every error of its command line; click leaves out that of an absent value."""

    @contextmanager
    def scope(self, cleanup: bool = True) -> Iterator[click.Context]:
        try:
            with super().scope(cleanup) as context:
                yield context
        except click.UsageError as error:
            error.ctx = error.ctx or self
            raise


def _set_context(command: click.Command) -> None:
    """Let a command, and those in it, use the context above, and list each with its whole first sentence."""
    command.context_class = _Context
    command.short_help = command.short_help or command.get_short_help_str(limit=1000)
    if isinstance(command, click.Group):
        for part in command.commands.values():
            _set_context(part)


def _stand_in(name: str, missing: ExtraMissing) -> click.Command:
    def refuse(arguments: tuple[str, ...]) -> NoReturn:  # noqa: ARG001  whatever they are
        raise missing

    return click.Command(
        name,
        callback=refuse,
        params=[click.Argument(["arguments"], nargs=-1)],
        short_help=f"Not installed: {missing.remedy}",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )
