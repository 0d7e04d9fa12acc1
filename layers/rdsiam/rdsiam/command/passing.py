"""Commands that pass arguments on to a program: only those after `--`, so that no typing error reaches the program."""

from typing import Any

import click
from click.shell_completion import CompletionItem

from rdsiam.core.similar import did_you_mean

#: In a context's `meta`: the words that follow are the program's.
_PASSING = "rdsiam.passing"


class PassingCommand(click.Command):
    """A command that passes the words after `--` on to a program.

    :param passed: parameter of the callback that gets those words.
    :param program: the program's name, as messages have it; None if the first of the words is the program.
    """

    def __init__(self, *arguments: Any, passed: str, program: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._passed = passed
        self._program = program

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the words of the usage line, `--` and what follows it included."""
        following = "[-- ARGUMENTS...]" if self._program else "-- COMMAND [ARGUMENTS]..."
        return [*super().collect_usage_pieces(ctx), following]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words before `--`.

        :raises click.UsageError: there is a word too many, an option of the program, or no program.
        """
        ctx.meta[_PASSING] = "--" in args
        position = args.index("--") if "--" in args else len(args)
        own, passed = args[:position], args[position + 1 :]
        try:
            rest = super().parse_args(ctx, own)
        except click.NoSuchOption as error:
            name = error.option_name
            own_options = [option for parameter in self.params for option in parameter.opts if option.startswith("--")]
            advice = " ".join(filter(None, [did_you_mean(name, own_options), self._advice(ctx, name)]))
            raise click.UsageError(f"No such option '{name}'; {advice}", ctx) from None
        except click.UsageError as error:
            raise self._stray(ctx, error) from None
        if not (self._program or passed or ctx.resilient_parsing):
            raise click.UsageError(f"Missing command: {self._advice(ctx, 'COMMAND')}", ctx)
        ctx.params[self._passed] = tuple(passed)
        return rest

    def _stray(self, ctx: click.Context, error: click.UsageError) -> click.UsageError:
        if isinstance(error, click.BadParameter) or not error.message.startswith("Got unexpected extra argument"):
            return error
        words = error.message.partition("(")[2].rpartition(")")[0]
        return click.UsageError(
            f"Unexpected argument: {words}; a user is named with --user, a database or schema with --dbname; "
            f"{self._advice(ctx, words)}",
            ctx,
        )

    def _advice(self, ctx: click.Context, words: str) -> str:
        owner = f"{self._program}'s own arguments come" if self._program else "the command to run comes"
        return f"{owner} after --: {ctx.command_path} DATABASE -- {words}"

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer options before `--`, and files after it, as the program's arguments may be."""
        if ctx.meta.get(_PASSING):
            return [CompletionItem(incomplete, type="file")]
        return super().shell_complete(ctx, incomplete)
