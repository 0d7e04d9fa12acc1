"""Events of RDS, and the runs that they start."""

from pathlib import Path
from typing import Any

import pytest

from rdsiam.events.service_events import EventSources, event_request

TEMPLATE = (Path(__file__).parents[2] / "template.yaml").read_text()
ARN = "arn:aws:rds:eu-central-1:123456789012:db:orders"


def event(number: str, arn: str, kind: str, source: str) -> dict[str, Any]:
    """Return an event as RDS sends it."""
    return {
        "version": "0", "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "time": "2026-11-24T09:30:00Z",
        "detail-type": f"RDS {kind} Event", "source": "aws.rds", "account": "123456789012",
        "region": "eu-central-1", "resources": [arn],
        "detail": {
            "EventCategories": ["notification"], "SourceType": source, "SourceArn": arn, "Message": "m",
            "Date": "2026-11-24T09:30:00.292Z", "SourceIdentifier": f"rds:{arn.rpartition(':')[2]}",
            "EventID": f"RDS-EVENT-{number}", "Tags": {},
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("number", "arn", "kind", "source"),
    [
        pytest.param("0057", ARN, "DB Instance", "DB_INSTANCE", id="a replica was promoted"),
        pytest.param(
            "0251",
            ARN.replace(":db:orders", ":deployment:bgd-1a2b"),
            "Blue Green Deployment",
            "BLUE_GREEN_DEPLOYMENT",
            id="switched over",
        ),
    ],
)
@pytest.mark.known_fault(
    "case 23", "after a switchover or a promotion nothing is done until the next hour (issue 14 D)"
)
def test_a_database_that_becomes_another_one_is_onboarded_at_once(number, arn, kind, source):
    assert f"RDS-EVENT-{number}" in TEMPLATE
    assert f"RDS {kind} Event" in TEMPLATE
    rule = "arn:aws:events:eu-central-1:123456789012:rule/rdsiam"
    sources = EventSources("access", f"{rule}-reconcile", f"{rule}-audit")
    assert event_request(event(number, arn, kind, source), sources).function == "onboard"
