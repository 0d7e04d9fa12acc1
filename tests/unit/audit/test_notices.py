"""Findings of what RDS reported of a database."""

import shlex
from dataclasses import replace
from typing import Any

import pytest

from rdsiam.events.service_events import NOTICES
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.notices import KIND_OF_EVENT
from tests.audited_fleet import AT, CLUSTER, POSTGRES, evaluate

RECENT, OLD = "2026-06-30T09:30:00Z", "2026-06-01T09:30:00Z"
OWN = replace(POSTGRES, instance_class="db.t4g.medium")
MANAGED = replace(OWN, master_secret_arn="arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-1-AbCdEf")


def notices(database: Any = OWN, **events: str) -> Any:
    reported = {f"RDS-EVENT-{number.removeprefix('e')}": at for number, at in events.items()}
    return evaluate(database, notices=reported)


def test_every_event_that_is_recorded_becomes_a_finding():
    assert set(KIND_OF_EVENT) == set(NOTICES)
    assert set(KIND_OF_EVENT.values()) <= set(KINDS)


@pytest.mark.parametrize("number", ["0016", "0327", "0403", "0404"])
def test_an_event_is_reported_for_two_weeks(number):
    assert AT.isoformat().startswith("2026-07-01")
    assert [one.kind for one in notices(**{f"e{number}": RECENT})] == [KIND_OF_EVENT[f"RDS-EVENT-{number}"]]
    assert notices(**{f"e{number}": OLD}) == ()


def test_of_two_events_of_one_kind_the_later_one_is_reported():
    (found,) = notices(e0403=RECENT, e0404="2026-06-30T10:00:00Z")
    assert found.evidence["event"] == "RDS-EVENT-0404"
    (found,) = notices(e0403=RECENT, e0404=OLD)
    assert found.evidence["event"] == "RDS-EVENT-0403"


@pytest.mark.parametrize(
    ("database", "severity", "option"),
    [(OWN, "medium", "--manage-master-user-password"), (MANAGED, "low", "--rotate-master-user-password")],
)
def test_a_reset_is_routine_if_rds_manages_the_password(database, severity, option):
    (found,) = notices(database, e0016=RECENT)
    assert found.severity == severity
    ways = {step.way: step.text for step in found.remediation if step.language == "cli"}
    assert option in shlex.split(ways[2])


@pytest.mark.parametrize(
    ("instance_class", "bigger"),
    [("db.t4g.medium", "db.t4g.large"), ("db.r7g.xlarge", "db.r7g.2xlarge"), ("db.r7g.16xlarge", None), (None, None)],
)
def test_the_next_class_is_advised_if_there_is_one(instance_class, bigger):
    (found,) = notices(replace(OWN, instance_class=instance_class), e0404=RECENT)
    commands = [shlex.split(step.text) for step in found.remediation if step.language == "cli"]
    # In the maintenance window, or else now.
    assert [words[words.index("--db-instance-class") + 1] for words in commands] == ([bigger, bigger] if bigger else [])
    assert ["--apply-immediately" in words for words in commands] == ([False, True] if bigger else [])
    assert any(step.language == "access" for step in found.remediation)


def test_events_of_a_cluster_are_looked_up_as_a_clusters():
    (found,) = notices(CLUSTER, e0327=RECENT)
    assert "db-cluster" in shlex.split(found.remediation[0].text)
