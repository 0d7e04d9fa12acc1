"""A database that could not be read: how much that matters depends on what RDS is doing with it, and for how long."""

from dataclasses import replace

import pytest

from rdsiam.access.model import parse
from rdsiam.access.selection import select
from rdsiam.audit.assemble import AuditRun, assemble
from rdsiam.audit.evaluate_rds import unreachable
from rdsiam.audit.history import History
from rdsiam.engines.facts import Stage, Unreadable
from rdsiam.findings.finding import Finding
from tests.unit.databases import ORDERS

FILE = parse(
    "version: 1\ndatabases: [{match: {identifier: other}, users: [{name: app, privileges: readonly, on: [shop]}]}]\n"
)
AT = "2026-11-{day}T04:00:00Z"


def found(status: str, stage: Stage) -> Finding:
    """Return the finding about a database with this status."""
    return unreachable(select(replace(ORDERS, status=status), None), Unreadable(stage, "why"), FILE)


@pytest.mark.parametrize(
    ("status", "stage", "severity"),
    [
        ("available", "port", "high"),
        ("available", "login", "high"),
        ("backing-up", "port", "high"),
        ("storage-optimization", "time", "high"),
        ("stopped", "state", "low"),
        ("creating", "state", "low"),
        ("upgrading", "port", "low"),
        ("rebooting", "login", "low"),
        ("modifying", "time", "low"),
        ("configuring-enhanced-monitoring", "query", "low"),
        ("modifying", "iam", "high"),
    ],
)
def test_a_database_that_rds_is_changing_is_less_alarming_than_one_that_can_not_be_reached(status, stage, severity):
    assert found(status, stage).severity == severity


@pytest.mark.parametrize(
    ("status", "stage", "words"),
    [
        ("stopped", "state", "start-db-instance"),
        ("creating", "state", "rdsiam audit"),
        ("upgrading", "port", "rdsiam audit"),
        ("incompatible-network", "state", "describe-events"),
        ("storage-full", "state", "describe-events"),
        ("available", "port", "rdsiam doctor"),
    ],
)
def test_the_remediation_is_one_that_works_in_that_status(status, stage, words):
    (step, *_) = found(status, stage).remediation
    assert words in step.text


@pytest.mark.parametrize(("day", "severity"), [("24", "low"), ("25", "low"), ("26", "high")])
def test_a_change_that_takes_more_than_a_day_is_alarming_again(day, severity):
    assert severity_after("upgrading", "port", day) == severity


def test_a_database_that_is_stopped_for_long_stays_less_alarming():
    assert severity_after("stopped", "state", "30") == "low"


def severity_after(status: str, stage: Stage, day: str) -> str:
    """Return the severity in an audit of that day if the first one, of the 24th, had the finding too."""
    before, severity = History(), ""
    for each in ("24", day):
        run = AuditRun(each, AT.format(day=each), AT.format(day=each), "123456789012", "eu-west-1", True, "v1")
        assembled = assemble(run, before, [], [found(status, stage)], [])
        before, severity = assembled.history, assembled.report["findings"][0]["severity"]
    return severity
