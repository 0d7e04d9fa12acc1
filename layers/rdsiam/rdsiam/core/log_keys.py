"""Keys of log lines: the database, user, execution and request that a line is about, so that a filter finds it.

An invocation has keys that all of its lines have, in every thread. Code that works on several databases names each one
for its own lines: `with log_keys.about(database=arn)`, or `extra={"user": name}` for one line. The nearer key counts.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

logger = logging.getLogger(__name__)

#: Characters of a value, which a caller may have written.
_LONGEST = 300
_invocation: dict[str, str] = {}
_about: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039  never changed


@contextmanager
def invocation(**keys: str) -> Iterator[None]:
    """Give all lines of an invocation these keys, and none of an earlier one; log why it fails."""
    _invocation.clear()
    add(**keys)
    try:
        yield
    except Exception as error:
        # Lambda's own line about it has no database, and the error of an execution is in no log.
        # A step's error has the type of the error in the step.
        kind = getattr(error, "error_type", None) or type(error).__name__
        logger.error("invocation failed: %s: %s", str(kind).rpartition(".")[2], error)
        raise


def add(**keys: str) -> None:
    """Add keys to all further lines of the invocation; an empty value is left out."""
    _invocation.update({name: value[:_LONGEST] for name, value in keys.items() if value})


def of_invocation() -> Mapping[str, str]:
    """Return the keys of the invocation."""
    return dict(_invocation)


@contextmanager
def about(**keys: str) -> Iterator[None]:
    """Add keys to the lines that this thread logs inside the context."""
    token = _about.set({**_about.get(), **keys})
    try:
        yield
    finally:
        _about.reset(token)


def add_request(request: object) -> None:
    """Add the database, the user or users, and the secret's ARN that a checked request names.

    An unchecked request has no keys: a caller may have put a secret into any of its fields.
    """
    keys = {name: getattr(request, name, None) or "" for name in ("database", "user", "secret")}
    keys["user"] = keys["user"] or ", ".join(getattr(request, "users", ()))
    add(**keys)


class AddKeys(logging.Filter):
    """Adds the keys to each record that doesn't have them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, with its keys."""
        for name, value in {**_invocation, **_about.get()}.items():
            if name not in record.__dict__:
                setattr(record, name, value)
        return True
