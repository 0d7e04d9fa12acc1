"""What a cloud is made of, as its command line says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class DatabaseRequest:
    """A database to be made at the start."""

    engine: str
    identifier: str
    name: str | None = None


@dataclass(frozen=True)
class Settings:
    """What a cloud is made of."""

    template: Path
    port: int = 0
    region: str = "eu-central-1"
    parameters: Mapping[str, str] = field(default_factory=dict)
    databases: tuple[DatabaseRequest, ...] = ()
    log: Path | None = None
    #: How many environments of a function run at a time; Lambda's own limit is in the hundreds.
    environments: int = 8
