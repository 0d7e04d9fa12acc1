"""Log lines of the proxy: JSON, or short lines for a terminal. Only the fields that are named here are written."""

import json
import logging
import select
import sys
from datetime import UTC, datetime
from typing import TextIO

from rdsiam.core.counts import counted

__all__ = ["set_up"]

_FIELDS = (
    "listener",
    "database",
    "endpoint",
    "user",
    "code",
    "reason",
    "error",
    "seconds",
    "sent",
    "received",
    "signal",
    "connections",
    "listeners",
)
#: Fields that a person at a terminal knows, or has no use for.
_FOR_PROGRAMS = {"endpoint", "sent", "received", "signal"}


def set_up(terminal: bool) -> None:
    """Write the log to stderr, with warnings of asyncio.

    :param terminal: a person reads it.
    """
    handler = _Patient(sys.stderr)
    handler.setFormatter(_Lines() if terminal else _Json())
    for name, level in (("rdsiam.proxy", logging.INFO), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


class _Patient(logging.StreamHandler[TextIO]):
    """Leaves lines out while nobody reads them, as a full pipe or a stopped terminal would stop all connections."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._left_out = 0
        self._poll = select.poll()
        self._is_file = True
        try:
            self._poll.register(stream.fileno(), select.POLLOUT)
        except (AttributeError, OSError, ValueError):
            self._is_file = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if there is room for it."""
        if not self._has_room():
            self._left_out += 1
            return
        if self._left_out:
            number, self._left_out = self._left_out, 0
            reason = f"{counted(number, 'line')} left out, as nobody read them"
            missing = logging.makeLogRecord({"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"})
            missing.msg, missing.reason = "the log is incomplete", reason
            super().emit(missing)
            if not self._has_room():
                self._left_out = 1
                return
        super().emit(record)

    def _has_room(self) -> bool:
        return not self._is_file or bool(self._poll.poll(0))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "level": record.levelname.lower(), "message": record.getMessage(), **_fields(record)}
        if record.exc_info and record.exc_info[1] is not None:
            line["place"] = _place(record.exc_info[1])
        return json.dumps(line)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = _fields(record)
        subject = " ".join(str(fields.pop(name)) for name in ("listener", "database", "user") if name in fields)
        reason = fields.pop("reason", "")
        rest = " ".join(f"{name}={_short(value)}" for name, value in fields.items() if name not in _FOR_PROGRAMS)
        begin = f"{time} {record.levelname.lower():<7} {record.getMessage()}"
        return ": ".join(_visible(part) for part in (begin, subject, str(reason), rest) if part)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    values = {name: record.__dict__.get(name) for name in _FIELDS}
    return {name: value for name, value in values.items() if value not in (None, "")}


def _short(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _place(error: BaseException) -> str:
    """Return where an error was raised: its text may contain bytes of a client."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
