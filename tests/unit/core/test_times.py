"""Times are RFC 3339 in UTC, whichever zone and precision they had."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from rdsiam.core import times


@given(st.datetimes(timezones=st.timezones(), min_value=datetime(1970, 1, 3), max_value=datetime(9999, 12, 29)))
def test_a_time_is_read_back_as_the_same_whole_second(at):
    written = times.text(at)
    assert written.endswith("Z")
    assert times.moment(written) == at.astimezone(UTC).replace(microsecond=0)


def test_seconds_since_1970_are_written_alike():
    assert times.text_of_epoch(1_800_000_000) == "2027-01-15T08:00:00Z"
