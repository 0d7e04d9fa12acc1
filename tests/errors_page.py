"""docs/errors.md, made from the classes of errors and the codes of refusals; `make errors` writes it."""

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import rdsiam
from rdsiam.api.http import PROBLEMS
from rdsiam.command.errors import CommandError, FunctionError, exit_code_of
from rdsiam.errors import REFUSALS, RdsiamError, Refused

_HEAD = """\
# Errors

Every error has a code that scripts can rely on; messages may change. A message has the form
`subject: problem (expected, actual); what to do`. This page is made from the code by `make errors`.

| where | the code is |
|---|---|
| the `rdsiam` command | at the end of the line on stderr: `rdsiam: subject: problem; what to do [code]` |
| the HTTP API | `code` of `application/problem+json`; `hint` says what to do |
| an answer of a function | `code`, beside `reason` and `remedy` |
| a function that raises | the class: Lambda reports it as `errorType` |
"""
#: Packages whose dependency is optional.
_OPTIONAL = "rdsiam.django"


def classes() -> list[type[RdsiamError]]:
    """Return every public class of errors that is raised, sorted by code and name."""
    for module in pkgutil.walk_packages(rdsiam.__path__, "rdsiam."):
        if not module.name.startswith(_OPTIONAL) and not module.name.endswith("__main__"):
            import_module(module.name)
    return sorted(_below(RdsiamError), key=lambda kind: (kind.code, kind.__name__))


def _below(kind: type[RdsiamError]) -> Iterator[type[RdsiamError]]:
    for child in kind.__subclasses__():
        if child not in (CommandError, FunctionError) and not child.__name__.startswith("_"):
            yield child
        yield from _below(child)


def as_markdown() -> str:
    """Return the page."""
    lines = [_HEAD, "## Errors", "", "| code | exit code | class | meaning |", "|---|---|---|---|"]
    for kind in classes():
        if not issubclass(kind, Refused) or kind is Refused:
            lines.append(f"| `{kind.code}` | {exit_code_of(kind).value} | {kind.__name__} | {_meaning(kind)} |")
    lines += ["", "## Refusals", ""]
    lines += [
        "A refusal changes nothing. A function answers with the status `refused` and the code, or raises `Refused`.",
        "",
    ]
    lines += ["| code | meaning |", "|---|---|"]
    lines += [f"| `{code}` | {meaning} |" for code, meaning in sorted(REFUSALS.items())]
    lines += ["", "## The HTTP API", "", "| code | status | hint |", "|---|---|---|"]
    lines += [f"| `{code}` | {problem.status} | {problem.hint} |" for code, problem in sorted(PROBLEMS.items())]
    return "\n".join(lines) + "\n"


def _meaning(kind: type[RdsiamError]) -> str:
    """Return the first paragraph of the class's docstring."""
    paragraph = (inspect.getdoc(kind) or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")
