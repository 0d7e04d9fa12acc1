"""Counts with words that agree with them."""


def number(value: int) -> str:
    """Return 12345 as `12,345`."""
    return f"{value:,}"


def counted(value: int, singular: str, plural: str | None = None) -> str:
    """Return `1 user`, `2 users`.

    :param plural: if it is more than the singular with an s.
    """
    return f"{number(value)} {singular if value == 1 else plural or singular + 's'}"


def agreed(value: int, singular: str, plural: str) -> str:
    """Return the word that agrees with a number: `was` or `were`."""
    return singular if value == 1 else plural
