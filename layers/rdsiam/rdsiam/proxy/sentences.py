"""Sentences for clients and logs: one line, of bounded length, without control characters and without tokens."""

import re

from rdsiam.doctor.known_errors import explain
from rdsiam.proxy.contracts import UpstreamFailed
from rdsiam.report.formatting import visible

__all__ = ["explained", "failed", "one_line", "sentence"]

#: Characters of a message: a client shows it in one line, and MySQL's protocol has room for 512 bytes.
LONGEST = 400
#: Characters of a server's message that are searched for known errors.
_SEARCHED = 1000
_TOKEN = re.compile(r"\S*X-Amz-(?:Signature|Credential|Security-Token|Algorithm)\S*", re.IGNORECASE)
#: Words that stand for a database in the remedies of known errors.
_PLACEHOLDER = re.compile(r"\bDATABASE\b")


def one_line(text: str, longest: int = LONGEST) -> str:
    """Return a text as one line of at most `longest` characters; hidden characters become visible, tokens go."""
    line = visible(_TOKEN.sub("(token)", " ".join(text[: 4 * longest].split())))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def failed(problem: str, remedy: str, code: str) -> UpstreamFailed:
    """Return the error with problem and remedy as one sentence."""
    return UpstreamFailed(sentence(problem, remedy), code)


def sentence(problem: str, remedy: str) -> str:
    """Return problem and remedy as one line. A long problem is cut, such as a denial of AWS; its remedy stays whole."""
    if not remedy:
        return one_line(problem)
    remedy = one_line(remedy, LONGEST // 2)
    return f"{one_line(problem, LONGEST - len(remedy) - 2)}; {remedy}"


def explained(message: str, database: str) -> str:
    """Return a server's message with its likely cause and the first remedy, if the message is known.

    :param database: stands in the remedy's commands.
    """
    line = one_line(message)
    known = explain(line[:_SEARCHED])
    if not known:
        return line
    remedy = _PLACEHOLDER.sub(lambda _: database, known[0].fixes[0])
    return f"{one_line(message, LONGEST // 2)} (rdsiam: {one_line(f'{known[0].cause}; {remedy}', LONGEST)})"
