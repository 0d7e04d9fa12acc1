"""Pastes the blocks of a page into a terminal, and compares what appears with what the page shows."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from tests.documented import ROOT, Block, appears, blocks_of
from tests.terminal import Terminal

#: How a block ends that waits for a person: what the program shows, and what the person types then.
DIALOGUES = {
    "rdsiam access publish access.yaml\n": ((r"Publish\? \[y/N\]", "y\n"),),
    "rdsiam psql orders -d shop\n": (("shop=> ?$", "SELECT session_user, current_user;\n"), ("shop_owner", "\\q\n")),
}


def paste(terminal: Terminal, page: str, wanted: Callable[[Block], bool] = lambda _: True) -> str:
    """Paste the blocks of a page that are marked as run, as they are printed, and return all that appeared.

    :param wanted: which of them.
    :raises AssertionError: some ended otherwise than the page says; the message names all of them.
    """
    shown, problems = [], []
    for block, output in with_outputs(blocks_of(ROOT / page)):
        if block.mark == "run" and block.is_shell and wanted(block):
            dialogue = next((parts for end, parts in DIALOGUES.items() if block.text.endswith(end)), ())
            typed = terminal.type(block.text, dialogue)
            shown.append(typed.output)
            problems += [
                f"{problem} in {terminal.shell}; the terminal shows: {typed.output}"
                for problem in (failures(block, typed.failures), differences(output, typed.output))
                if problem
            ]
    assert problems == [], "\n\n".join(problems)
    return "\n".join(shown)


def failures(block: Block, codes: tuple[int, ...]) -> str:
    """Return which exit codes a block shouldn't have ended with, or nothing."""
    expected = {block.exit_code} - {0}
    return "" if set(codes) == expected else f"{block.name}: commands ended with {codes}, not with {expected}"


def differences(output: Block | None, shown: str) -> str:
    """Return the lines of an output that didn't appear, or nothing."""
    missing = [line for line in output.text.splitlines() if not appears(line, shown)] if output else []
    return f"{output.name}: missing {missing}" if output and missing else ""


def with_outputs(blocks: Iterable[Block]) -> Iterator[tuple[Block, Block | None]]:
    """Yield each block with the output below it, which is the text that follows it without a sentence between."""
    for block, following in pairwise([*blocks, None]):
        assert block
        follows = following and following.words[0] == "text" and following.line == block.last_line + 2
        yield block, following if follows else None


def project_folder(folder: Path, names: Iterable[str]) -> Path:
    """Fill a folder with links to the project's files, so that a test may write beside them, and return it."""
    for name in names:
        (folder / name).symlink_to(ROOT / name)
    return folder
