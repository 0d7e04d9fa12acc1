"""Settings of a cloud, as its command line says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

#: The administrator of PostgreSQL's newest version: like RDS's, who grants roles without ADMIN OPTION, or as
#: PostgreSQL itself has it.
Administrator = Literal["rds", "vanilla"]

#: Engines of a database that is created at the start.
ENGINES = ("postgres", "mariadb", "mysql", "aurora-postgresql", "aurora-mysql")


@dataclass(frozen=True)
class DatabaseRequest:
    """A database to create at the start."""

    engine: str
    identifier: str
    name: str | None = None


@dataclass(frozen=True)
class Settings:
    """Settings of a cloud.

    :ivar log: file of its log; a file in its own folder if omitted, stderr if it is `logs.STDERR`.
    """

    template: Path
    port: int = 0
    region: str = "eu-central-1"
    parameters: Mapping[str, str] = field(default_factory=dict)
    databases: tuple[DatabaseRequest, ...] = ()
    log: Path | None = None
    #: Largest number of environments of a function at a time; Lambda's own limit is in the hundreds.
    environments: int = 8
    administrator: Administrator = "rds"
