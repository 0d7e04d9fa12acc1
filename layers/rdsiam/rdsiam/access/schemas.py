"""Schemas of PostgreSQL databases in access.yaml: `schemas` of an item of `on`, and `exclude_schemas` of an entry."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag

from rdsiam.access import fields
from rdsiam.access.document import Path
from rdsiam.access.users import Grant
from rdsiam.aws.rds_models import Family

#: MySQL and MariaDB have no schemas within a database.
_NAMED_ELSEWHERE = "is for PostgreSQL only: on MySQL and MariaDB a schema is a database, and is named in `on`"


class SchemasOf(BaseModel):
    """An item of `on`: schemas of one PostgreSQL database, on which the user itself gets the privileges."""

    model_config = fields.STRICT

    database: fields.OneDatabase
    schemas: fields.SchemaNames


def _kind(item: Any) -> str:
    return "[schemas]" if isinstance(item, dict | SchemasOf) else "[name]"


#: Tags in brackets are no keys of the file, so no path of a problem has them.
_Item = Annotated[
    Annotated[fields.DatabaseName, Tag("[name]")] | Annotated[SchemasOf, Tag("[schemas]")], Discriminator(_kind)
]
DatabaseNames = Annotated[
    list[_Item],
    Field(min_length=1),
    BeforeValidator(fields.listed, json_schema_input_type=str | list[str | SchemasOf]),
]


def names(on: Iterable[str | SchemasOf]) -> list[str]:
    """Return the databases of `on`."""
    return [item if isinstance(item, str) else item.database for item in on]


def grants(on: Iterable[str | SchemasOf], privileges: str | tuple[str, ...]) -> Iterable[Grant]:
    """Yield the grant of each item of `on`."""
    for item in on:
        if isinstance(item, str):
            yield Grant(item, privileges)
        else:
            yield Grant(item.database, privileges, tuple(sorted(set(item.schemas))))


def problems_with_owner(on: Iterable[str | SchemasOf], privileges: str | tuple[str, ...] | None) -> str:
    """Return why the level `owner` can't be limited to schemas; empty if it isn't."""
    if privileges != "owner" or not any(isinstance(item, SchemasOf) for item in on):
        return ""
    return (
        "owner can't be limited to schemas, since owners act as one group of the database: name the database "
        "alone, or declare readwrite"
    )


def problems_on(family: Family, on: Iterable[str | SchemasOf]) -> Iterable[tuple[Path, str]]:
    """Yield each item of `on` that names schemas on a family of engines that has none within a database."""
    for index, item in enumerate(on):
        if family != "postgres" and isinstance(item, SchemasOf):
            yield ("on", index, "schemas"), _NAMED_ELSEWHERE


def problems_with_exclusion(families: Iterable[Family], excluded: Iterable[str]) -> Iterable[tuple[Path, str]]:
    """Yield the problem with `exclude_schemas` of an entry that is about a family without schemas in a database."""
    if any(excluded) and "mysql" in families:
        yield ("exclude_schemas",), f"{_NAMED_ELSEWHERE}; limit the entry with match.engine"
