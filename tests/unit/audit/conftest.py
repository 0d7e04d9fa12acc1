"""A fleet for audits."""

import pytest

from rdsiam.audit import steps
from tests.unit.audit.world import World
from tests.unit.databases import database


@pytest.fixture
def world(monkeypatch) -> World:
    monkeypatch.setattr(steps, "BATCH", 20)
    return World(monkeypatch, [database(f"db-{number:03}") for number in range(45)])
