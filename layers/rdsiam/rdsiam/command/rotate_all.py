"""A set of passwords rotated at once, after a leak: in which order, how far it is, and who still holds an old one."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from itertools import groupby
from typing import Any

import click

from rdsiam.command.errors import NotFound
from rdsiam.command.output import Format, show
from rdsiam.command.secrets_function import SecretsFunction
from rdsiam.errors import RdsiamError

_DIFFERENT, _INCOMPLETE = 3, 7
_WORDS = {1: "once", 2: "twice", 3: "three times"}


@dataclass(frozen=True)
class RotationRequest:
    """What is to be rotated.

    :ivar databases: ARNs; None for all.
    :ivar patterns: of identifiers, one of which has to match; none: all.
    :ivar at_once: how many databases at a time; of one database one secret at a time.
    :ivar seconds: to wait for each rotation.
    """

    reason: str
    databases: Sequence[str] | None
    patterns: Sequence[str]
    at_once: int
    seconds: float


@dataclass
class Rotated:
    """What became of one secret.

    :ivar problem: why it was not rotated; empty where it was.
    :ivar sessions: those that may have been opened by a former password; None where that was not seen.
    :ivar unseen: what the server does not say of sessions, or why they were not seen.
    """

    secret: dict[str, Any]
    turns: int
    problem: str = ""
    sessions: list[dict[str, Any]] | None = None
    unseen: str = ""
    done: int = field(default=0)


def run(
    function: SecretsFunction, request: RotationRequest, plan: bool, form: Format, tell: Callable[[str], None]
) -> int:
    """Rotate the set and show what came of it.

    :return: the exit code: 7 if one was not rotated; of secrets that are not recorded as they are, none is.
    """
    answer = function.ask({"list": True} | ({"databases": list(request.databases)} if request.databases else {}))
    chosen = [one for one in answer["secrets"] if _chosen(one, request.patterns)]
    if not chosen:
        raise NotFound("no secret of that set is rotated by rdsiam")
    # Whoever writes a secret that nobody has recorded would have rdsiam at work for themselves.
    found = sorted(
        (Rotated(one, 0, problem=one["problem"]) if one["problem"] else Rotated(one, _turns(one)) for one in chosen),
        key=_speed,
    )
    if answer["skipped"]:
        tell(f"{answer['skipped']} secrets can't be read by SecretsFunction, so they are not among these")
    if not plan:
        _rotate(function, [one for one in found if not one.problem], request, tell)
    _show(found, request, plan, form, tell)
    if plan:
        return _DIFFERENT
    return _INCOMPLETE if any(one.problem for one in found) else 0


def _chosen(secret: dict[str, Any], patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(secret["identifier"] or "", pattern) for pattern in patterns)


def _turns(secret: dict[str, Any]) -> int:
    """Return how many rotations end what was known: one more where the former password stays, or where one hangs."""
    return 1 + bool(secret["former_stays"]) + (secret["pending_since"] is not None)


def _speed(one: Rotated) -> tuple[bool, bool, int, str]:
    """Sort by what is over soonest: what hangs, or can't be reached now, holds up nobody who waits for seconds only."""
    return (not one.secret["available"], one.secret["pending_since"] is not None, one.turns, one.secret["name"])


def _rotate(
    function: SecretsFunction, found: Sequence[Rotated], request: RotationRequest, tell: Callable[[str], None]
) -> None:
    # A database of its own for what names none: nobody knows whom it would wait for.
    def place(one: Rotated) -> str:
        return str(one.secret["database"] or one.secret["secret"])

    groups = [list(group) for _, group in groupby(sorted(found, key=place), key=place)]
    groups.sort(key=lambda group: min(map(_speed, group)))
    with ThreadPoolExecutor(request.at_once) as pool:
        waiting = [pool.submit(_one_database, function, sorted(group, key=_speed), request, tell) for group in groups]
        for number, future in enumerate(as_completed(waiting), 1):
            future.result()
            tell(f"{number} of {len(groups)} databases done")


def _one_database(
    function: SecretsFunction, group: list[Rotated], request: RotationRequest, tell: Callable[[str], None]
) -> None:
    for one in group:
        name = one.secret["name"]
        told = partial(_tell_of, tell, name)
        try:
            for _ in range(one.turns):
                function.rotate(one.secret["secret"], request.reason, request.seconds, told)
                one.done += 1
        except RdsiamError as error:
            one.problem = str(error)
            tell(f"{name}: {error}")
            continue
        try:
            seen = function.ask({"sessions": one.secret["secret"]})
        except RdsiamError as error:
            one.unseen = f"its sessions were not seen: {error}"
        else:
            one.sessions, one.unseen = seen["sessions"], seen["unseen"]


def _tell_of(tell: Callable[[str], None], name: str, line: str) -> None:
    tell(f"{name}: {line}")


def _show(
    found: Sequence[Rotated], request: RotationRequest, plan: bool, form: Format, tell: Callable[[str], None]
) -> None:
    if form == "json":
        listed = [
            one.secret | {"turns": one.turns, "rotated": one.done, "problem": one.problem, "sessions": one.sessions,
                          "unseen": one.unseen}
            for one in found
        ]  # fmt: skip
        click.echo(json.dumps({"reason": request.reason, "plan": plan, "secrets": listed}, indent=2))
        return
    rows = [
        (one.secret["identifier"], one.secret["user"], one.secret["name"], _result(one, plan), _old(one))
        for one in found
    ]
    show(rows, ("database", "user", "secret", "result", "old sessions"), form)
    if plan or form == "csv":
        return
    sessions = [
        (one.secret["identifier"], each["user"], each["application"], each["address"], each["since"])
        for one in found
        for each in one.sessions or []
    ]
    if sessions:
        tell("sessions that a former password may have opened, and which it outlives:")
        show(sessions, ("database", "user", "application", "address", "since"), form)
    for unseen in sorted({one.unseen for one in found if one.unseen}):
        tell(f"not shown by servers: {unseen}" if not unseen.startswith("its sessions") else unseen)


def _result(one: Rotated, plan: bool) -> str:
    if one.turns == 0:
        return f"NOT ROTATED: {one.problem}"
    if plan:
        return f"would be rotated {_WORDS[one.turns]}"
    return f"FAILED after {one.done} of {one.turns}: {one.problem}" if one.problem else f"rotated {_WORDS[one.done]}"


def _old(one: Rotated) -> str:
    return "?" if one.sessions is None else str(len(one.sessions))
