"""Log lines and metrics: whole, in one form, and without anything that was not meant for them."""

import json
import logging
import os
import re
import sys

import pytest

from rdsiam.proxy import logs
from rdsiam.proxy.metrics import Metrics, Samples

LABELS = {"listener": "localhost:5432", "database": "orders", "endpoint": "writer"}
HOSTILE = 'a"b\\c\nd\x1b[2Je\u202e'


@pytest.fixture
def package():
    loggers = [logging.getLogger(name) for name in ("rdsiam.proxy", "asyncio")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield loggers[0].getChild("test")
    for logger, values in zip(loggers, before, strict=True):
        logger.handlers, logger.level, logger.propagate = values


@pytest.mark.usefixtures("package")
def test_warnings_of_asyncio_have_the_form_of_all_lines(capsys):
    logs.set_up(False)
    logging.getLogger("asyncio").info("nothing")
    logging.getLogger("asyncio").warning("socket.send() raised exception.")
    assert json.loads(capsys.readouterr().err)["message"] == "socket.send() raised exception."


@pytest.mark.parametrize("terminal", [False, True], ids=["JSON", "terminal"])
def test_a_line_is_one_line_with_the_known_fields_only(package, capsys, terminal):
    logs.set_up(terminal)
    package.warning("login failed", extra={**LABELS, "user": HOSTILE, "code": "x", "reason": "r", "token": "hunter2"})
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "hunter2" not in err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", err)
    if not terminal:
        line = json.loads(err)
        assert line.pop("time").endswith("Z")
        assert line == {
            **LABELS,
            "level": "warning",
            "message": "login failed",
            "user": HOSTILE,
            "code": "x",
            "reason": "r",
        }


def test_a_terminal_gets_short_lines_with_time_level_and_the_keys_that_matter(package, capsys):
    logs.set_up(True)
    package.warning("login failed", extra={**LABELS, "user": "app", "code": "name", "reason": "it does not resolve"})
    package.info("connection closed", extra={**LABELS, "user": "app", "seconds": 1.5, "sent": 12, "received": 34567})
    failed, closed = capsys.readouterr().err.splitlines()
    time = r"[0-2]\d:[0-5]\d:[0-5]\d"
    assert re.fullmatch(
        f"{time} warning login failed: localhost:5432 orders app: it does not resolve: code=name", failed
    )
    assert re.fullmatch(f"{time} info    connection closed: localhost:5432 orders app: seconds=1.5", closed)


def test_listeners_are_a_list_for_programs_and_a_row_for_people(package, capsys):
    for terminal, shown in (
        (False, '"listeners": ["localhost:5432", "[::1]:1"]'),
        (True, "listeners=localhost:5432,[::1]:1"),
    ):
        logs.set_up(terminal)
        package.info("listening", extra={"listeners": ["localhost:5432", "[::1]:1"]})
        assert shown in capsys.readouterr().err


def test_lines_that_nobody_reads_are_left_out_and_counted(package, monkeypatch):
    """A full pipe would stop every connection."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading) as reader:
        monkeypatch.setattr(sys, "stderr", stream)
        logs.set_up(False)
        for number in range(2000):
            package.info("line %s", number)
        os.set_blocking(reading, False)
        early = reader.read().splitlines()
        assert 100 < len(early) < 2000
        package.info("again")
        package.info("and again")
        late = [json.loads(line) for line in reader.read().splitlines()]
    assert [json.loads(line)["message"] for line in early] == [f"line {number}" for number in range(len(early))]
    assert [line["message"] for line in late] == ["the log is incomplete", "again", "and again"]
    assert late[0]["reason"] == f"{2000 - len(early):,} lines left out, as nobody read them"


def test_an_unexpected_error_is_logged_by_its_kind_and_place(package, capsys):
    """Its text may repeat bytes of a client, among them a password."""
    logs.set_up(False)
    try:
        raise ValueError("hunter2")
    except ValueError as error:
        package.error("connection failed", extra={"error": "ValueError"}, exc_info=error)
    err = capsys.readouterr().err
    line = json.loads(err)
    assert line["error"] == "ValueError"
    assert line["place"].partition(":")[0] == __file__
    assert "hunter2" not in err


def parsed(text: str) -> dict[str, float]:
    """Return the samples of a text in Prometheus's format, checked against its grammar."""
    sample = re.compile(r'([a-z_]+(?:\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*"(?:,(?!\}))?)*\})?) ([0-9.]+)')
    samples: dict[str, float] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if not line.startswith(("# HELP ", "# TYPE ")):
            found = sample.fullmatch(line)
            assert found is not None, line
            assert found[1] not in samples
            samples[found[1]] = float(found[2])
    return samples


def label(extra: str = "", labels: dict[str, str] = LABELS) -> str:
    return "{" + ",".join([f'{name}="{value}"' for name, value in labels.items()] + ([extra] if extra else [])) + "}"


def test_counters_and_present_state_are_added_up():
    metrics = Metrics()
    metrics.moved(LABELS, 10, 20)
    metrics.ended(LABELS, "ok")
    metrics.failed(LABELS, "throttled")
    key = tuple(LABELS.items())
    samples = parsed(metrics.text(Samples({key: 3}, {key: (1, 2)}, draining=True)))
    assert samples[f"rdsiam_proxy_sent_bytes_total{label()}"] == 11
    assert samples[f"rdsiam_proxy_received_bytes_total{label()}"] == 22
    assert samples[f"rdsiam_proxy_connections_open{label()}"] == 3
    assert samples["rdsiam_proxy_connections_total" + label('code="ok"')] == 1
    assert samples["rdsiam_proxy_errors_total" + label('code="throttled"')] == 1
    assert samples["rdsiam_proxy_draining"] == 1
    assert parsed(metrics.text(Samples({}, {}, draining=False)))[f"rdsiam_proxy_sent_bytes_total{label()}"] == 10


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, "0.005"), (0.005, "0.005"), (0.006, "0.01"), (99.0, "+Inf")])
def test_a_duration_is_in_its_bucket_and_all_wider_ones(seconds, bucket):
    metrics = Metrics()
    metrics.opened(LABELS, seconds)
    samples = parsed(metrics.text(Samples({}, {}, draining=False)))
    buckets = {name: value for name, value in samples.items() if "_bucket" in name}
    first = next(name for name, value in buckets.items() if value == 1)
    assert f'le="{bucket}"' in first
    assert list(buckets.values()) == sorted(buckets.values())
    assert samples[f"rdsiam_proxy_open_seconds_count{label()}"] == 1
    assert samples[f"rdsiam_proxy_open_seconds_sum{label()}"] == pytest.approx(seconds)


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", "a}b", 'a",x="b'])
def test_a_label_may_have_any_value(value):
    metrics = Metrics()
    metrics.ended({"database": value}, "ok")
    assert len(parsed(metrics.text(Samples({}, {}, draining=False)))) == 2


def test_codes_without_end_need_no_room_without_end():
    metrics = Metrics()
    for number in range(1000):
        metrics.failed(LABELS, f"code-{number}")
    samples = parsed(metrics.text(Samples({}, {}, draining=False)))
    assert samples["rdsiam_proxy_errors_total" + label('code="other"')] == 900
