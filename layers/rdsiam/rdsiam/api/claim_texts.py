"""Claims as API Gateway's JWT authorizer writes them: everything is text, objects and lists too.

AWS doesn't document the form. A list looks like Go's (`[a b]`), so an object should look like Go's too: `map[k:v]` with
its keys in order. JSON is understood as well. In any other form a claim isn't used.
"""

import json
from typing import Any

#: More levels than any claim that can be declared has.
_DEPTH = 32


def is_same(verified: Any, claim: Any) -> bool:
    """Tell whether `verified`, as the authorizer passed it on, is this claim. Fractions and null are never the same."""
    if not _is_comparable(claim, _DEPTH):
        return False
    if verified == _as_go(claim):
        return True
    try:
        return _canonical(json.loads(verified) if isinstance(verified, str) else verified) == _canonical(claim)
    except (ValueError, RecursionError):
        return False


def _is_comparable(claim: Any, depth: int) -> bool:
    """Tell whether a claim consists of text, booleans, whole numbers, lists and objects, and is not too deep."""
    if isinstance(claim, dict):
        return depth > 0 and all(_is_comparable(entry, depth - 1) for entry in claim.values())
    if isinstance(claim, list):
        return depth > 0 and all(_is_comparable(entry, depth - 1) for entry in claim)
    return isinstance(claim, str | bool | int)


def _canonical(value: Any) -> str:
    """Return JSON that tells 1 from true, which Python's comparison doesn't."""
    return json.dumps(value, sort_keys=True)


def _as_go(claim: Any) -> str:
    """Return a claim as Go prints it."""
    if isinstance(claim, dict):
        return f"map[{' '.join(f'{name}:{_as_go(claim[name])}' for name in sorted(claim))}]"
    if isinstance(claim, list):
        return f"[{' '.join(map(_as_go, claim))}]"
    return json.dumps(claim) if isinstance(claim, bool | int) else str(claim)
