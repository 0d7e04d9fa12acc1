"""Composition of SQL text: names are quoted by the driver."""

import json

from psycopg import sql


def text(composed: sql.Composable) -> str:
    """Return a statement as text."""
    return composed.as_string()


def compose(template: str, **names: str) -> str:
    """Compose a statement whose braces are identifiers."""
    quoted = {key: sql.Identifier(name) for key, name in names.items()}
    return text(sql.SQL(template).format(**quoted))


def comment(words: str) -> str:
    """Return a comment that nothing in its words can end: names of databases and roles may contain new lines."""
    return "-- " + "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in words)
