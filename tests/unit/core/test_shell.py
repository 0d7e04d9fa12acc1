"""Printed commands mean the same words in bash and in zsh."""

import shlex
import shutil
import subprocess

import pytest

from rdsiam.core import shell

WORDS = [
    "app", "=ls", "=", "==", "=no-such-program", "a=b", "~root", "$(id)", "`id`", "a b", "it's", "!!", "#x", "*",
    "{a,b}", "", "a\nb", "-x", "%1", "^a^b", "?", "[a]", "é", "\\", '"', ";id", "&", "|", "<x", ">x",
]  # fmt: skip


@pytest.mark.parametrize("options", [["bash", "-c"], ["zsh", "-fc"], ["zsh", "-fic"]], ids=" ".join)
def test_a_shell_reads_the_words_that_were_joined(options):
    if shutil.which(options[0]) is None:
        pytest.skip(f"{options[0]} is not installed")
    command = shell.join(["printf", "%s\\0", *WORDS])
    done = subprocess.run([*options, command], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.split("\0")[:-1] == WORDS


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_quoted_only_if_a_shell_needs_that(word):
    assert shlex.split(shell.quote(word)) == [word]
    assert shell.quote("a=b") == "a=b"
