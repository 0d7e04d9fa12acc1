"""Extras of the wheel: packages that only some parts of rdsiam need."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rdsiam.errors import ExtraMissing

#: Extra → the top-level modules that its packages have.
MODULES: Mapping[str, frozenset[str]] = {
    "access": frozenset({"pydantic", "typing_extensions", "yaml"}),
    "mysql": frozenset({"pymysql"}),
    "postgres": frozenset({"psycopg", "psycopg_pool"}),
    "sqlalchemy": frozenset({"sqlalchemy"}),
}


@contextmanager
def needs(*extras: str) -> Iterator[None]:
    """Import modules that need these extras.

    :raises ExtraMissing: a package of theirs is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if not any(package in MODULES[extra] for extra in extras):
            raise
        raise ExtraMissing(package, extras) from None
