"""The examples in `events/`, which `sam local` and people use, are requests that their functions accept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdsiam.events.audit import audit_request
from rdsiam.events.audit_batch import batch_request
from rdsiam.events.migrate import migrate_request
from rdsiam.events.onboard import onboard_request
from rdsiam.events.policy import policy_request
from rdsiam.events.rotate import rotation_request
from rdsiam.events.secrets import secrets_request

EXAMPLES = Path(__file__).parents[3] / "events"
PARSERS: dict[str, Callable[[Any], object]] = {
    "onboard": onboard_request,
    "reconcile": onboard_request,
    "revoke": onboard_request,
    "policy": policy_request,
    "audit-batch": batch_request,
    "audit": audit_request,
    "migrate": migrate_request,
    "rotate": rotation_request,
    "secrets": secrets_request,
}
#: Sent by AWS's services, whose events have tests of their own.
OF_SERVICES = {"reconcile-schedule", "audit-schedule"}


def examples() -> list[tuple[Path, str]]:
    """Return the examples of requests that callers make themselves, and the names of their parsers."""
    found = []
    for path in sorted(EXAMPLES.glob("*.json")):
        names = [name for name in PARSERS if path.stem == name or path.stem.startswith(f"{name}-")]
        if names and path.stem not in OF_SERVICES:
            found.append((path, max(names, key=len)))
    return found


@pytest.mark.parametrize(("path", "name"), examples(), ids=lambda value: getattr(value, "stem", ""))
def test_an_example_is_a_request_of_its_function(path: Path, name: str) -> None:
    assert PARSERS[name](json.loads(path.read_text()))


def test_every_parser_has_an_example() -> None:
    assert {name for _, name in examples()} == set(PARSERS)
