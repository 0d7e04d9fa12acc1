"""The documentation leads somewhere: its links, the commands and the functions that it names exist."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rdsiam.command.app import app
from tests.documented import PAGES, ROOT, Block, appears, blocks_of

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the words of each `rdsiam …` command in code."""
    code = [*re.findall(r"^```.*?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL), *re.findall(r"`([^`\n]+)`", text)]
    for line in "\n".join(code).splitlines():
        for command in re.findall(r"(?:^|[(|] ?)(rdsiam [a-z][^#|;)\n]*)", line.strip()):
            yield command.split()


def unknown_part(words: list[str]) -> str | None:
    """Return the first word that is neither a command nor an option of the command before it."""
    command: click.Command = app
    options: set[str] = {"--help", "--version"}
    for word in words[1:]:
        if word == "--":
            return None
        if word == "-":
            continue
        if isinstance(command, click.Group) and not word.startswith("-"):
            found = command.get_command(click.Context(command), word)
            if found is None:
                return word
            command = found
        elif word.startswith("-"):
            options |= {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            if word.split("=")[0].rstrip("])…,.") not in options:
                return word
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    broken = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_shown_commands_exist(page):
    shown = {tuple(words) for words in commands_in(page.read_text())}
    assert [words for words in sorted(shown) if unknown_part(list(words))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_block_is_marked_as_run_or_as_example(page):
    assert [f"{block.name} {block.problem}" for block in blocks_of(page) if block.problem] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_lines_for_a_shell_have_no_comments(page):
    """A plain zsh takes the words of a comment for arguments: `pip install . # the command` installs `the`."""
    assert [f"{block.name}: {line}" for block in blocks_of(page) for line in block.comments()] == []


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        ("", "no mark"),
        ("sh", "no mark"),
        ("yaml", "no mark"),
        ("run", "no mark"),
        ("sh runs", "no mark"),
        ("sh Example", "no mark"),
        ("bash run", "write sh"),
        ("console example", "write sh"),
        ("text run", "only blocks in sh"),
        ("python run exit-3", "means nothing"),
        ("python run", ""),
        ("sh run exit-0", "means nothing"),
        ("sh run 3", "means nothing"),
        ("sh example exit-3", "means nothing"),
        ("sh run exit-3 more", "means nothing"),
        ("sh run", ""),
        ("sh run exit-3", ""),
        ("sh example", ""),
        ("mermaid example", ""),
    ],
)
@pytest.mark.parametrize("fence", ["```", "~~~", "````", "   ```"])
def test_marks(tmp_path, monkeypatch, info, problem, fence):
    monkeypatch.setattr("tests.documented.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{fence}{info}\nls\n{fence}\n")
    (block,) = blocks_of(page)
    assert block.text.strip() == "ls"
    assert (problem in block.problem) if problem else block.problem == ""


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("rdsiam ls # the databases", True),
        ("# the databases", True),
        ("  # the databases", True),
        ("rdsiam ls    #", True),
        ("rdsiam ls;# the databases", True),
        ("(rdsiam ls) # the databases", True),
        ("echo 'a' \\\n  b # c", True),
        ('echo "it\'s" # c', True),
        ("echo 'a # b'", False),
        ('echo "a # b"', False),
        ("curl https://example.com/#part", False),
        ("echo $#", False),
        ("cat > a <<YAML\n# a comment of YAML\nYAML", False),
        ("cat > a <<'YAML'\nx: 1  # a comment of YAML\nYAML\nls # c", True),
        ("cat <<<'x' # c", True),
    ],
)
def test_comments_are_found(line, found):
    assert bool(Block(ROOT / "README.md", 1, ("sh", "run"), f"{line}\n").comments()) is found
    assert Block(ROOT / "README.md", 1, ("yaml", "example"), f"{line}\n").comments() == []


@pytest.mark.parametrize(
    ("line", "shown", "found"),
    [
        ("orders    analyst  declared", "x\norders  analyst  declared\n", True),
        ("orders    analyst  declared", "orders  analysts  declared", False),
        ("orders    analyst  declared", "orders  declared  analyst", False),
        ("at 2026-11-27T08:13:08Z", "at 2027-01-02T03:04:05Z", True),
        ("audit 20261127T215056Z-23b3d365", "audit 20270101T000000Z-ffffffff", True),
        ("version e66f440d-8a17-4249-b9ac-2c68862f2c15", "version 00000000-8a17-4249-b9ac-2c68862f2c15", True),
        ("1 of 2 databases would change", "3 of 40 databases would change", True),
        ("1 of 2 databases would change", "3 of 40 databases would differ", False),
        ("s3://…/report.html", "report: s3://bucket/audits/x/report.html", True),
        ("medium … legacy can log in w…", "medium  user  legacy  ab  legacy can log in with a password", True),
        ("a (b) [c] *", "a (b) [c] *", True),
        ("a (b) [c] *", "a b c", False),
    ],
)
def test_outputs_are_compared_whatever_their_times_and_numbers(line, shown, found):
    assert appears(line, shown) is found


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    names = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in names if f"({name})" not in index} == set()


def test_functions_on_the_architecture_page_exist():
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`((?:\w+/)+\w+|signer)\.([A-Za-z_][\w.]*)`", text))
    assert len(named) > 40
    missing = []
    named = {(module, name) for module, name in named if name != "py"}
    for module, attribute in sorted(named):
        value: object = importlib.import_module("rdsiam." + module.replace("/", "."))
        for part in attribute.split("."):
            value = getattr(value, part, None)
        if value is None:
            missing.append(f"{module}.{attribute}")
    assert missing == []


def test_packages_on_the_architecture_page_are_those_of_the_layer():
    text = (ROOT / "docs" / "architecture.md").read_text()
    layer = ROOT / "layers" / "rdsiam" / "rdsiam"
    drawn = set(re.findall(r"^  ([a-z]+)/", text, re.MULTILINE))
    assert drawn == {path.parent.name for path in layer.glob("*/__init__.py")}
