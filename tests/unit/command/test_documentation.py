"""Every `rdsiam` command in the documentation, in messages and in help texts is one that the command accepts."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rdsiam.command.app import app
from tests.documented import has_comment

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_PUNCTUATION = "|&;<>()"


def commands_of(line: str) -> Iterator[list[str]]:
    """Yield the words of each `rdsiam` command in a line of a shell, without its first word."""
    lexer = shlex.shlex(line.replace('"$(', "$(").replace(')"', ")"), posix=True, punctuation_chars=_PUNCTUATION)
    lexer.whitespace_split, lexer.commenters = True, "#"
    command: list[str] | None = None
    for word in lexer:
        if set(word) <= set(_PUNCTUATION):
            if command:
                yield command
            command = None
        elif command is not None:
            command.append(word)
        elif word == "rdsiam":
            command = []
    if command:
        yield command


def fenced(text: str) -> Iterator[list[str]]:
    """Yield the commands in the code blocks of a page."""
    for block in text.split("```")[1::2]:
        for line in block.partition("\n")[2].replace("\\\n", " ").splitlines():
            if re.match(r"(\$ )?rdsiam ", line) or "$(rdsiam " in line or "| rdsiam " in line:
                yield from commands_of(line)


def parse(words: list[str]) -> None:
    """Parse a command line without running it.

    :raises click.UsageError: the command does not accept it.
    """
    context = click.Context(app, info_name="rdsiam")
    command: click.Command = app
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            raise click.UsageError(f"no command {words[0]}")
        command, words = found, words[1:]
        context = click.Context(command, info_name=command.name, parent=context)
    if words:
        command.make_context(command.name, words)


def accepted(words: list[str]) -> bool:
    """Tell whether the command accepts a command line."""
    try:
        parse([word for word in words if word != "…" and not word.startswith("[")])
    except click.exceptions.Exit:
        return True  # --help
    except click.UsageError:
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_code_blocks_are_accepted(page):
    assert [" ".join(words) for words in fenced(page.read_text()) if not accepted(words)] == []


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield " ".join([*path, name]), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


@pytest.mark.parametrize("command", [pytest.param(command, id=path) for path, command in commands(app)])
def test_examples_of_help_texts_are_accepted(command):
    examples = [words for line in (command.epilog or "").splitlines() for words in commands_of(line)]
    assert [" ".join(words) for words in examples if not accepted(words)] == []


@pytest.mark.parametrize("command", [pytest.param(command, id=path) for path, command in commands(app)])
def test_examples_of_help_texts_have_no_comments(command):
    """They are pasted into a plain zsh too, which takes the words of a comment for arguments."""
    lines = [*(command.epilog or "").splitlines(), *(command.help or "").splitlines()]
    assert [line for line in lines if re.search(r"rdsiam|eval|aws ", line) and has_comment(line)] == []


def test_messages_name_commands_that_exist():
    groups = {
        name: command
        for name, command in app.commands.items()
        if isinstance(command, click.Group) and not command.invoke_without_command
    }
    pattern = rf"rdsiam ({'|'.join(groups)}) [a-z-]+"
    lines = subprocess.run(
        ["git", "grep", "-hoE", pattern, "--", "layers", "functions"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert lines
    assert {line for line in lines if line.split()[2] not in groups[line.split()[1]].commands} == set()
