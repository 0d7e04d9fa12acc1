"""Pastes the blocks of a page into a terminal, and compares what appears with what the page shows."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from tests.documented import ROOT, Block, appears, blocks_of
from tests.terminal import Terminal

#: How a block ends that leaves a person in a program: what the program shows, and what the person types then.
DIALOGUES = {
    "rdsiam psql orders -d shop\n": (("shop=> ?$", "SELECT session_user, current_user;\n"), ("shop_owner", "\\q\n")),
}


def paste(terminal: Terminal, page: str, wanted: Callable[[Block], bool] = lambda _: True) -> str:
    """Paste the blocks of a page that are marked as run, as they are printed, and return all that appeared.

    :param wanted: which of them.
    """
    shown = []
    for block, output in with_outputs(blocks_of(ROOT / page)):
        if block.mark == "run" and wanted(block):
            shown.append(_paste(terminal, block, output))
    return "\n".join(shown)


def _paste(terminal: Terminal, block: Block, output: Block | None) -> str:
    dialogue = next((parts for end, parts in DIALOGUES.items() if block.text.endswith(end)), ())
    typed = terminal.type(block.text, dialogue)
    expected = (block.exit_code,) if block.exit_code else ()
    assert typed.failures == expected, f"{block.name} in {terminal.shell} ended with {typed.failures}: {typed.output}"
    if output:
        missing = [line for line in output.text.splitlines() if not appears(line, typed.output)]
        assert missing == [], f"{output.name}: {terminal.shell} shows something else: {typed.output}"
    return typed.output


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
