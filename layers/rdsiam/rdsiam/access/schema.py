"""The JSON Schema of access.yaml, as editors show it: what pydantic makes, and nothing blank."""

from typing import Any


def without_null(schema: Any) -> Any:
    """Take `null` out of a schema: keys may be left out, but not left blank."""
    if isinstance(schema, list):
        return [without_null(item) for item in schema if item != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    result = {key: without_null(value) for key, value in schema.items() if (key, value) != ("default", None)}
    choices = result.pop("anyOf", None)
    if choices is None:
        return result
    return result | (choices[0] if len(choices) == 1 else {"anyOf": choices})
