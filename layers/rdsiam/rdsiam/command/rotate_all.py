"""`rdsiam rotate all`: rotates a set of passwords after a leak, and shows sessions that a former password opened."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any

from rdsiam.command.errors import ExitCode, NotFound
from rdsiam.command.output import Output, progress
from rdsiam.command.secrets_function import SecretsFunction
from rdsiam.core.counts import agreed, counted
from rdsiam.errors import RdsiamError

_TIMES = {1: "once", 2: "twice", 3: "three times"}


@dataclass(frozen=True)
class Choice:
    """The passwords to rotate, and how.

    :ivar databases: names; all databases if there are none.
    :ivar patterns: an identifier must match one of them; all match if there are none.
    :ivar at_once: number of databases rotated at the same time; the secrets of one database follow each other.
    :ivar seconds: to wait for each rotation.
    """

    reason: str
    databases: tuple[str, ...]
    patterns: tuple[str, ...]
    at_once: int
    seconds: float


@dataclass
class Rotation:
    """The rotation of one secret, and its result.

    :ivar turns: number of rotations after which no former password is valid; 0 if rdsiam refuses the secret.
    :ivar problem: why the secret was not rotated; empty if it was.
    :ivar sessions: those that a former password may have opened; None if they could not be read.
    :ivar unseen: what the server doesn't tell about sessions, or why they could not be read.
    """

    secret: Mapping[str, Any]
    turns: int
    problem: str = ""
    sessions: list[dict[str, Any]] | None = None
    unseen: str = ""
    done: int = 0

    @property
    def place(self) -> str:
        """The database; a secret without a database has a place of its own."""
        return str(self.secret["database"] or self.secret["secret"])

    @property
    def order(self) -> tuple[bool, bool, int, str]:
        """Sort key: what ends soonest comes first, so that stuck and unavailable secrets delay no others."""
        secret = self.secret
        return not secret["available"], secret["pending_since"] is not None, self.turns, secret["name"]

    def to_json(self) -> dict[str, Any]:
        """Return the secret and its result for --output json."""
        return {
            **self.secret,
            "turns": self.turns,
            "rotated": self.done,
            "problem": self.problem,
            "sessions": self.sessions,
            "unseen": self.unseen,
        }


def run(function: SecretsFunction, choice: Choice, arns: Sequence[str], plan: bool, output: Output) -> ExitCode:
    """Rotate the set and show the result.

    Secrets that the inventory does not record as they are get refused: otherwise whoever writes a secret could make
    rdsiam work on it.

    :param arns: of the chosen databases; all databases if there are none.
    :return: 7 if a secret was not rotated.
    """
    answer = function.ask({"list": True} | ({"databases": list(arns)} if arns else {}))
    rotations = sorted(
        (_rotation(secret) for secret in answer["secrets"] if _matches(secret, choice.patterns)),
        key=lambda rotation: rotation.order,
    )
    if not rotations:
        raise NotFound("no secret of that set is rotated by rdsiam", "see rdsiam rotate list")
    report_skipped(answer, output.progress)
    if not plan:
        _rotate([rotation for rotation in rotations if not rotation.problem], function, choice, output)
    _show(rotations, choice, plan, output)
    if plan:
        return ExitCode.DIFFERENT
    return ExitCode.INCOMPLETE if any(rotation.problem for rotation in rotations) else ExitCode.OK


def report_skipped(answer: Mapping[str, Any], progress: Callable[[str], None]) -> None:
    """Report secrets that SecretsFunction could not read."""
    if answer["skipped"]:
        are = agreed(answer["skipped"], "is", "are")
        progress(f"{counted(answer['skipped'], 'secret')} can't be read by SecretsFunction and {are} missing here")


def _matches(secret: Mapping[str, Any], patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(secret["identifier"] or "", pattern.lower()) for pattern in patterns)


def _rotation(secret: Mapping[str, Any]) -> Rotation:
    """Plan the rotation of a secret: one more turn each if the former password stays valid, or if a turn is stuck."""
    if secret["problem"]:
        return Rotation(secret, 0, problem=secret["problem"])
    return Rotation(secret, 1 + bool(secret["former_stays"]) + (secret["pending_since"] is not None))


def _rotate(rotations: Sequence[Rotation], function: SecretsFunction, choice: Choice, output: Output) -> None:
    by_place = groupby(sorted(rotations, key=lambda rotation: rotation.place), key=lambda rotation: rotation.place)
    groups = [sorted(group, key=lambda rotation: rotation.order) for _, group in by_place]
    groups.sort(key=lambda group: group[0].order)
    with ThreadPoolExecutor(choice.at_once) as pool:
        futures = [pool.submit(_rotate_database, group, function, choice, output) for group in groups]
        try:
            for number, future in enumerate(as_completed(futures), 1):
                future.result()
                output.progress(f"{number} of {counted(len(groups), 'database')} done")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            function.stop_waiting()
            progress("interrupted: no further rotation begins; those that have begun go on: rdsiam rotate list")
            raise


def _rotate_database(group: Sequence[Rotation], function: SecretsFunction, choice: Choice, output: Output) -> None:
    for rotation in group:
        name, arn = rotation.secret["name"], rotation.secret["secret"]

        def report(line: str, name: str = name) -> None:
            output.progress(f"{name}: {line}")

        try:
            for _ in range(rotation.turns):
                function.rotate(arn, choice.reason, choice.seconds, report)
                rotation.done += 1
        except RdsiamError as error:
            rotation.problem = str(error)
            report(str(error))
            continue
        try:
            answer = function.ask({"sessions": arn})
        except RdsiamError as error:
            rotation.unseen = f"its sessions could not be read: {error}"
        else:
            rotation.sessions, rotation.unseen = answer["sessions"], answer["unseen"]


def _show(rotations: Sequence[Rotation], choice: Choice, plan: bool, output: Output) -> None:
    document = {"reason": choice.reason, "plan": plan, "secrets": [rotation.to_json() for rotation in rotations]}
    rows = [
        (
            rotation.secret["identifier"],
            rotation.secret["user"],
            rotation.secret["name"],
            _result(rotation, plan),
            "?" if rotation.sessions is None else len(rotation.sessions),
        )
        for rotation in rotations
    ]
    output.show(rows, ("database", "user", "secret", "result", "old sessions"), document)
    if plan or output.form != "table":
        return
    sessions = [
        (rotation.secret["identifier"], session["user"], session["application"], session["address"], session["since"])
        for rotation in rotations
        for session in rotation.sessions or []
    ]
    if sessions:
        output.progress("sessions that a former password may have opened, and that stay open:")
        output.show(sessions, ("database", "user", "application", "address", "since"))
    for unseen in sorted({rotation.unseen for rotation in rotations if rotation.unseen}):
        output.progress(unseen if unseen.startswith("its sessions") else f"not shown by servers: {unseen}")


def _result(rotation: Rotation, plan: bool) -> str:
    if rotation.turns == 0:
        return f"NOT ROTATED: {rotation.problem}"
    if plan:
        return f"would be rotated {_TIMES[rotation.turns]}"
    if rotation.problem:
        return f"FAILED after {rotation.done} of {rotation.turns}: {rotation.problem}"
    return f"rotated {_TIMES[rotation.done]}"
