"""Items of `databases` in access.yaml as text to paste, from the same values that are checked."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from rdsiam.access.model import Entry
from rdsiam.aws.rds_models import Database

#: Keys whose values are words or times that YAML reads as text without quotes, and as rdsiam means them.
_PLAIN = frozenset({"finding", "privileges", "every", "until"})


def lines_for(database: Database, item: Mapping[str, Any]) -> str | None:
    """Return an item about one database; None if it is no valid item, for example because of a name in it.

    :param item: its keys besides `match`: mappings, or lists of mappings.
    """
    match = {"identifier": database.identifier}
    if not _is_valid(json.dumps(item)):
        return None
    lines = [f"  - match: {_flow(match)}"]
    for key, value in item.items():
        if isinstance(value, Mapping):
            lines.append(f"    {key}: {_flow(value)}")
        else:
            lines += [f"    {key}:", *(f"      - {_flow(each)}" for each in value)]
    return "\n".join(lines)


@lru_cache(maxsize=4096)
def _is_valid(item: str) -> bool:
    """Tell whether an item, as JSON, is valid. A fleet's databases have many users in common."""
    try:
        Entry.model_validate({"match": {"identifier": "orders"}, **json.loads(item)})
    except ValidationError:
        return False
    return True


def _flow(values: Mapping[str, Any]) -> str:
    return f"{{{', '.join(f'{key}: {_scalar(key, value)}' for key, value in values.items())}}}"


def _scalar(key: str, value: Any) -> str:
    return str(value) if key in _PLAIN else json.dumps(value, ensure_ascii=False)
