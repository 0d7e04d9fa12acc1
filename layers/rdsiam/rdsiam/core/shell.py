"""Commands that people paste into a shell, bash or zsh."""

import shlex
from collections.abc import Iterable


def join(words: Iterable[str]) -> str:
    """Return a command, with every word quoted that a shell would read as something else."""
    return " ".join(map(quote, words))


def quote(word: str) -> str:
    """Return a word for a command. zsh replaces `=ls` by the path of that program, which `shlex.quote` doesn't know."""
    return f"'{word}'" if word.startswith("=") and shlex.quote(word) == word else shlex.quote(word)
