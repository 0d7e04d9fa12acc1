"""The fenced blocks of the documentation: each is marked as one that tests run as printed, or as an example."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Pages that people read and copy from.
PAGES = sorted(
    path
    for folder in (ROOT, ROOT / "docs", ROOT / "docs" / "decisions", ROOT / "tests", ROOT / "examples")
    for path in folder.glob("*.md")
)
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+|~~~+)(?P<info>[^`\n]*)\n(?P<text>.*?)^ *(?P=fence) *$", re.M | re.S)
_SHELLS = {"sh", "bash", "zsh", "shell", "console"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    #: The number of its first line, that of the fence.
    line: int
    #: The words after the fence: language, mark, and of a block that is run its exit code if that isn't 0.
    words: tuple[str, ...]
    text: str

    @property
    def name(self) -> str:
        """The page and the line, for messages and ids of tests."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def last_line(self) -> int:
        """The number of its last line, that of the closing fence."""
        return self.line + self.text.count("\n") + 1

    @property
    def mark(self) -> str:
        """`run`, `example`, or nothing."""
        return self.words[1] if len(self.words) > 1 else ""

    @property
    def is_shell(self) -> bool:
        """Whether people paste it into a shell."""
        return self.words[:1] == ("sh",)

    @property
    def is_python(self) -> bool:
        """Whether it is in Python; those that are run are the lines of docs/applications.md."""
        return self.words[:1] == ("python",)

    @property
    def exit_code(self) -> int:
        """The exit code of plans and findings in a block that is run; 0 if all commands end with 0."""
        return int(self.words[2].removeprefix("exit-")) if len(self.words) > 2 else 0

    @property
    def problem(self) -> str:
        """The error in the marks of the block, or nothing."""
        if not self.words or self.mark not in ("run", "example"):
            return "has no mark: write ```sh run if a test runs it as printed, else ```LANGUAGE example"
        if self.words[0] in _SHELLS - {"sh"}:
            return f"is in {self.words[0]}: write sh"
        if self.mark == "run" and not (self.is_shell or self.is_python):
            return f"is in {self.words[0]}: only blocks in sh and python can be run"
        if len(self.words) > 3 or (
            len(self.words) == 3 and not (self.mark == "run" and self.is_shell and _EXIT.fullmatch(self.words[2]))
        ):
            return f"has a mark that means nothing: {' '.join(self.words[2:])}"
        return ""

    def comments(self) -> list[str]:
        """Return the lines of a shell's block that have a comment, which an interactive zsh takes for words."""
        return [line for line in self.commands() if has_comment(line)] if self.is_shell else []

    def commands(self) -> list[str]:
        """Return the lines of the block, those that a backslash continues as one line, without here-documents."""
        lines, end = [], ""
        for line in self.text.replace("\\\n", " ").splitlines():
            if end:
                end = "" if line.strip() == end else end
                continue
            start = re.search(r"<<-?\s*['\"]?(\w+)", line.replace("<<<", ""))
            end = start[1] if start else ""
            lines.append(line)
        return [line for line in lines if line.strip()]


_EXIT = re.compile(r"exit-[1-9]\d*")


def has_comment(line: str) -> bool:
    """Tell whether a shell that knows comments would find one in a line, which `#` inside of a word or quotes isn't."""
    quote, previous = "", " "
    for number, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote and (quote == "'" or previous != "\\") else quote
        elif letter in "'\"" and previous != "\\":
            quote = letter
        elif letter == "#" and (number == 0 or previous in " \t;&|()"):
            return True
        previous = letter
    return False


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, without the indent of a list."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        indent = len(found["indent"])
        lines = [line[indent:] if not line[:indent].strip() else line for line in found["text"].splitlines()]
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, tuple(found["info"].split()), "".join(f"{each}\n" for each in lines))


def appears(line: str, shown: str) -> bool:
    """Tell whether a printed line appeared, whatever its times, ids and numbers; `…` stands for what was left out."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in _general(line).split("…")]
    return re.search(r"\s*.*\s*".join(parts), _general(shown)) is not None


def _general(text: str) -> str:
    """Return a text in which each time, id and number is the same."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?Z|\d{8}T\d{6}Z-[0-9a-f]{8}", "T", text)
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{20}\b", "H", text)
    return re.sub(r"\d+", "9", text)
