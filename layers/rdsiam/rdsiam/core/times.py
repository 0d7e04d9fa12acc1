"""Times as rdsiam writes and reads them: RFC 3339, UTC, whole seconds, `Z`."""

from datetime import UTC, datetime


def text(at: datetime) -> str:
    """Return a time as RFC 3339, such as `2027-01-15T08:00:00Z`.

    :param at: with a time zone.
    """
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_text() -> str:
    """Return the current time as RFC 3339."""
    return text(datetime.now(UTC))


def text_of_epoch(seconds: float) -> str:
    """Return seconds since 1970 as RFC 3339."""
    return text(datetime.fromtimestamp(seconds, UTC))


def moment(written: str) -> datetime:
    """Return the time that `text` was made from."""
    return datetime.fromisoformat(written)
