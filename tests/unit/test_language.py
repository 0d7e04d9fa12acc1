"""The language of the project: plain, current English in code, documentation and the template.

The rules are in CONTRIBUTING.md. A pattern here is a wording that a reader stumbles over, with what to write instead.
"""

import ast
import io
import itertools
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("layers/rdsiam/rdsiam", "functions", "localcloud", "demo", "bench", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if path != Path(__file__)
)
#: The change log lists names that are gone.
TEXTS = [
    *sorted(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "tests").glob("*.md")),
    ROOT / "template.yaml",
]
#: A wording that is not used → what to write instead.
FORBIDDEN = {
    r"\bany more\b": "no longer",
    r"\bis no more\b": "no longer exists, has ended",
    r"\b(None|[Ee]mpty|[Nn]othing|False|True) where\b": "if",
    r"\bwhere (there|it) (is|are|has|does)(n't| not| none| no)\b": "if",
    r"\bours\b": "managed by rdsiam",
    r"\bheirs?\b": "successor",
    r"\b[Bb]rak(e|es|ed)\b": "change limit",
    r"\b[Ss]we(ep|eps|eping|pt)\b": "reconcile",
    r"\b[Dd]isclaims?\b": "release ownership",
    r"\bshall\b": "must, or the present tense",
    r"\b(is|are) to be\b": "must be, or the active voice",
    r"\b(he|his|him|himself)\b": "they, or the noun",
    r"\bsee above\b": "name the place",
    r"\b[Mm]end(s|ed|ing)?\b": "fix, remediation",
    r"\b[Ww]ish(es)?\b": "request",
    r"\b[Uu]nread\b": "unreadable",
    r"\bconceivable\b": "may be allowed",
    r"\bsupposed\b": "assumed, expected",
    r"\b[Tt]roubles?\b": "known errors, problem",
    r"\b[Uu]nsettled\b": "unresolved",
    r"\b(can|could|to|must) settle\b": "resolve",
    r"\b(is|are|was|were) told\b": "notified, logged; or name the message",
    r"\b(is|are) none (at all|any)\b": "does not count, does not exist",
    r"\blets? go of\b": "release ownership",
    r"\bcould not be had\b": "could not be obtained",
    r"\bstands? not\b": "is not effective",
    r"\b(come|comes|came) to (its|an|their) end\b": "end, finish",
    r"\bthat is meant\b": "that is intended",
    r"\b[Cc]redentials (that )?(have|has) ended\b": "have expired",
    r"\bled out of\b": "move from … to",
    r"\bso many\b(?! that)": "the maximum number, that many",
    r"\bDone twice\b": "idempotent",
    r"\bwhom? (no|an) entry\b": "if no entry names the caller",
}
ANY_FORBIDDEN = re.compile("|".join(FORBIDDEN))
OPENINGS = re.compile(r"\A(What|Who|Whom|Whose|How|Where)\b")
#: What a file has that has such a docstring.
POSSIBLE_OPENING = re.compile(r"""["']\s*(What|Who|Whom|Whose|How|Where)\b""")


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and text of every comment and string of a Python file, or of every line of another one."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(source.splitlines(), 1)
        return
    kinds = {tokenize.COMMENT, tokenize.STRING, tokenize.FSTRING_MIDDLE}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            for number, line in enumerate(token.string.splitlines()):
                yield token.start[0] + number, line


def wordings(path: Path) -> list[str]:
    """Return each forbidden wording of a file, with its line and with what to write instead."""
    if not ANY_FORBIDDEN.search(path.read_text(encoding="utf-8")):
        return []  # saves nearly every file the tokens
    return [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}; write: {instead}"
        for number, line in texts_of(path)
        for pattern, instead in FORBIDDEN.items()
        if (match := re.search(pattern, line))
    ]


def openings(path: Path) -> list[str]:
    """Return each docstring of a file that begins with a question word, with its line."""
    source = path.read_text(encoding="utf-8")
    if not POSSIBLE_OPENING.search(source):
        return []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        f"{path}:{getattr(node, 'lineno', 1)}: {docstring.splitlines()[0]}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and (docstring := ast.get_docstring(node)) and OPENINGS.match(docstring)
    ]


def test_no_forbidden_wording_is_used():
    assert [problem for path in (*SOURCES, *TEXTS) for problem in wordings(path)] == []


def test_docstrings_begin_with_a_verb_or_a_noun():
    assert [problem for path in SOURCES for problem in openings(path)] == []


@pytest.mark.parametrize("example", ["shown in \u2026 any more", "he said", "Done twice"])
def test_a_forbidden_wording_in_a_comment_and_a_string_is_found(tmp_path, monkeypatch, example):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    file = tmp_path / "example.py"
    file.write_text(f"he = 1\n# {example}\ntext = 'so: {example}'\n", encoding="utf-8")
    assert [problem.split(":")[1] for problem in wordings(file)] == ["2", "3"]


@pytest.mark.parametrize(
    ("docstring", "found"),
    [
        ('"""What it is."""', 1),
        ("'How it works.'", 1),
        ('"""\n    Where it is.\n    """', 1),
        ('"""A thing. Who knows?"""', 0),
    ],
)
def test_an_opening_question_is_found(tmp_path, docstring, found):
    file = tmp_path / "example.py"
    file.write_text(f"def f():\n    {docstring}\n")
    assert len(openings(file)) == found


#: Nouns after a number: a fixed plural reads "1 databases" for one database.
PLURALS = (
    "accounts callers connections databases days decisions entries events executions findings grants hours "
    "jobs logins members migrations passwords policies records rotations rules secrets sessions shards statements "
    "subscriptions users versions views"
)
#: Limits, which are never one, and the schedule that AWS writes.
COUNTED_OTHERWISE = {"LARGEST_BATCH", "_MINUTES", "MOST_USERS", "fewest", "rules"}


#: What a file has that has such an f-string.
POSSIBLE_PLURAL = re.compile(rf"}} (?:new |open |of them |of the )?(?:{'|'.join(PLURALS.split())})\b")


def fixed_plurals(source: str) -> Iterator[tuple[int, str]]:
    """Yield each f-string in which a plural follows a number, with its line."""
    if not POSSIBLE_PLURAL.search(source):
        return
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, words in itertools.pairwise(node.values):
            if not isinstance(value, ast.FormattedValue) or not isinstance(words, ast.Constant):
                continue
            named = {each.id for each in ast.walk(value.value) if isinstance(each, ast.Name)}
            noun = re.match(r" (?:new |open |of them |of the )?([a-z]+)\b", str(words.value))
            if noun and noun[1] in PLURALS.split() and not named & {*COUNTED_OTHERWISE, "counted"}:
                yield node.lineno, ast.unparse(node)


def test_a_number_agrees_with_its_noun():
    paths = [path for path in SOURCES if not {"tests", "bench"} & {*path.relative_to(ROOT).parts}]
    found = [f"{path}:{line}: {text}" for path in paths for line, text in fixed_plurals(path.read_text())]
    assert found == [], "write counted(number, noun) of rdsiam.core.counts"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('f"{len(rows)} databases changed"', 1),
        ('f"only {n} of {total} users"', 1),
        ('f"{number} open sessions of {user}"', 1),
        ("f\"{counted(n, 'user')} of it\"", 0),
        ('f"{name} is declared"', 0),
    ],
)
def test_fixed_plurals_are_found(source, found):
    assert len(list(fixed_plurals(source))) == found
