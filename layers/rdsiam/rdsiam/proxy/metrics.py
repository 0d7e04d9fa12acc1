"""Metrics of the proxy, in the text format that Prometheus reads."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["CONTENT_TYPE", "Metrics", "Samples"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Different values of a code; the codes of rdsiam are fewer.
_CODES = 100
_HELP = {
    "connections_total": ("counter", "Connections of clients that ended or were refused, by result: ok or a code."),
    "errors_total": ("counter", "Logins that failed, by code."),
    "open_seconds": ("histogram", "Seconds from the accepted connection to the finished login."),
    "received_bytes_total": ("counter", "Bytes from the database to clients."),
    "sent_bytes_total": ("counter", "Bytes from clients to the database."),
    "connections_open": ("gauge", "Connections that are open now."),
    "draining": ("gauge", "1 while the proxy waits for its last connections."),
}

Labels = tuple[tuple[str, str], ...]


@dataclass
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(_SECONDS) + 1))
    sum: float = 0.0


class Metrics:
    """Counters of one process; all of them are kept when the configuration changes."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[Labels, int]] = defaultdict(lambda: defaultdict(int))
        self._histograms: dict[Labels, _Histogram] = defaultdict(_Histogram)
        self._codes: set[str] = set()

    def ended(self, labels: Mapping[str, str], code: str) -> None:
        """Count a connection that has ended or was refused."""
        self._count("connections_total", {**labels, "code": self._known(code)})

    def failed(self, labels: Mapping[str, str], code: str) -> None:
        """Count a login that has failed."""
        self._count("errors_total", {**labels, "code": self._known(code)})

    def opened(self, labels: Mapping[str, str], seconds: float) -> None:
        """Count a login that has succeeded, with its duration."""
        histogram = self._histograms[tuple(labels.items())]
        histogram.counts[bisect_left(_SECONDS, seconds)] += 1
        histogram.sum += seconds

    def moved(self, labels: Mapping[str, str], sent: int, received: int) -> None:
        """Count the bytes of a connection."""
        self._count("sent_bytes_total", labels, sent)
        self._count("received_bytes_total", labels, received)

    def text(self, samples: "Samples") -> str:
        """Return all metrics.

        :param samples: the present state, which is not counted here.
        """
        lines: list[str] = []
        values: dict[str, dict[Labels, int]] = {name: dict(counts) for name, counts in self._counters.items()}
        values["connections_open"] = dict(samples.open)
        values["draining"] = {(): int(samples.draining)}
        for labels, (sent, received) in samples.bytes.items():
            for name, number in (("sent_bytes_total", sent), ("received_bytes_total", received)):
                counts = values.setdefault(name, {})
                counts[labels] = counts.get(labels, 0) + number
        for name, (kind, text) in _HELP.items():
            lines += [f"# HELP rdsiam_proxy_{name} {text}", f"# TYPE rdsiam_proxy_{name} {kind}"]
            if kind == "histogram":
                for labels, histogram in self._histograms.items():
                    lines += _histogram(f"rdsiam_proxy_{name}", labels, histogram)
            for labels, value in values.get(name, {}).items():
                lines.append(f"rdsiam_proxy_{name}{_text(labels)} {value}")
        return "\n".join(lines) + "\n"

    def _count(self, name: str, labels: Mapping[str, str], number: int = 1) -> None:
        self._counters[name][tuple(labels.items())] += number

    def _known(self, code: str) -> str:
        if len(self._codes) < _CODES:
            self._codes.add(code)
        return code if code in self._codes else "other"


@dataclass(frozen=True)
class Samples:
    """The state of the proxy at one time.

    :ivar open: open connections, by labels.
    :ivar bytes: bytes that open connections have sent and received, by labels.
    """

    open: Mapping[Labels, int]
    bytes: Mapping[Labels, tuple[int, int]]
    draining: bool


def _histogram(name: str, labels: Labels, histogram: _Histogram) -> list[str]:
    lines, total = [], 0
    for limit, count in zip((*map(str, _SECONDS), "+Inf"), histogram.counts, strict=True):
        total += count
        lines.append(f"{name}_bucket{_text((*labels, ('le', limit)))} {total}")
    return [*lines, f"{name}_sum{_text(labels)} {histogram.sum:.6f}", f"{name}_count{_text(labels)} {total}"]


def _text(labels: Labels) -> str:
    escaped = [
        '{}="{}"'.format(name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, value in labels
    ]
    return "{" + ",".join(escaped) + "}" if escaped else ""
