"""The situation from which a run is planned or applied."""

from dataclasses import dataclass

from rdsiam.onboarding.inspection_results import Departures, Inspection
from rdsiam.onboarding.invocations import Outcome


@dataclass(frozen=True)
class Situation:
    """The situation of one database.

    :ivar departures: users whose logins are removed.
    :ivar policies: the planned policies.
    """

    inspection: Inspection
    departures: Departures
    policies: Outcome
